"""What a person sees of one segment: the image, and the segment on it."""

import numpy as np

from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.rendering import RGB, enlarge, overlay, png

__all__ = ["draw_segment", "where"]

_GAP = 8  # white pixels between the two
_THIRD = 1 / 3


def draw_segment(explained: ExplainedImage, segment: int, *, min_size: int = 448) -> bytes:
    """A PNG: left the original, right the same with the segment's border, and dots on its evidence."""
    original = enlarge(explained.image, min_size=min_size)
    marked = overlay(explained, [segment], min_size=min_size)
    gap: RGB = np.full((len(original), _GAP, 3), 255, np.uint8)
    return png(np.concatenate([original, gap, marked], axis=1))


def where(explained: ExplainedImage, segment: int) -> str:
    """Where the middle of its evidence lies, e.g. "top left"; for somebody who has no picture at hand."""
    weight = np.where(explained.segments == segment, np.maximum(explained.attribution, 0), 0.0)
    if not weight.any():
        weight = (explained.segments == segment).astype(float)
    rows, columns = np.indices(weight.shape)
    height, width = weight.shape
    y = float((weight * rows).sum() / weight.sum()) / height
    x = float((weight * columns).sum() / weight.sum()) / width
    upright = "top" if y < _THIRD else "bottom" if y > 1 - _THIRD else ""
    sideways = "left" if x < _THIRD else "right" if x > 1 - _THIRD else ""
    return " ".join(filter(None, (upright, sideways))) or "middle"
