"""What is in the image: a ground, and the things that stand out from it.

Two kinds of image are told apart. Where one colour fills a good part of the image (a drawing, a
digit, a logo) every connected region that differs from it is a thing. Elsewhere (a photograph, a
radiograph) the ground is the most common colour, lighting allowed for, and things are regions whose
colour stands out from it. In both, a flat rectangular block and a piece of writing are things of their
own, whatever they touch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lvlm_va.vision.colours import lab
from lvlm_va.vision.letters import Writing
from lvlm_va.vision.patches import coloured_patches

__all__ = ["Region", "Scene", "see"]

Mask = NDArray[np.bool_]

_FLAT_GROUND = 0.3  # share of the image that one colour must fill
_FLAT_STEP = 1  # 8-bit levels within which most pixels of a flat ground lie
_COLOUR_STEP = 10  # 8-bit levels by which a pixel must differ from a flat ground
_PLATEAU_STEP = 2  # 8-bit levels within which neighbouring pixels are one flat block
_STANDS_OUT = 16.0  # CIELAB distance from the ground of a photograph
_FAINT = (8.0, 5.0)  # the same, where otherwise nothing stands out in the middle
_CENTRED = 0.7  # how much less a pixel in the middle speaks for the ground than one at the frame
_SUBJECT = 0.008  # share of the image that a subject in the middle fills, at least
_TINTED = 5.0  # chroma from which a ground is no grey: a grey image's faint shades are its texture
_SEAM = 0.025  # width of the seam around a patch, as a share of the image's shorter side
_BLACK = 12  # CIELAB lightness of what is black
_NEAR = 0.12  # fragments closer than this share of the image's side belong to the main object
_SPECK = 0.003  # share of the image below which what stands out is noise
_EIGHT = np.ones((3, 3), dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class Region:
    """One thing, or the ground.

    Attributes:
        mask: (H, W) bool, not empty.
        role: "ground", "object" (the dominant thing), "block" (flat and rectangular), "writing", "marker"
            (a lead marker whose letter cannot be read), "patch" (of a colour of its own, reaching in from
            the frame of a photograph) or "thing" (anything else that stands out).
        letters: what is written there, "" where nothing was read.
    """

    mask: Mask
    role: str
    letters: str = ""


@dataclass(frozen=True, eq=False)
class Scene:
    """An image taken apart.

    Attributes:
        image: (H, W, 3) uint8.
        regions: disjoint; together they cover the image.
        photographic: whether the ground has texture or shading instead of one flat colour.
    """

    image: NDArray[np.uint8]
    regions: tuple[Region, ...]
    photographic: bool


def see(image: NDArray[np.uint8], writings: tuple[Writing, ...] = ()) -> Scene:
    """Take an (H, W, 3) image apart into its ground, its dominant object and other things."""
    colour, share, flat = _most_common(image)
    photographic = share < _FLAT_GROUND or not flat
    patches: list[Mask] = []
    if photographic:
        smooth, ground = _photographic_ground(image)
        patches = coloured_patches(smooth, ground)
        stands_out = _differs_from_photographic_ground(smooth, ground, patches)
        # The soft seam of a patch is no thing of its own.
        for patch in patches:
            seam = max(1, round(_SEAM * min(patch.shape)))
            stands_out &= ~ndimage.binary_dilation(patch, structure=_EIGHT, iterations=seam)
    else:
        stands_out = np.abs(image.astype(np.int16) - colour).max(axis=-1) > _COLOUR_STEP

    claimed = np.zeros(stands_out.shape, dtype=np.bool_)
    regions: list[Region] = []
    for writing in writings:
        mask = writing.mask & ~claimed
        if mask.any():
            regions.append(Region(mask, "writing" if writing.letters else "marker", writing.letters))
            claimed |= mask
    for patch in patches:
        mask = patch & ~claimed
        if mask.any():
            regions.append(Region(mask, "patch"))
            claimed |= mask
    if not photographic:
        for mask in _blocks(image, stands_out & ~claimed):
            regions.append(Region(mask, "block"))
            claimed |= mask

    rest, n = ndimage.label(stands_out & ~claimed, structure=_EIGHT)
    pieces = [rest == i for i in range(1, n + 1)]
    pieces = [piece for piece in pieces if piece.sum() >= _SPECK * piece.size]
    if pieces:
        regions += _gather(pieces)
    for region in regions:
        claimed |= region.mask
    if not claimed.all():
        regions.append(Region(~claimed, "ground"))
    return Scene(image, tuple(regions), photographic)


def _most_common(image: NDArray[np.uint8]) -> tuple[NDArray[np.int16], float, bool]:
    """The most common colour (3,), to within 8 levels, the share it fills, and whether it is flat."""
    coarse = (image >> 3).reshape(-1, 3).astype(np.int32) @ np.array([1024, 32, 1])
    values, counts = np.unique(coarse, return_counts=True)
    chosen = coarse == values[counts.argmax()]
    colour = np.median(image.reshape(-1, 3)[chosen], axis=0).astype(np.int16)
    exact = np.abs(image.reshape(-1, 3)[chosen].astype(np.int16) - colour).max(axis=1) <= _FLAT_STEP
    return colour, float(chosen.mean()), bool(exact.mean() > 0.5)


def _blocks(image: NDArray[np.uint8], stands_out: Mask) -> list[Mask]:
    """Flat, filled rectangles that border mostly on what does not stand out (or on the frame)."""
    found: list[Mask] = []
    colours, counts = np.unique(image[stands_out], axis=0, return_counts=True)
    for colour in colours[counts >= 9]:
        flat = stands_out & (np.abs(image.astype(np.int16) - colour).max(axis=-1) <= _PLATEAU_STEP)
        pieces, n = ndimage.label(ndimage.binary_opening(flat, structure=_EIGHT))
        for i in range(1, n + 1):
            piece = pieces == i
            rows, columns = (np.flatnonzero(piece.any(axis=axis)) for axis in (1, 0))
            height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
            ring = ndimage.binary_dilation(piece, structure=_EIGHT) & ~piece
            filled = piece.sum() / (height * width)
            if filled > 0.9 and max(height, width) <= 4 * min(height, width):
                outside = (ring & ~stands_out).sum()
                if outside >= 0.6 * ring.sum() and not any((piece & other).any() for other in found):
                    found.append(piece)
    return found


def _photographic_ground(image: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The image in CIELAB (H, W, 3), its finest grain smoothed away, and its most common colour (3,)."""
    sigma = max(image.shape[:2]) / 150
    smooth: NDArray[np.float64] = ndimage.gaussian_filter(lab(image), (sigma, sigma, 0))
    coarse = np.round(smooth / 6).astype(np.int64).reshape(-1, 3)
    values, inverse = np.unique(coarse, axis=0, return_inverse=True)
    # The subject sits in the middle, the ground reaches the frame; what is black there is no ground.
    height, width = image.shape[:2]
    towards_frame = 1 - _CENTRED * np.minimum.outer(_hat(height), _hat(width))
    counts = np.bincount(inverse.ravel(), towards_frame.ravel())
    counts *= np.where(values[:, 0] * 6 < _BLACK, 0.3, 1)
    # A cell's neighbours count with it, so that a soft peak is not lost between two cells.
    crowd = np.array([counts[np.abs(values - v).max(axis=1) <= 1].sum() for v in values])
    ground: NDArray[np.float64] = np.median(smooth.reshape(-1, 3)[inverse.ravel() == crowd.argmax()], axis=0)
    return smooth, ground


