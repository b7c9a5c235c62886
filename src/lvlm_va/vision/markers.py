"""Lead markers: single bright letters at the border of a radiograph, e.g. the L or R of the side.

A page reader expects lines of text and overlooks a letter that is a dozen pixels tall. So look first for
what could be one: a compact bright stroke, thin enough to vanish under a grey opening (white top-hat), not
far from the border. Each candidate is enlarged and read on its own. In a grey image a candidate as bright
as lead, which lets nothing through, counts as a marker even where its letter cannot be read.

A reader finds letters in any pattern. So where many things look like a marker (gravel is full of bright
spots), and in a colour image, where nothing is lead, only several letters together count.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from lvlm_va.vision.colours import luminance

__all__ = ["Read", "find_markers"]

Mask = NDArray[np.bool_]
Box = tuple[slice, slice]
Read = Callable[[NDArray[np.uint8]], tuple[str, float]]
"""Reads one line in an (h, w, 3) uint8 image: its letters, and the confidence in [0, 1]."""

_COARSE = 112  # pixels of the shorter side at which candidates are looked for
_REACH = 0.03  # radius of the opening: half the width of the thickest stroke; shares of the shorter side
_TALL = (0.06, 0.2)
_WIDE = (0.03, 0.2)
_RIM = 0.12  # a marker begins so close to the border
_STEPS = (64, 32, 16, 8)  # 8-bit levels above the surroundings, tightest outline first
_CRISP = 0.93  # the stroke's brightness, as a share of the image's brightest, that lead reaches
_BRIGHT = 0.85  # below that it is not worth reading
_CONTRAST = 60  # 8-bit levels by which an illegible marker must rise above its surroundings
_FULL = 0.28  # share of its box that a bold letter fills, at least
_MOST = 8  # candidates to read
_CROWD = 3  # things as bright as lead, wherever they lie, from which they are the image's texture
_TEXT = 3  # letters that are no chance
_READ_HEIGHT = 48  # pixels: what the reader was trained on
_SURE = 0.6  # confidence from which a single enlarged letter counts as read
_RIM_OF_INK = 0.2  # share of the stroke's contrast at which its blurred rim ends
_FAINTEST = 1.0  # 8-bit levels by which a blurred rim rises, at least
_GREY = 6  # 8-bit levels by which the channels of a grey image may differ on average
_EIGHT = np.ones((3, 3), dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class _Candidate:
    box: Box
    brightness: float
    contrast: float
    fill: float


def find_markers(image: NDArray[np.uint8], read: Read) -> tuple[tuple[str, Mask], ...]:
    """Markers in an (H, W, 3) image: letters ("" where illegible) and (H, W) bool pixels with their rim."""
    light = luminance(image) * 255
    scale = max(1, round(min(light.shape) / _COARSE))
    coarse = _reduced(light, scale)
    ground = _without_strokes(coarse)
    levels = image.astype(np.int16)
    radiograph = float((levels.max(axis=-1) - levels.min(axis=-1)).mean()) < _GREY

    found: list[tuple[str, Mask]] = []
    taken = np.zeros(light.shape, dtype=np.bool_)
    tried = 0
    for candidate in _candidates(coarse, ground):
        box = _larger(candidate.box, scale, light.shape)
        if taken[box].any() or tried == _MOST:
            continue
        tried += 1
        letters, confidence = read(_enlarged(light, box))
        if confidence < _SURE or len(letters) > 2 or not any(c.isalnum() for c in letters):
            letters = ""
        lead = radiograph and candidate.contrast >= _CONTRAST and candidate.brightness >= _CRISP
        if letters or (lead and candidate.fill >= _FULL):
            mask = _ink(light, ground, box)
            if mask.any():
                found.append((letters, mask))
                taken |= mask
    legible = [marker for marker in found if marker[0]]
    if not radiograph or _crowd(coarse, ground) >= _CROWD:
        return tuple(legible) if len(legible) >= _TEXT else ()
    return tuple(found)


def _crowd(light: NDArray[np.float64], ground: NDArray[np.float64]) -> int:
    """How many things of a marker's size and brightness there are, at the border or not."""
    side, brightest = min(light.shape), max(float(np.percentile(light, 99.9)), 1.0)
    pieces, _ = ndimage.label(light - ground > _CONTRAST, structure=_EIGHT)
    count = 0
    for n, box in enumerate(ndimage.find_objects(pieces), start=1):
        height = (box[0].stop - box[0].start) / side
        bright = np.percentile(light[box][pieces[box] == n], 75) >= _CRISP * brightest
        count += _TALL[0] / 2 <= height <= _TALL[1] and bool(bright)
    return count


