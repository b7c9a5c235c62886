"""What is read in the images of a run: once, in the background (`vision.scenes`).

Letters and things in an image do not depend on what the expert writes. So they are read once; then comparing
segments, and asking the built-in critic again after a specification was edited, are a matter of moments.
"""

import threading
from collections import OrderedDict
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
_COMPARED = 4096  # segments of its kind that each is compared with, at most: all with all grows as the square
_MOST = 20_000  # images that are read in the background, half an hour of one core
_LATER = 2.0  # seconds: the page that begins it is made first
_SCENES = 1024  # of those read last, at hand; the others are in the cache on the disk
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
        read: ids of those that were read.
        problem: why reading ended early; "" as a rule.
    """

    def __init__(self, images: Mapping[str, ExplainedImage]) -> None:
        self.images = images
        self.read: set[str] = set()
        self._scenes: OrderedDict[str, Scene] = OrderedDict()
        self._measures: dict[str, tuple[Measures, ...]] = {}
        self.problem = ""
        self._alike: Likeness | None = None
        self._near: NDArray[np.int64] | None = None
        self._thread: threading.Thread | None = None
        self._start = threading.Lock()
        self._now = threading.Event()

    @property
    def total(self) -> int:
        """How many images there are."""
        return len(self.images)

    @property
    def done(self) -> int:
        """How many were read."""
        return len(self.read)

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
            if self.total > _MOST:
                self.problem = f"{self.total:,} images are too many; {_MOST:,} at most are compared"
            elif self._thread is None:
                self._thread = threading.Thread(target=self._read, name="reading", daemon=True)
                self._thread.start()

    def wait(self) -> None:
        """Until all is read."""
        self._now.set()
        self.start()
        if self._thread is not None:
            self._thread.join()

    def scene(self, explained: ExplainedImage) -> Scene:
        """The scene of an image, read now if need be."""
        with self._start:
            found = self._scenes.pop(explained.image_id, None)
        if found is None:
            found, self._measures[explained.image_id] = seen(explained.image)
            self.read.add(explained.image_id)
        with self._start:
            self._scenes[explained.image_id] = found
            if len(self._scenes) > _SCENES:
                self._scenes.popitem(last=False)
        return found

    def measures(self, explained: ExplainedImage) -> tuple[Measures, ...]:
        """Of the regions of an image's scene, taken now if need be."""
        if explained.image_id not in self._measures:
            self.scene(explained)
        return self._measures[explained.image_id]

    def _read(self) -> None:
        self._now.wait(_LATER)
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
        keys = [(ids[i], j) for i, j in zip(alike.images.tolist(), alike.segment_ids.tolist(), strict=True)]
        known = [standing.in_force.get(key) for key in keys]
        # One more, at the end, for the neighbour −1 that there is not.
        verdicts = np.array([-1 if v is None or v.spurious is None else v.spurious for v in known] + [-1])
        found: dict[Key, float] = {}
        others = verdicts[near]
        voting = (others >= 0) & (np.cumsum(others >= 0, axis=1) <= _VOTES)
        against = (voting & (others != verdicts[:-1, None])).sum(1) / _VOTES
        told = (verdicts[:-1] >= 0) & (voting.sum(1) == _VOTES)
        for n in np.flatnonzero(told).tolist():
            found[keys[n]] = float(against[n])
        return found


def _neighbours(alike: Likeness) -> NDArray[np.int64]:
    """(n, 12) the segments of its kind most like each, the likest first; −1 where there are fewer.

    Of a kind with many segments, each is compared with some of them, spread evenly.
    """
    near = np.full((len(alike.kinds), _NEIGHBOURS), -1)
    for kind in np.unique(alike.kinds):
        members = np.flatnonzero(alike.kinds == kind)
        others = members[:: -(-len(members) // _COMPARED)]
        count = min(_NEIGHBOURS, len(others) - 1)
        for first in range(0, len(members), _ROWS):  # all distances of 30,000 segments would be gigabytes
            rows = members[first : first + _ROWS]
            distances = cdist(alike.vectors[rows], alike.vectors[others])
            distances[rows[:, None] == others] = np.inf
            near[rows, :count] = others[np.argsort(distances, axis=1, kind="stable")[:, :count]]
    return near
