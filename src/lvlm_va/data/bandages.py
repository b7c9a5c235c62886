"""Coloured bandages, cut from one skin image and pasted onto another."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lvlm_va.errors import DataError

__all__ = ["TRANSFORMS", "Pasted", "paste_bandage"]

TRANSFORMS: dict[str, Callable[[NDArray[np.generic]], NDArray[np.generic]]] = {
    "id": lambda a: a,
    "fh": lambda a: a[:, ::-1],
    "fv": lambda a: a[::-1],
    "r180": lambda a: a[::-1, ::-1],
    "r90": np.rot90,
    "r270": lambda a: np.rot90(a, 3),
}
"""How a donor is turned before its bandage is cut out: not at all, mirrored, upside down, rotated."""

_FEATHER = 1.0  # standard deviation of the seam, pixels at 224 × 224


class Pasted(NamedTuple):
    """An image with a bandage.

    Attributes:
        pixels: (H, W, 3) uint8.
        mask: (H, W) bool, the bandage.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def paste_bandage(
    base: NDArray[np.uint8], donor: NDArray[np.uint8], mask: NDArray[np.bool_], transform: str
) -> Pasted:
    """Paste a donor's bandage at the place where it lies in the (turned) donor, with a soft seam.

    Args:
        base: (S, S, 3) uint8, without a bandage; not changed.
        donor: (S, S, 3) uint8, with a bandage.
        mask: (S, S) bool, the donor's bandage.
        transform: one of `TRANSFORMS`.

    Raises:
        DataError: if there is no such transform, or the shapes do not fit.
    """
    if transform not in TRANSFORMS:
        raise DataError(f"a bandage turned by {transform!r}: known are {', '.join(TRANSFORMS)}")
    if not base.shape == donor.shape == (*mask.shape, 3):
        raise DataError(
            f"an image of {base.shape}, a donor of {donor.shape} and a mask of {mask.shape}: "
            "they must be of the same size"
        )
    turn = TRANSFORMS[transform]
    cut, there = turn(donor), turn(mask)
    soft = ndimage.gaussian_filter(there.astype(np.float32), _FEATHER)
    # At least half of the bandage up to its edge, and only a shade of it beyond.
    soft = np.where(there, np.maximum(soft, 0.5), 0.6 * soft)[..., None]
    mixed = base * (1 - soft) + cut * soft
    return Pasted(mixed.round().clip(0, 255).astype(np.uint8), np.ascontiguousarray(there, dtype=np.bool_))
