"""Coloured patches on a photograph: bandages, plasters, stickers that lie partly outside the frame.

A patch has a colour of its own: against the ground its hue differs, and not merely by being darker and
browner, as pigment is. It is large, its outline is smooth and bulges outwards, and it reaches the frame.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

__all__ = ["coloured_patches"]

Mask = NDArray[np.bool_]

_FOREIGN = 18.0  # distance from the ground in the a, b plane of CIELAB
_PIGMENT = 8.0  # a brown hue that is so much darker than the ground (L) may be pigment
_BROWN = (-0.35, 1.6)  # radians, atan2(b, a): from purplish red over brown to yellow
_VIVID = 55.0  # chroma that pigment does not reach
_BLACK = 22.0  # L below which a colour is not to be told
_LARGEST, _SMALLEST = 0.45, 0.002  # shares of the image
_CONTACT = 0.1  # share of its outline that lies on the frame, at least
_CONVEX = 0.85  # share of its convex hull that it fills, at least
_EIGHT = np.ones((3, 3), dtype=np.bool_)


def coloured_patches(lab: NDArray[np.float64], ground: NDArray[np.float64]) -> list[Mask]:
    """Patches in an image, (H, W, 3) smoothed CIELAB, on a ground of colour (3,); largest first."""
    light, a, b = np.moveaxis(lab, -1, 0)
    hue, chroma = np.arctan2(b, a), np.hypot(a, b)
    apart = np.hypot(a - ground[1], b - ground[2]) > _FOREIGN
    brown = (hue > _BROWN[0]) & (hue < _BROWN[1]) & (light < ground[0] - _PIGMENT) & (chroma < _VIVID)
    foreign = ndimage.binary_opening(apart & ~brown & (light > _BLACK), structure=_EIGHT)
    pieces, _ = ndimage.label(foreign, structure=_EIGHT)
    found = []
    for n, box in enumerate(ndimage.find_objects(pieces), start=1):
        piece = np.zeros(foreign.shape, dtype=np.bool_)
        piece[box] = ndimage.binary_fill_holes(pieces[box] == n)
        if _SMALLEST <= piece.mean() <= _LARGEST and _is_patch(piece):
            found.append(piece)
    return sorted(found, key=lambda piece: -int(piece.sum()))


def _is_patch(piece: Mask) -> bool:
    inner = ndimage.binary_erosion(piece, structure=_EIGHT)
    outline = int((piece & ~inner).sum())
    frame = int(piece[0].sum() + piece[-1].sum() + piece[:, 0].sum() + piece[:, -1].sum())
    # The corners of its pixels, so that a single row has an area.
    corners = np.argwhere(
        ndimage.binary_dilation(np.pad(piece, (0, 1)), structure=np.ones((2, 2)), origin=-1)
    )
    try:
        hull = float(ConvexHull(corners).volume)
    except QhullError:
        return False
    return frame >= _CONTACT * outline and int(piece.sum()) >= _CONVEX * hull
