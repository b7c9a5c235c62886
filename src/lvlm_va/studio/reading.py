"""What is read in the images of a run: once, in the background, and kept by the image's hash.

Letters and things in an image do not depend on what the expert writes. So they are read once; then comparing
segments, and asking the built-in critic again after a specification was edited, are a matter of moments.
"""

import hashlib
import io
import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from lvlm_va._version import __version__
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.segment_similarity import Likeness, likeness, measure_segments
from lvlm_va.io.files import cache_directory, write_atomically
from lvlm_va.studio.reviewing import Key, Standing
from lvlm_va.studio.subject import Subject
from lvlm_va.vision.letters import read_letters
from lvlm_va.vision.measures import Measures, measure
from lvlm_va.vision.regions import Region, Scene, see

__all__ = ["Reading", "reading_of", "scene_of"]

_NEIGHBOURS = 5
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
            self.scenes[explained.image_id] = scene_of(explained.image)
        return self.scenes[explained.image_id]

    def measures(self, explained: ExplainedImage) -> tuple[Measures, ...]:
        """Of the regions of an image's scene, taken now if need be."""
        scene = self.scene(explained)
        if explained.image_id not in self._measures:
            self._measures[explained.image_id] = tuple(measure(scene, region) for region in scene.regions)
        return self._measures[explained.image_id]

    def _read(self) -> None:
        try:
            rows = []
            for explained in self.images.values():
                self.measures(explained)
                rows.append(measure_segments(explained, self.scene(explained)))
            if rows:
                self._alike = likeness(list(self.images.values()), np.concatenate(rows))
        except Exception as error:  # noqa: BLE001 -- told on the page; reviewing goes on without it
            self.problem = f"{type(error).__name__}: {error}"

    def disagreement(self, standing: Standing) -> dict[Key, float]:
        """Segment → share of the scored segments most like it that have the other verdict."""
        alike = self._alike
        if alike is None:
            return {}
        ids = list(self.images)
        keys = [(ids[i], int(j)) for i, j in zip(alike.images, alike.segment_ids, strict=True)]
        verdicts = [standing.in_force.get(key) for key in keys]
        found: dict[Key, float] = {}
        for kind in np.unique(alike.kinds):
            members = [
                int(n)
                for n in np.flatnonzero(alike.kinds == kind)
                if (v := verdicts[int(n)]) is not None and v.spurious is not None
            ]
            if len(members) <= _NEIGHBOURS:
                continue
            said = np.array([bool(getattr(verdicts[n], "spurious", False)) for n in members])
            for at, n in enumerate(members):  # row by row: all distances of 30,000 segments are gigabytes
                distances = cdist(alike.vectors[n : n + 1], alike.vectors[members])[0]
                distances[at] = np.inf
                near = np.argpartition(distances, _NEIGHBOURS)[:_NEIGHBOURS]
                found[keys[n]] = float(np.mean(said[near] != said[at]))
        return found


def scene_of(image: NDArray[np.uint8]) -> Scene:
    """What is in an (H, W, 3) image; from the cache where the same image was read before."""
    digest = hashlib.sha256(f"{__version__} {image.shape}".encode() + image.tobytes()).hexdigest()
    file = cache_directory() / "studio" / "scenes" / digest[:2] / f"{digest}.npz"
    try:
        with np.load(file, allow_pickle=False) as kept:
            notes = json.loads(str(kept["notes"]))
            shape = (len(notes["regions"]), *image.shape[:2])
            masks = np.unpackbits(kept["masks"], count=int(np.prod(shape))).reshape(shape).astype(bool)
            regions = tuple(Region(mask, *of) for mask, of in zip(masks, notes["regions"], strict=True))
            return Scene(image, regions, notes["photographic"])
    except (OSError, ValueError, KeyError):
        pass
    scene = see(image, read_letters(image))
    notes = {
        "regions": [(r.role, r.letters) for r in scene.regions],
        "photographic": bool(scene.photographic),
    }
    buffer = io.BytesIO()
    masks = np.packbits(np.stack([r.mask for r in scene.regions]))
    np.savez_compressed(buffer, masks=masks, notes=np.array(json.dumps(notes)))
    with suppress(OSError):  # then it is read again next time
        write_atomically(file, buffer.getvalue())
    return scene
