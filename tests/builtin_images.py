"""Images with known contents, drawn for the tests of the built-in critic."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lvlm_va.critique.question import ExplainedImage

CORNERS = ((0, 0), (0, 24), (24, 0), (24, 24))


@dataclass(frozen=True)
class Decoy:
    """A drawn figure on black with a 4×4 patch: (28, 28, 3) uint8 and two (28, 28) bool masks."""

    image: NDArray[np.uint8]
    ink: NDArray[np.bool_]
    patch: NDArray[np.bool_]

    def explained(self, image_id: str = "drawn", **changes: object) -> ExplainedImage:
        """Segment 1 around the figure, 2 around the patch, 3 the rest: (almost) nothing but background."""
        rows, _ = np.indices(self.patch.shape)
        segments = np.where(_grown(self.patch), 2, np.where(_grown(self.ink), 1, 3)).astype(np.int16)
        attribution = (self.image[..., 0] / 255 + 0.01 * (rows % 3)).astype(np.float32)
        fields: dict[str, object] = {
            "image_id": image_id,
            "image": self.image,
            "segments": segments,
            "attribution": attribution,
            "shares": tuple(float(attribution[segments == j].sum() / attribution.sum()) for j in (1, 2, 3)),
            "class_name": "figure",
            "predicted": "figure",
        }
        return ExplainedImage(**(fields | changes))  # type: ignore[arg-type]


def decoys(n: int, seed: int = 0) -> list[Decoy]:
    """Bent, closed and straight pen strokes with a patch of one of ten shades in one of four corners."""
    rng = np.random.default_rng(seed)
    return [_decoy(rng, kind=i % 4, shade=255 - 25 * int(rng.integers(10))) for i in range(n)]


def _decoy(rng: np.random.Generator, kind: int, shade: int) -> Decoy:
    large = Image.new("L", (280, 280))
    draw = ImageDraw.Draw(large)
    width = int(rng.integers(18, 38))
    left, top = (int(v) for v in rng.integers(70, 100, 2))
    box = (left, top, left + int(rng.integers(80, 120)), top + int(rng.integers(90, 120)))
    if kind == 0:
        draw.ellipse(box, outline=255, width=width)
    elif kind == 1:
        draw.arc(box, 200, 500, fill=255, width=width)
    elif kind == 2:
        draw.line([(left, top), (box[2], top), (left + 30, box[3])], fill=255, width=width, joint="curve")
    else:
        draw.line([(left + 50, top), (left + int(rng.integers(20, 60)), box[3])], fill=255, width=width)
    ink = np.asarray(large.resize((28, 28), Image.Resampling.BOX)).copy()
    row, column = CORNERS[int(rng.integers(4))]
    patch = np.zeros((28, 28), dtype=np.bool_)
    patch[row : row + 4, column : column + 4] = True
    grey = np.where(patch, shade, ink).astype(np.uint8)
    return Decoy(np.repeat(grey[..., None], 3, axis=2), (ink > 10) & ~patch, patch)


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask, 1)
    return np.logical_or.reduce([np.roll(padded, s, axis=a) for a in (0, 1) for s in (-1, 0, 1)])[1:-1, 1:-1]
