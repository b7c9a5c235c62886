"""What can be measured of one region of an image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lvlm_va.vision.colours import colour_name, lab, luminance, saturation
from lvlm_va.vision.regions import Region, Scene

__all__ = ["Measures", "measure", "measure_all", "place_of"]

Mask = NDArray[np.bool_]
_REACH = 2  # pixels on either side of an outline
_WINDOW = 2 * _REACH + 1


@dataclass(frozen=True)
class Measures:
    """Measurements of one region; degrees and shares are in [0, 1].

    Attributes:
        role: "ground", "object", "block", "writing", "marker", "patch" or "thing",
            see `Region`.
        letters: what is written there.
        pixels: area.
        area: share of the image.
        place: where its middle lies, in words: "the top left corner", "the middle", ...
        corner: how far it sits in a corner.
        border: how close it comes to the frame without lying across the middle.
        middle: how central it lies.
        rectangular: share of its bounding box that it fills.
        compact: (2 r)² / area for the largest inscribed radius r: 1 for squares and discs, → 0 for lines.
        round: agreement with the disc of equal area around its middle (intersection over union).
        elongation: ratio ≥ 1 of its principal axes.
        brightness: mean luminance.
        colour: name of its mean colour.
        saturation: of its mean colour.
        uniform: exp(−σ / 12) of its 8-bit luminance: 1 for one flat colour.
        contrast: absolute difference between its luminance and that of its surroundings.
        brighter: whether it is brighter than its surroundings.
        edge, faintest_edge: by how much the colour changes across its outline, CIELAB units: median and 10 %
            quantile over the outline. What was put there ends sharply; a shade of the subject fades.
        photographic: whether the image is a photograph.
    """

    role: str
    letters: str
    pixels: int
    area: float
    place: str
    corner: float
    border: float
    middle: float
    rectangular: float
    compact: float
    round: float
    elongation: float
    brightness: float
    colour: str
    saturation: float
    uniform: float
    contrast: float
    brighter: bool
    edge: float
    faintest_edge: float
    photographic: bool


def measure(scene: Scene, region: Region) -> Measures:
    """Measure one region of a scene."""
    return _measure(scene, region, luminance(scene.image), lab(scene.image))


def measure_all(scene: Scene) -> tuple[Measures, ...]:
    """Measure all regions of a scene."""
    light, colours = luminance(scene.image), lab(scene.image)
    return tuple(_measure(scene, region, light, colours) for region in scene.regions)


def _measure(
    scene: Scene, region: Region, light: NDArray[np.float64], colours: NDArray[np.float64]
) -> Measures:
    """Measure one region, given the luminance (H, W) and the CIELAB colours (H, W, 3) of the image."""
    mask, image = region.mask, scene.image
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    centre = ((rows.mean() + 0.5) / height, (columns.mean() + 0.5) / width)
    middle = float(np.clip(1 - max(abs(centre[0] - 0.5), abs(centre[1] - 0.5)) / 0.35, 0, 1))
    gap = min(
        rows.min() / height,
        columns.min() / width,
        (height - 1 - rows.max()) / height,
        (width - 1 - columns.max()) / width,
    )
    # Outside the frame nothing is known, so the frame counts as the region's edge.
    # A distance counts to the next pixel's middle; a quarter less is fair to odd and even widths alike.
    radius = float(ndimage.distance_transform_edt(np.pad(mask, 1)).max()) - 0.25
    mean_colour = image[mask].mean(axis=0) / 255
    around = ndimage.binary_dilation(mask, iterations=max(1, max(height, width) // 28)) & ~mask
    inside = float(light[mask].mean())
    outside = float(light[around].mean()) if around.any() else inside
    faintest_edge, edge = np.quantile(_steps(colours, mask), (0.1, 0.5))
    return Measures(
        role=region.role,
        letters=region.letters,
        pixels=int(mask.sum()),
        area=float(mask.mean()),
        place=place_of(mask),
        corner=_falling(max(min(c, 1 - c) for c in centre), 0.12, 0.3),
        border=_falling(gap, 0.03, 0.12) * (1 - middle),
        middle=middle,
        rectangular=float(mask.sum() / box),
        compact=min(1.0, (2 * radius) ** 2 / float(mask.sum())),
        round=_roundness(rows, columns),
        elongation=_elongation(rows, columns),
        brightness=inside,
        colour=colour_name(mean_colour),
        saturation=saturation(mean_colour),
        uniform=float(np.exp(-light[mask].std() * 255 / 12)),
        contrast=abs(inside - outside),
        brighter=inside >= outside,
        edge=float(edge),
        faintest_edge=float(faintest_edge),
        photographic=scene.photographic,
    )


def place_of(mask: Mask) -> str:
    """Where the middle of a region lies, in words."""
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    v, u = (rows.mean() + 0.5) / height, (columns.mean() + 0.5) / width
    vertical = "top" if v < 0.3 else "bottom" if v > 0.7 else ""
    horizontal = "left" if u < 0.3 else "right" if u > 0.7 else ""
    if vertical and horizontal:
        return f"the {vertical} {horizontal} corner"
    if vertical:
        return f"the {vertical} of the picture"
    if horizontal:
        return f"the {horizontal} side of the picture"
    return "the middle of the picture"


def _steps(colours: NDArray[np.float64], mask: Mask) -> NDArray[np.float64]:
    """CIELAB distance between the colours on both sides of each outline pixel; [0] where there is no outline.

    Each side is averaged within two pixels of the outline.
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    near = tuple(slice(max(at[0] - _REACH - 1, 0), at[-1] + _REACH + 2) for at in (rows, columns))
    mask, colours = mask[near], colours[near]
    inside, outside = mask.astype(np.float64), 1.0 - mask.astype(np.float64)
    outline = mask & ~ndimage.binary_erosion(mask, structure=np.ones((3, 3)), border_value=1)
    outline &= ndimage.uniform_filter(outside, _WINDOW) > 1e-9
    if not outline.any():
        return np.zeros(1)
    difference = _mean_near(colours, inside) - _mean_near(colours, outside)
    steps: NDArray[np.float64] = np.linalg.norm(difference[outline], axis=-1)
    return steps


def _mean_near(colours: NDArray[np.float64], side: NDArray[np.float64]) -> NDArray[np.float64]:
    """(h, w, 3): the mean colour near each pixel of one side, (h, w) of 0 and 1; 0 where it has none near."""
    total = ndimage.uniform_filter(colours * side[..., None], (_WINDOW, _WINDOW, 1))
    mean: NDArray[np.float64] = total / np.maximum(ndimage.uniform_filter(side, _WINDOW), 1e-9)[..., None]
    return mean


def _falling(value: float, full: float, none: float) -> float:
    """1 up to `full`, 0 from `none`, linear between."""
    return float(np.clip((none - value) / (none - full), 0, 1))


def _roundness(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> float:
    squared = (rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2
    area = len(rows)
    hit = int((squared <= area / np.pi).sum())
    return hit / (2 * area - hit)


def _elongation(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> float:
    # A pixel is a unit square: its own variance of 1/12 keeps single rows from being infinitely thin.
    covariance = np.cov(np.stack([rows, columns]), bias=True) + np.eye(2) / 12
    low, high = np.linalg.eigvalsh(covariance)
    return float(np.sqrt(high / low))
