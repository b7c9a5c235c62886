"""Where a segment's evidence is, its colour, and where its number stands without hiding either."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lvlm_va.critique.question import ExplainedImage

__all__ = ["BLUR", "Mark", "bounds", "colour", "evidence", "place_marks"]

# Okabe & Ito (2008), without black, ordered so that the first three differ most also in brightness.
_OKABE_ITO = (
    (230, 159, 0),
    (0, 114, 178),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
)
_HELD = 0.8  # of a segment's positive attribution is held by what is drawn as its evidence
BLUR = 0.012  # of the image's shorter side
_GAP = 0.03  # of the image's shorter side: gaps up to this wide are closed, at least one pixel
_SPECK = 0.05  # of the largest piece's attribution: lesser pieces are not drawn
_NUMBERED = 1 / 3  # of the largest piece's area: smaller pieces get no number of their own
_NUMBERS = 3  # of one segment at most
_CLEAR = 5  # drawn pixels between a number's disc and the border of its segment


@dataclass(frozen=True)
class Mark:
    """The place of one number; a segment in several pieces has several.

    Attributes:
        segment: j.
        x, y: centre of the number, in pixels of the drawn image.
        tip: (x, y) in the segment that a line from the number points at; None where the number stands in it.
    """

    segment: int
    x: float
    y: float
    tip: tuple[float, float] | None


def colour(segment: int) -> tuple[int, int, int]:
    """RGB of segment j ≥ 1: seven colours that colour-blind readers tell apart, then darker ones again."""
    turn, i = divmod(segment - 1, len(_OKABE_ITO))
    red, green, blue = (round(c * 0.6**turn) for c in _OKABE_ITO[i])
    return red, green, blue


def bounds(region: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The rows and columns between which a region lies; outside there is nothing to compute."""
    rows, columns = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def evidence(explained: ExplainedImage) -> NDArray[np.int16]:
    """The part of every segment in which its positive attribution lies.

    The segments tile the whole lattice; what speaks for the prediction fills a small part of each. Per
    segment these are the fewest pixels that hold 80 % of its positive attribution, after a blur of 1.2 % of
    the image's side, which joins the speckle of large networks' attributions. For the eye, gaps are
    closed, and pieces dropped that hold less than a twentieth of what the largest one holds.

    Returns:
        (H, W) int16: the segment's number on its evidence, 0 elsewhere. A segment without positive
        attribution is its own evidence, so that none goes unseen.
    """
    side = min(explained.attribution.shape)
    positive = np.maximum(explained.attribution, 0).astype(np.float64)
    blurred = ndimage.gaussian_filter(positive, BLUR * side)
    shown = np.zeros_like(explained.segments)
    for j in explained.segment_ids:
        inside = explained.segments == j
        region = _heaviest(np.where(inside, blurred, 0.0)) if (blurred[inside] > 0).any() else inside
        gap = max(1, round(_GAP * side))
        region = ndimage.grey_closing(region, size=1 + gap, mode="nearest") & inside
        shown[_without_specks(region, blurred)] = j
    return shown


def place_marks(segments: NDArray[np.int16], shown: NDArray[np.int16], radius: float) -> list[Mark]:
    """Find places for the segments' numbers.

    A number stands in its segment, where it hides least of any evidence, and there as far from the border
    as it can. Where the segment is too narrow, it stands beside it, with a line. Of a segment in several
    pieces, the largest three are numbered, where they are at least a third as large as the largest.

    Args:
        segments: (H', W') C at the size of the drawn image, 0 where no segment is.
        shown: (H', W') evidence as drawn: the segment's number, 0 elsewhere.
        radius: of the disc that carries a number, in drawn pixels.

    Returns:
        At least one mark per segment, in the order of the segments; the discs do not overlap while there is
        room.
    """
    height, width = segments.shape
    step = max(1, round(radius / 2))
    margin = math.ceil(radius) + 1
    grid = np.stack(
        np.meshgrid(np.arange(margin, width - margin, step), np.arange(margin, height - margin, step)),
        axis=-1,
    ).reshape(-1, 2)
    columns, rows = grid[:, 0], grid[:, 1]
    # The share of a disc's bounding square that would lie on evidence, at every candidate.
    busy = ndimage.uniform_filter((shown > 0).astype(np.float32), 2 * margin + 1, mode="constant")
    busy = busy[rows, columns]

    pieces = [(int(j), piece) for j in np.unique(segments) if j > 0 for piece in _large_pieces(segments == j)]
    marks: list[Mark] = []
    for j, piece in sorted(pieces, key=lambda entry: int(entry[1].sum())):  # the smallest choose first
        others = np.array([(mark.x, mark.y) for mark in marks]).reshape(-1, 2)
        # Padded, so that the image's edge counts as an edge.
        box = bounds(piece)
        inner = np.zeros(piece.shape)
        inner[box] = ndimage.distance_transform_edt(np.pad(piece[box], 1))[1:-1, 1:-1]
        depth = inner[rows, columns]
        fits = (depth > radius + _CLEAR) & (_gap(grid, others) >= 2 * radius)
        if fits.any():
            costs = np.where(fits, 20 * radius * busy - np.minimum(depth, 3 * radius), np.inf)
            x, y = grid[int(costs.argmin())]
            marks.append(Mark(j, float(x), float(y), None))
            continue
        outside = ndimage.distance_transform_edt(~piece)[rows, columns]
        hidden = ndimage.uniform_filter(piece.astype(np.float32), 2 * margin + 1, mode="constant")
        crowded = np.maximum(0, 2.5 * radius - _gap(grid, others))
        # Far enough off for the line to be seen.
        costs = abs(outside - 1.8 * radius) + 20 * radius * (busy + hidden[rows, columns]) + 20 * crowded
        best = grid[np.argmin(costs)]
        # The line ends inside, not on the border: as deep in the piece as may be near by.
        ys, xs = np.nonzero(inner >= min(_CLEAR, inner.max()))
        nearest = int(np.argmin((xs - best[0]) ** 2 + (ys - best[1]) ** 2))
        marks.append(Mark(j, float(best[0]), float(best[1]), (float(xs[nearest]), float(ys[nearest]))))
    return sorted(marks, key=lambda mark: mark.segment)


def _heaviest(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The fewest pixels that hold the share `_HELD` of values ≥ 0."""
    order = np.argsort(-values, axis=None, kind="stable")
    held = np.cumsum(values.ravel()[order])
    chosen = np.zeros(values.size, dtype=bool)
    chosen[order[: 1 + int(np.searchsorted(held, _HELD * held[-1]))]] = True
    return chosen.reshape(values.shape)


def _without_specks(region: NDArray[np.bool_], weight: NDArray[np.float64]) -> NDArray[np.bool_]:
    pieces, count = ndimage.label(region, structure=np.ones((3, 3)))
    held = ndimage.sum_labels(weight, pieces, np.arange(count + 1))
    held[0] = -np.inf  # the ground
    kept: NDArray[np.bool_] = (held >= _SPECK * held.max())[pieces]
    return kept


def _large_pieces(region: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    pieces, _ = ndimage.label(region, structure=np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0  # the ground
    largest = np.argsort(-sizes, kind="stable")[:_NUMBERS]
    return [pieces == i for i in largest if sizes[i] >= _NUMBERED * sizes.max()]


def _gap(points: NDArray[np.int_], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of every point (n, 2) to the nearest of others (m, 2); infinite where there is none."""
    if not len(others):
        return np.full(len(points), np.inf)
    nearest: NDArray[np.float64] = np.linalg.norm(points[:, None] - others[None], axis=-1).min(axis=1)
    return nearest
