"""Image files and mask files as rows that are read when asked for."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lvlm_va.config.names import MAX_PIXELS
from lvlm_va.data.reading import Pixels, read_image

__all__ = ["image_reader", "mask_reader", "stamps"]


def stamps(paths: Sequence[Path], *reading: object) -> list[object]:
    """Per file, what changes when its pixels do: path, length, time of change, and the way of `reading`."""
    found: list[object] = []
    for path in paths:
        try:
            status = path.stat()
            found.append([str(path.resolve()), status.st_size, status.st_mtime_ns, *reading])
        except (OSError, ValueError):  # ValueError: a zero byte in the name
            found.append([str(path), None, None, *reading])
    return found


def image_reader(
    paths: Sequence[Path],
    bits: int,
    max_pixels: int = MAX_PIXELS,
    *,
    frame: int | None = None,
    side: int | None = None,
) -> Callable[[int], Pixels]:
    """Row → pixels of that file, see `read_image`."""
    return lambda row: read_image(paths[row], bits=bits, max_pixels=max_pixels, frame=frame, side=side)


def mask_reader(paths: Sequence[Path], max_pixels: int = MAX_PIXELS) -> Callable[[int], Pixels]:
    """Row → (H, W) uint8: 255 where the file is brighter than half of its brightest, else 0.

    Files with 0 and 1, with 0 and 255, and with JPEG's noise around them mean the same.
    """

    def read(row: int) -> Pixels:
        levels = read_image(paths[row], max_pixels=max_pixels)
        if levels.ndim == 3:
            levels = levels.max(axis=2)
        brightest = float(levels.max())
        return np.where((levels > brightest / 2) & (brightest > 0), 255, 0).astype(np.uint8)

    return read
