"""Images inside the page: data URIs with alternative texts."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from lvlm_va.critique.rendering import png
from lvlm_va.io.data_uri import data_uri

__all__ = ["Figure", "figure", "outline"]

RGB = NDArray[np.uint8]

_LARGE = 40_000  # bytes from which a photograph is kept as JPEG
_QUALITY = 85


@dataclass(frozen=True)
class Figure:
    """One image of the page.

    Attributes:
        uri: the file as a data URI.
        alt: what it shows, for those who cannot see it.
        width, height: pixels.
    """

    uri: str
    alt: str
    width: int
    height: int


def figure(pixels: RGB, alt: str) -> Figure:
    """(H, W, 3) uint8 as a figure: PNG, or JPEG where a PNG would be large and a JPEG half of it."""
    content, kind = png(pixels), "png"
    if len(content) > _LARGE:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="JPEG", quality=_QUALITY)
        if 2 * buffer.tell() < len(content):
            content, kind = buffer.getvalue(), "jpeg"
    uri = data_uri(content, kind)
    return Figure(uri, alt, width=pixels.shape[1], height=pixels.shape[0])


def outline(
    pixels: RGB, mask: NDArray[np.bool_], *, width: int = 2, colour: tuple[int, int, int] = (0, 0, 0)
) -> RGB:
    """`pixels` with a line around what `mask` covers, black where no colour is given.

    Args:
        pixels: (H', W', 3) uint8, an enlarged image.
        mask: (H, W) bool, in the size before it was enlarged.
        width: of the line, in drawn pixels.
        colour: of the line, RGB.
    """
    size = pixels.shape[1], pixels.shape[0]
    region = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    drawn = pixels.copy()
    drawn[ndimage.maximum_filter(region, 2 * width + 1) & ~region] = colour
    return drawn
