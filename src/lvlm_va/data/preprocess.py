"""The one preprocessing, stated in the project file and applied when an image is read.

The image in [0, 1] that comes out is what the model is given, what is explained, and what the critic is
shown: rendering it is the identity, and nothing has to be inverted. Normalisation by mean and standard
deviation belongs inside the model.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lvlm_va.data.reading import Pixels
from lvlm_va.errors import ConfigError
from lvlm_va.io.hints import did_you_mean

__all__ = ["Channels", "Preprocess", "Resize", "Size", "sides_of"]

Resize = Literal["crop", "pad", "stretch"]
"""How an image comes to the size: the middle of it, black bars beside it, or other proportions."""
Size = int | tuple[int, int]
"""The side of a square, or (height, width), pixels."""
Channels = Literal["grey", "rgb"]

_FILTER = Image.Resampling.BILINEAR  # Pillow widens it when shrinking: antialiased, and never out of range
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R 601-2, as Pillow converts


def sides_of(size: Size) -> tuple[int, int]:
    """(H, W) of a size: the side of a square, or height and width."""
    return (size, size) if isinstance(size, int) else size


@dataclass(frozen=True)
class Preprocess:
    """From an image of any size to bytes of one size.

    An image that is of that size already keeps its pixels, whatever the `resize`.

    Attributes:
        size: the side of a square, or (height, width), pixels.
        resize: "crop" (one side fits, of the other the middle is kept), "pad" (one side fits, the rest is
            black) or "stretch".
        channels: "grey" or "rgb".

    Raises:
        ConfigError: if one of them cannot be.
    """

    size: Size
    resize: Resize
    channels: Channels

    def __post_init__(self) -> None:
        if min(self.sides) < 1:
            raise ConfigError(f"size = {self.size}: an image has at least one pixel")
        for name, value, known in (
            ("resize", self.resize, get_args(Resize)),
            ("channels", self.channels, get_args(Channels)),
        ):
            if value not in known:
                raise ConfigError(f"unknown {name} {value!r}; {did_you_mean(value, known)}")

    @property
    def sides(self) -> tuple[int, int]:
        """(H, W) of the result."""
        return sides_of(self.size)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the result."""
        return 1 if self.channels == "grey" else 3, *self.sides

    def __call__(self, pixels: Pixels) -> NDArray[np.uint8]:
        """(H, W) or (H, W, 3), uint8 in 0..255 or float32 in [0, 1], to (C, H, W) uint8.

        Deeper images are resized before they are rounded to bytes.
        """
        planes = [self._sized(plane) for plane in self._planes(pixels)]
        return np.stack(planes)

    def _planes(self, pixels: Pixels) -> list[Pixels]:
        """C arrays (H, W)."""
        if pixels.ndim == 2:
            return [pixels] * self.shape[0]
        if self.channels == "rgb":
            return [pixels[:, :, c] for c in range(3)]
        if pixels.dtype == np.uint8:
            return [np.asarray(Image.fromarray(pixels).convert("L"))]
        grey: NDArray[np.float32] = (pixels @ _LUMA).astype(np.float32)
        return [grey]

    def _sized(self, plane: Pixels) -> NDArray[np.uint8]:
        """(h, w) to (H, W) uint8."""
        (h, w), (H, W) = plane.shape, self.sides
        image = Image.fromarray(np.ascontiguousarray(plane))  # mode L, or F for float32
        wide = w * H >= h * W
        if self.resize == "crop":
            width, height = (h * W / H, h) if wide else (w, w * H / W)
            left, top = (w - width) / 2, (h - height) / 2
            return _as_bytes(image.resize((W, H), _FILTER, box=(left, top, left + width, top + height)))
        if self.resize == "stretch":
            return _as_bytes(image.resize((W, H), _FILTER))
        scale = W / w if wide else H / h
        inner = max(1, round(w * scale)), max(1, round(h * scale))
        padded = np.zeros((H, W), dtype=np.uint8)
        left, top = (W - inner[0]) // 2, (H - inner[1]) // 2
        padded[top : top + inner[1], left : left + inner[0]] = _as_bytes(image.resize(inner, _FILTER))
        return padded


def _as_bytes(image: Image.Image) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    if pixels.dtype == np.uint8:
        return pixels
    return np.clip(np.round(pixels * 255), 0, 255).astype(np.uint8)
