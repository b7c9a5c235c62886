"""What is read in the images of a run: once, in the background (`vision.scenes`).

Letters and things in an image do not depend on what the expert writes. So they are read once; then comparing
segments, and asking the built-in critic again after a specification was edited, are a matter of moments.
"""

import threading
from collections.abc import Mapping
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.segment_similarity import Likeness, likeness, measure_segments
from lvlm_va.studio.reviewing import Key, Standing
from lvlm_va.studio.subject import Subject
from lvlm_va.vision.measures import Measures
from lvlm_va.vision.regions import Scene
from lvlm_va.vision.scenes import seen

__all__ = ["Reading", "reading_of"]

_NEIGHBOURS, _VOTES = 12, 5  # of the likest, the first with a verdict vote
_ROWS = 256
_readings: "WeakKeyDictionary[Subject, Reading]" = WeakKeyDictionary()
_lock = threading.Lock()


def reading_of(subject: Subject) -> "Reading":
    """The reading of a run's images, one for all pages; begun anew where the images changed."""
    images = subject.images()
    with _lock:
        known = _readings.get(subject)
        if known is None or known.images is not images.explained_images:
            known = _readings[subject] = Reading(images.explained_images)
        return known


class Reading:
    """The scenes of some images, and how alike their segments are.

    Attributes:
        images: id → image.
        scenes: id → scene, of those that were read.
        problem: why reading ended early; "" as a rule.
    """

    def __init__(self, images: Mapping[str, ExplainedImage]) -> None:
        self.images = images
        self.scenes: dict[str, Scene] = {}
        self._measures: dict[str, tuple[Measures, ...]] = {}
        self.problem = ""
        self._alike: Likeness | None = None
        self._near: NDArray[np.int64] | None = None
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()

    @property
    def total(self) -> int:
        """How many images there are."""
        return len(self.images)

    @property
    def done(self) -> int:
        """How many were read."""
        return len(self.scenes)

    @property
    def compared(self) -> bool:
        """Whether all were read and their segments compared."""
        return self._alike is not None

    @property
    def alike(self) -> Likeness | None:
        """How alike the segments are; None while images are still read."""
        return self._alike

    def start(self) -> None:
        """Begin to read, in the background; once."""
        with self._start:
            if self._thread is None:
                self._thread = threading.Thread(target=self._read, name="reading", daemon=True)
                self._thread.start()

    def wait(self) -> None:
        """Until all is read."""
        self.start()
        assert self._thread is not None
        self._thread.join()

    def scene(self, explained: ExplainedImage) -> Scene:
        """The scene of an image, read now if need be."""
        if explained.image_id not in self.scenes:
            self.scenes[explained.image_id], self._measures[explained.image_id] = seen(explained.image)
        return self.scenes[explained.image_id]

    def measures(self, explained: ExplainedImage) -> tuple[Measures, ...]:
        """Of the regions of an image's scene, taken now if need be."""
        self.scene(explained)
        return self._measures[explained.image_id]

    def _read(self) -> None:
        try:
            rows = []
            for explained in self.images.values():
                rows.append(measure_segments(explained, (self.scene(explained), self.measures(explained))))
            if rows:
                alike = likeness(list(self.images.values()), np.concatenate(rows))
                self._near = _neighbours(alike)
                self._alike = alike
        except Exception as error:  # noqa: BLE001 -- told on the page; reviewing goes on without it
            self.problem = f"{type(error).__name__}: {error}"

    def disagreement(self, standing: Standing) -> dict[Key, float]:
        """Segment → share of the scored ones among the segments most like it that have the other verdict."""
        alike, near = self._alike, self._near
        if alike is None or near is None:
            return {}
        ids = list(self.images)
        keys = [(ids[i], int(j)) for i, j in zip(alike.images, alike.segment_ids, strict=True)]
        verdicts = [None if (v := standing.in_force.get(key)) is None else v.spurious for key in keys]
        found: dict[Key, float] = {}
        for n, key in enumerate(keys):
            others = [verdicts[m] for m in near[n].tolist() if m >= 0 and verdicts[m] is not None]
            if verdicts[n] is not None and len(others) >= _VOTES:
                found[key] = sum(other != verdicts[n] for other in others[:_VOTES]) / _VOTES
        return found


def _neighbours(alike: Likeness) -> NDArray[np.int64]:
    """(n, 12) the segments of its kind most like each, the likest first; −1 where there are fewer."""
    near = np.full((len(alike.kinds), _NEIGHBOURS), -1)
    for kind in np.unique(alike.kinds):
        members = np.flatnonzero(alike.kinds == kind)
        count = min(_NEIGHBOURS, len(members) - 1)
        for first in range(0, len(members), _ROWS):  # all distances of 30,000 segments would be gigabytes
            rows = members[first : first + _ROWS]
            distances = cdist(alike.vectors[rows], alike.vectors[members])
            distances[np.arange(len(rows)), np.arange(first, first + len(rows))] = np.inf
            near[rows, :count] = members[np.argsort(distances, axis=1, kind="stable")[:, :count]]
    return near