def _differs_from_photographic_ground(
    smooth: NDArray[np.float64], ground: NDArray[np.float64], patches: list[Mask]
) -> Mask:
    """Pixels whose colour stands out from that of the ground; less must do where the middle holds nothing."""
    distance: NDArray[np.float64] = np.linalg.norm((smooth - ground) * np.array([0.7, 1, 1]), axis=-1)
    middle = np.minimum.outer(_hat(distance.shape[0]), _hat(distance.shape[1])) > 0.4
    for patch in patches:
        middle &= ~patch
    coloured = float(np.hypot(ground[1], ground[2])) > _TINTED
    stands_out: Mask
    for threshold in (_STANDS_OUT, *(_FAINT if coloured else ())):
        stands_out = ndimage.binary_opening(distance > threshold, structure=_EIGHT)
        solid = ndimage.binary_opening(
            stands_out, structure=_EIGHT, iterations=max(1, min(middle.shape) // 56)
        )
        if (solid & middle).sum() >= _SUBJECT * middle.size:
            return stands_out
    stands_out = ndimage.binary_opening(distance > _STANDS_OUT, structure=_EIGHT)
    return stands_out


def _gather(pieces: list[Mask]) -> list[Region]:
    """Name the dominant piece the object, add its fragments to it, keep the others as things."""
    height, width = pieces[0].shape
    towards = np.minimum.outer(_hat(height), _hat(width)) ** 2
    main = max(pieces, key=lambda piece: float(towards[piece].sum()))
    distance = ndimage.distance_transform_edt(~main)
    fragments = [
        piece
        for piece in pieces
        if distance[piece].min() <= _NEAR * max(height, width) and piece.sum() < main.sum()
    ]
    whole = np.logical_or.reduce([main, *fragments])
    others = [piece for piece in pieces if not (piece & whole).any()]
    return [Region(whole, "object"), *(Region(piece, "thing") for piece in others)]


def _hat(n: int) -> NDArray[np.float64]:
    """(n,) weights from near 0 at both ends to 1 in the middle."""
    return 1 - np.abs(np.linspace(-1, 1, n + 2)[1:-1])
