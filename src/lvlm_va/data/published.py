"""What the loaders of published data sets share: committed lists, reading, reducing."""

import csv
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lvlm_va.data.opening import regular_file
from lvlm_va.data.reading import FORMATS
from lvlm_va.errors import DataError

__all__ = ["committed_list", "read_image", "reduced", "reduced_mask"]


def committed_list(name: str) -> list[dict[str, str]]:
    """The rows of lists/`name`.csv."""
    with (files("lvlm_va.data") / "lists" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_image(path: Path, mode: str) -> Image.Image:
    """An image file in a mode of Pillow ("L", "RGB").

    Raises:
        DataError: if it cannot be read.
    """
    try:
        with regular_file(path) as file, Image.open(file, formats=list(FORMATS)) as image:
            return image.convert(mode)
    except (OSError, UnidentifiedImageError, DataError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable image ({error}); get it again") from None


def reduced(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(S, S) or (S, S, 3) uint8 at `size` × `size` pixels, antialiased; as it is where that is its size."""
    if pixels.shape[:2] == (size, size):
        return pixels
    return np.array(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3))


def reduced_mask(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """(S, S) bool at `size` × `size` pixels: True where at least half is."""
    return reduced((255 * mask).astype(np.uint8), size) >= 128
