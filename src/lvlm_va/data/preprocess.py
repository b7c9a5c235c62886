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

__all__ = ["Channels", "Preprocess", "Resize"]

Resize = Literal["crop", "pad", "stretch"]
"""How an image becomes a square: the middle of it, black bars beside it, or other proportions."""
Channels = Literal["grey", "rgb"]

_FILTER = Image.Resampling.BILINEAR  # Pillow widens it when shrinking: antialiased, and never out of range
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R 601-2, as Pillow converts


@dataclass(frozen=True)
class Preprocess:
    """From an image of any size to a square of bytes.

    An image that is a square of `size` already keeps its pixels, whatever the `resize`.

    Attributes:
        size: pixels of the square's side.
        resize: "crop" (the shorter side fits, the middle is kept), "pad" (the longer side fits, the rest is
            black) or "stretch".
        channels: "grey" or "rgb".

    Raises:
        ConfigError: if one of them cannot be.
    """

    size: int
    resize: Resize
    channels: Channels

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"size = {self.size}: an image has at least one pixel")
        for name, value, known in (
            ("resize", self.resize, get_args(Resize)),
            ("channels", self.channels, get_args(Channels)),
        ):
            if value not in known:
                raise ConfigError(f"unknown {name} {value!r}; {did_you_mean(value, known)}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, size, size) of the result."""
        return 1 if self.channels == "grey" else 3, self.size, self.size

    def __call__(self, pixels: Pixels) -> NDArray[np.uint8]:
        """(H, W) or (H, W, 3), uint8 in 0..255 or float32 in [0, 1], to (C, size, size) uint8.

        Deeper images are resized before they are rounded to bytes.
        """
        planes = [self._square(plane) for plane in self._planes(pixels)]
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

    def _square(self, plane: Pixels) -> NDArray[np.uint8]:
        """(H, W) to (size, size) uint8."""
        height, width = plane.shape
        image = Image.fromarray(np.ascontiguousarray(plane))  # mode L, or F for float32
        side = self.size
        if self.resize == "crop":
            shorter = min(height, width)
            left, top = (width - shorter) / 2, (height - shorter) / 2
            box = (left, top, left + shorter, top + shorter)
            return _as_bytes(image.resize((side, side), _FILTER, box=box))
        if self.resize == "stretch":
            return _as_bytes(image.resize((side, side), _FILTER))
        scale = side / max(height, width)
        inner = max(1, round(width * scale)), max(1, round(height * scale))
        square = np.zeros((side, side), dtype=np.uint8)
        left, top = (side - inner[0]) // 2, (side - inner[1]) // 2
        square[top : top + inner[1], left : left + inner[0]] = _as_bytes(image.resize(inner, _FILTER))
        return square


def _as_bytes(image: Image.Image) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    if pixels.dtype == np.uint8:
        return pixels
    return np.clip(np.round(pixels * 255), 0, 255).astype(np.uint8)
