"""Lead markers: the letter L or R that a radiographer lays beside the joint, drawn into a radiograph."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from lvlm_va.errors import DataError

__all__ = ["CORNERS", "Marked", "draw_marker"]

CORNERS = ("tl", "tr", "bl", "br")
"""Top left, top right, bottom left, bottom right."""

_HEIGHT = (0.10, 0.13)  # of the letter, as a share of the image: 13 to 17 mm on a knee 130 mm wide
_MARGIN = (0.02, 0.06)  # to both sides of its corner, as a share of the image
_TILT = 8.0  # degrees to either side: markers are taped on by hand
_LIGHT = (0.94, 1.0)  # of the full range: lead stops nearly all X-rays
_BLUR = 0.003  # standard deviation, as a share of the image
_GRAIN = 0.02  # standard deviation, as a share of the full range
_OVERSAMPLING = 4


class Marked(NamedTuple):
    """A radiograph with a marker.

    Attributes:
        pixels: (H, W) uint8.
        mask: (H, W) bool, True where the marker changed a pixel visibly, and its rim of one pixel.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def draw_marker(pixels: NDArray[np.uint8], letter: str, corner: str, random: np.random.Generator) -> Marked:
    """Draw a lead marker: a bright, slightly tilted, blurred and grainy letter in a corner.

    Args:
        pixels: (H, W) uint8 radiograph; not changed.
        letter: "L" or "R".
        corner: one of `CORNERS`.
        random: decides size, place, tilt, brightness and grain.

    Raises:
        DataError: if letter or corner is another.
    """
    if letter not in ("L", "R") or corner not in CORNERS:
        raise DataError(f"a marker {letter!r} in corner {corner!r}: choose L or R and one of {CORNERS}")
    height, width = pixels.shape
    side = min(height, width)
    opacity = _letter(letter, random.uniform(*_HEIGHT) * side, random.uniform(-_TILT, _TILT))
    h, w = opacity.shape
    above, beside = (round(random.uniform(*_MARGIN) * side) for _ in range(2))
    top = above if corner[0] == "t" else height - above - h
    left = beside if corner[1] == "l" else width - beside - w
    layer = np.zeros((height, width), np.float32)
    layer[top : top + h, left : left + w] = opacity
    layer = ndimage.gaussian_filter(layer, _BLUR * side)
    lead = 255 * (random.uniform(*_LIGHT) + _GRAIN * random.standard_normal(pixels.shape))
    # Lead is never darker than what lies under it.
    bright = np.maximum(lead, pixels)
    marked = pixels + layer * (bright - pixels)
    visible = ndimage.binary_dilation(layer > 0.1, structure=np.ones((3, 3)))
    return Marked(marked.round().clip(0, 255).astype(np.uint8), visible)


def _letter(letter: str, height: float, tilt: float) -> NDArray[np.float32]:
    """(h, w) opacities in [0, 1] of a bold capital that is `height` pixels tall before it is tilted."""
    # A capital is about 0.7 of its font's size; drawn large and reduced, its edges are smooth.
    font = ImageFont.load_default(size=height / 0.7 * _OVERSAMPLING)
    room = math.ceil(2 * height) * _OVERSAMPLING
    canvas = Image.new("L", (room, room))
    thick = max(1, round(0.045 * height * _OVERSAMPLING))
    ImageDraw.Draw(canvas).text(
        (room / 2, room / 2), letter, fill=255, font=font, anchor="mm", stroke_width=thick
    )
    canvas = canvas.rotate(tilt, Image.Resampling.BICUBIC)
    canvas = canvas.resize((room // _OVERSAMPLING, room // _OVERSAMPLING), Image.Resampling.BOX)
    return np.asarray(canvas.crop(canvas.getbbox()), dtype=np.float32) / np.float32(255)
