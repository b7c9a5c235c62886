"""The segments like one: those a verdict may be given to at once, the likest first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.verdict import Verdict
from lvlm_va.report.reliance import wording
from lvlm_va.studio.reading import reading_of
from lvlm_va.studio.reviewing import Standing
from lvlm_va.studio.subject import Subject

__all__ = ["Like", "like"]

_MOST = 120


@dataclass(frozen=True)
class Like:
    """A segment that is like another.

    Attributes:
        position: of its image.
        explained: its image.
        verdict: in force.
        same_reason: whether the critic gave the same reason, amounts aside.
        near: whether it is at least as like as a segment and its likest neighbour usually are.
    """

    position: int
    explained: ExplainedImage
    verdict: Verdict
    same_reason: bool
    near: bool


def like(subject: Subject, standing: Standing, position: int, segment: int) -> Sequence[Like]:
    """Segments of the same class and prediction, other than this one, that look and lie like it.

    Where the images are not all read yet, those of which the critic said the same.
    """
    images = list(subject.images().explained_images.values())
    one = images[position]
    said = standing.said[one.image_id, segment]
    distances, limit = _distances(subject, position, segment)
    found = []
    for n, explained in enumerate(images):
        if (explained.class_name, explained.predicted) != (one.class_name, one.predicted):
            continue
        for verdict in standing.of_image.get(explained.image_id, ()):
            if (n, verdict.segment) == (position, segment):
                continue
            other = standing.said[verdict.image_id, verdict.segment]
            same = said.spurious == other.spurious and wording(said) == wording(other)
            distance = distances.get((n, verdict.segment), np.inf)
            if same or distance <= limit:
                found.append((distance, not same, Like(n, explained, verdict, same, distance <= limit)))
    found.sort(key=lambda item: item[:2])
    return [item[2] for item in found[:_MOST]]


def _distances(subject: Subject, position: int, segment: int) -> tuple[dict[tuple[int, int], float], float]:
    alike = reading_of(subject).alike
    if alike is None:
        return {}, -1.0
    rows = np.flatnonzero((alike.images == position) & (alike.segment_ids == segment))
    if not len(rows):
        return {}, -1.0
    kin = np.flatnonzero(alike.kinds == alike.kinds[rows[0]])
    vectors = alike.vectors[kin]
    distances = cdist(alike.vectors[rows[:1]], vectors)[0]
    keys = zip(alike.images[kin].tolist(), alike.segment_ids[kin].tolist(), strict=True)
    return dict(zip(keys, distances.tolist(), strict=True)), _usual(vectors)


def _usual(vectors: np.ndarray) -> float:
    """The median distance of a segment to its likest neighbour, of 400 at most; half as much again."""
    some = vectors[:: max(1, len(vectors) // 400)]
    if len(some) < 2:
        return -1.0
    distances = cdist(some, vectors)
    distances[distances < 1e-9] = np.inf
    nearest = distances.min(axis=1)
    return 1.5 * float(np.median(nearest[np.isfinite(nearest)])) if np.isfinite(nearest).any() else -1.0
