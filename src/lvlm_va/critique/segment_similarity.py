"""How alike two segments look and lie: plain measurements of each, nothing learned.

What a critic says of a segment follows from which things of the image it covers, where its evidence lies,
how much of the explanation it holds, and what is seen there. Each of these is a block of numbers,
standardised over all segments and divided by the square root of its length, so that a block counts the same
however many numbers it has. Two segments are as unlike as their vectors are far apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lvlm_va.critique.marks import evidence
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.vision.colours import luminance, opponent
from lvlm_va.vision.measures import Measures
from lvlm_va.vision.regions import Scene
from lvlm_va.vision.scenes import seen

__all__ = ["BLOCKS", "Likeness", "likeness", "measure_segments"]

Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]

_WEIGHTS = {"things": 2.0, "place": 1.0, "amount": 1.0, "light": 1.0, "colour": 1.0, "crop": 1.0}
"""Chosen on DecoyMNIST and on tagged radiographs; a letter, a block and a bone's edge differ as things.
Colour was added for skin."""

_ROLES = ("ground", "object", "block", "writing", "thing")
_FOOT = 0.05  # share of a thing that must lie in a segment for the thing to count there
_HEAD = 0.10  # or: share of the segment's positive attribution that lies on the thing
_SPECK = 0.02  # share of the image below which a smaller thing weighs less
_GROUND = 0.25  # what the ground weighs: it is everywhere
_VIVID = 0.9  # quantile of the distance from the image's usual colour, from which a segment's colour is taken
_CROP = 12  # side of the small crop of the evidence
_MARGIN = 0.25  # of the evidence's longer side is shown around it: a letter's ground, an edge's other side


@dataclass(frozen=True, eq=False)
class Likeness:
    """n segments, and how unlike any two of them are.

    Attributes:
        images: (n,) positions of their images, ascending.
        segment_ids: (n,) their j.
        vectors: (n, D) float64; the Euclidean distance says how unlike two segments are.
        kinds: (n,) integers. Only segments of one kind may share a verdict: those that were asked about with
            the same class specification and the same prediction. Another class has other words of the
            expert, and evidence for a wrong class is judged differently.
    """

    images: NDArray[np.int64]
    segment_ids: NDArray[np.int64]
    vectors: Numbers
    kinds: NDArray[np.int64]


def likeness(explained_images: Sequence[ExplainedImage], measured: Numbers) -> Likeness:
    """Compare the segments of all images.

    Args:
        explained_images: the explained images.
        measured: (n, D), the rows of `measure_segments` of each image below one another.
    """
    images = np.array(
        [i for i, explained in enumerate(explained_images) for _ in explained.segment_ids], dtype=np.int64
    )
    segment_ids = np.array(
        [j for explained in explained_images for j in explained.segment_ids], dtype=np.int64
    )
    names = [(explained.class_name, explained.predicted) for explained in explained_images]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    kinds = np.array([numbers[name] for name in names], dtype=np.int64)
    return Likeness(images, segment_ids, _standardised(measured), kinds[images])


def measure_segments(
    explained: ExplainedImage, known: tuple[Scene, Sequence[Measures]] | None = None
) -> Numbers:
    """What is measured of each segment: one row per mark, in blocks of fixed length.

    things: what of the image lies in the segment (its ground, its object, a block, writing, another
        thing), averaged so that a small thing in it outweighs a large one that merely reaches in.
    place: where the evidence lies; all corners are alike, and all edges.
    amount: S_j, also as a share of the image's largest, and the sizes of evidence and segment.
    light: brightness in each channel, contrast and texture of the evidence.
    colour: that of the evidence, and of the tenth of the segment most unlike the rest of the image; 0 in
        a grey image.
    crop: the evidence itself, small, without its brightness and contrast.

    Args:
        explained: the explained image.
        known: what is in it and its measures, where that was seen before.

    Returns:
        (J', D) float64.
    """
    scene, measures = known or seen(explained.image)
    image = explained.image / 255
    light, colour = luminance(explained.image), opponent(explained.image)
    unusual = np.hypot(*np.moveaxis(colour - np.median(colour, axis=(0, 1)), -1, 0))
    slope = np.hypot(*np.gradient(light))
    positive = np.maximum(np.nan_to_num(explained.attribution), 0).astype(np.float64)
    shown = evidence(explained)
    rows = []
    for mark in explained.segment_ids:
        inside, core = explained.segments == mark, shown == mark
        weight = np.where(core, positive, 0.0)
        weight = weight if weight.any() else core.astype(np.float64)
        weight /= weight.sum()
        share = explained.shares[mark - 1]
        sizes = [share, share / max(explained.shares), core.mean() ** 0.5, inside.mean() ** 0.5]
        blocks = {
            "things": _things(inside, positive, scene, measures),
            "place": _place(weight),
            "amount": np.array(sizes),
            "light": _light(weight, core, image, light, slope),
            "colour": _colour(weight, inside, colour, unusual),
            "crop": _crop(core, light),
        }
        assert [len(block) for block in blocks.values()] == list(BLOCKS.values())
        rows.append(np.concatenate(list(blocks.values())))
    return np.stack(rows) if rows else np.zeros((0, sum(BLOCKS.values())))


BLOCKS = {"things": len(_ROLES) + 13, "place": 6, "amount": 4, "light": 8, "colour": 5, "crop": _CROP**2}
"""Block → how many numbers of a row of `measure_segments` are its own, in their order."""


def _standardised(measured: Numbers) -> Numbers:
    if not len(measured):
        return measured
    spread = measured.std(axis=0)
    scaled = (measured - measured.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    scaled[:, spread <= 1e-9] = 0.0  # a number that is the same everywhere tells nothing apart
    weights = [np.full(n, _WEIGHTS[name] / n**0.5) for name, n in BLOCKS.items()]
    vectors: Numbers = scaled * np.concatenate(weights)
    return vectors


def _things(inside: Mask, positive: Numbers, scene: Scene, measures: Sequence[Measures]) -> Numbers:
    total, weights = np.zeros(BLOCKS["things"]), 0.0
    evidence_inside = float(positive[inside].sum())
    for region, m in zip(scene.regions, measures, strict=True):
        common = inside & region.mask
        held = float(common.sum() / region.mask.sum())
        on_it = float(positive[common].sum()) / evidence_inside if evidence_inside > 0 else 0.0
        if held < _FOOT and on_it < _HEAD:
            continue
        weight = (held * m.area) ** 0.5 / max(m.area, _SPECK) * (_GROUND if m.role == "ground" else 1.0)
        numbers = [
            *(float(m.role == role) for role in _ROLES),
            *(m.area**0.5, m.corner, m.border, m.middle),
            *(m.rectangular, m.compact, m.round),
            *(m.brightness, m.saturation, m.uniform, m.contrast),
            *(held, on_it),
        ]
        total += weight * np.array(numbers)
        weights += weight
    return total / weights if weights else total


def _place(weight: Numbers) -> Numbers:
    height, width = weight.shape
    v, u = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    y, x = float((weight * v).sum()), float((weight * u).sum())
    sideways, upright = np.minimum(u, 1 - u), np.minimum(v, 1 - v)
    corner = float((weight * np.hypot(sideways, upright)).sum())
    edge = float((weight * np.minimum(sideways, upright)).sum())
    return np.array([x, y, abs(x - 0.5), abs(y - 0.5), corner, edge])


def _light(weight: Numbers, core: Mask, image: Numbers, light: Numbers, slope: Numbers) -> Numbers:
    colour = (weight[..., None] * image).sum(axis=(0, 1))
    mean = float((weight * light).sum())
    spread = float((weight * (light - mean) ** 2).sum()) ** 0.5
    around = ndimage.binary_dilation(core, iterations=max(1, max(core.shape) // 28)) & ~core
    outside = float(light[around].mean()) if around.any() else mean
    low, high = np.quantile(light[core], (0.1, 0.9))
    return np.array([*colour, spread, mean - outside, low, high, float((weight * slope).sum())])


def _colour(weight: Numbers, inside: Mask, colour: Numbers, unusual: Numbers) -> Numbers:
    vivid = float(np.quantile(unusual[inside], _VIVID))
    of_it = colour[inside & (unusual >= vivid)].mean(axis=0)
    return np.array([*(weight[..., None] * colour).sum(axis=(0, 1)), *of_it, vivid])


def _crop(core: Mask, light: Numbers) -> Numbers:
    rows, columns = np.nonzero(core)
    reach = (max(np.ptp(rows), np.ptp(columns)) + 1) * (0.5 + _MARGIN)
    steps = ((np.arange(_CROP) + 0.5) / _CROP * 2 - 1) * reach
    middle = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    grid = np.meshgrid(middle[0] + steps, middle[1] + steps, indexing="ij")
    smooth = ndimage.gaussian_filter(light, reach / _CROP, mode="nearest")  # nothing falls between samples
    crop = ndimage.map_coordinates(smooth, grid, order=1, mode="nearest")
    spread = float(crop.std())
    level: Numbers = (crop - crop.mean()) / spread if spread > 1e-3 else np.zeros_like(crop)
    return level.ravel()