def _reduced(light: NDArray[np.float64], scale: int) -> NDArray[np.float64]:
    if scale == 1:
        return light
    size = (-(-light.shape[1] // scale), -(-light.shape[0] // scale))
    image = Image.fromarray(light.astype(np.float32)).resize(size, Image.Resampling.BOX)
    return np.asarray(image, dtype=np.float64)


def _without_strokes(light: NDArray[np.float64]) -> NDArray[np.float64]:
    """The image without bright strokes, smooth."""
    side = min(light.shape)
    reach = max(2, round(_REACH * side))
    v, u = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    disc = v * v + u * u <= reach * (reach + 0.5)
    # Mirrored at the frame, so that a stroke at the border has surroundings on all sides.
    opened = ndimage.grey_opening(np.pad(light, reach, mode="symmetric"), footprint=disc)
    ground: NDArray[np.float64] = ndimage.gaussian_filter(opened[reach:-reach, reach:-reach], 0.01 * side)
    return np.minimum(ground, light)


def _candidates(light: NDArray[np.float64], ground: NDArray[np.float64]) -> Iterator[_Candidate]:
    """What could be a marker, tightest outline first; several outlines of one thing may come."""
    side, brightest = min(light.shape), max(float(np.percentile(light, 99.9)), 1.0)
    rise = light - ground
    for step in _STEPS:
        pieces, _ = ndimage.label(rise > step, structure=_EIGHT)
        for n, box in enumerate(ndimage.find_objects(pieces), start=1):
            height, width = ((s.stop - s.start) / side for s in box)
            gap = min(min(s.start, n_ - s.stop) for s, n_ in zip(box, light.shape, strict=True)) / side
            if not (_TALL[0] <= height <= _TALL[1] and _WIDE[0] <= width <= _WIDE[1] and gap <= _RIM):
                continue
            piece = pieces[box] == n
            brightness = float(np.percentile(light[box][piece], 75)) / brightest
            if brightness >= _BRIGHT:
                contrast = float(np.percentile(rise[box][piece], 90))
                yield _Candidate(box, brightness, contrast, float(piece.mean()))


def _larger(box: Box, scale: int, shape: tuple[int, ...]) -> Box:
    """The box at full size, with a margin of a quarter of its height."""
    margin = max(2, round(0.25 * (box[0].stop - box[0].start) * scale))
    rows, columns = (
        slice(max(s.start * scale - margin, 0), min(s.stop * scale + margin, n))
        for s, n in zip(box, shape, strict=True)
    )
    return rows, columns


def _enlarged(light: NDArray[np.float64], box: Box) -> NDArray[np.uint8]:
    """The box as an image of one line of text, its contrast stretched."""
    crop = light[box]
    low, high = float(crop.min()), float(crop.max())
    levels = ((crop - low) / max(high - low, 1) * 255).astype(np.uint8)
    width = max(1, round(levels.shape[1] * _READ_HEIGHT / levels.shape[0]))
    grey = Image.fromarray(levels).resize((width, _READ_HEIGHT), Image.Resampling.BICUBIC)
    return np.repeat(np.asarray(grey)[..., None], 3, axis=2)


def _ink(light: NDArray[np.float64], ground: NDArray[np.float64], box: Box) -> Mask:
    """The stroke in a box of the image, with its blurred rim."""
    size = (light.shape[1], light.shape[0])
    below = Image.fromarray(ground.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    rise = light[box] - np.asarray(below)[box]
    stroke = rise > 0.5 * np.percentile(rise, 95)
    pieces, n = ndimage.label(rise > _RIM_OF_INK * np.percentile(rise, 95), structure=_EIGHT)
    if n == 0:
        return np.zeros(light.shape, dtype=np.bool_)
    weight = ndimage.sum_labels(stroke * rise, pieces, np.arange(1, n + 1))
    mask = np.zeros(light.shape, dtype=np.bool_)
    # The blur hides the outermost rim: half of it at the coarse size, a pixel in all directions at full size.
    # Beside a letter with sharp edges nothing rises, and nothing is added.
    grow = ndimage.generate_binary_structure(2, 1 if min(light.shape) < 1.5 * _COARSE else 2)
    letter = pieces == 1 + int(np.argmax(weight))
    mask[box] = letter | (ndimage.binary_dilation(letter, structure=grow) & (rise > _FAINTEST))
    return mask
