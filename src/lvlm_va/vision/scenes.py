"""What is in an image, read once and kept by the image's hash; many images at once on all cores.

Finding letters takes a fifth of a second an image, and nothing of it depends on what the expert writes or a
model does. Images in which letters cannot be looked for are taken apart each time, in less time than a file
takes.
"""

import hashlib
import io
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from lvlm_va._version import __version__
from lvlm_va.io.cores import usable_cores
from lvlm_va.io.files import cache_directory, write_atomically
from lvlm_va.vision.letters import read_letters, why_not_read
from lvlm_va.vision.measures import Measures, measure_all
from lvlm_va.vision.regions import Region, Scene, see

__all__ = ["read_scenes", "scene_of", "seen", "unread_scenes"]

_WORTH_IT = 32
"""Unread images from which other processes help: one takes two seconds to start."""

_AHEAD = 4  # images at a process or on the way to it


def seen(image: NDArray[np.uint8]) -> tuple[Scene, tuple[Measures, ...]]:
    """What is in an (H, W, 3) image, and the measures of its regions; read once, see above.

    Raises:
        ModelError: if the letters' reader is not the one that was measured, see `read_letters`.
    """
    if why_not_read(image):
        return _measured(see(image))
    file = _file(image)
    try:
        with np.load(file, allow_pickle=False) as kept:
            notes = json.loads(str(kept["notes"]))
            shape = (len(notes["regions"]), *image.shape[:2])
            masks = np.unpackbits(kept["masks"], count=int(np.prod(shape))).reshape(shape).view(np.bool_)
            regions = tuple(Region(mask, *of) for mask, of in zip(masks, notes["regions"], strict=True))
            scene = Scene(image, regions, notes["photographic"])
            return scene, tuple(Measures(**measures) for measures in notes["measures"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    scene, measures = _measured(see(image, read_letters(image)))
    notes = {
        "regions": [(r.role, r.letters) for r in scene.regions],
        "photographic": scene.photographic,
        "measures": [asdict(m) for m in measures],
    }
    buffer = io.BytesIO()
    packed = np.packbits(np.stack([r.mask for r in scene.regions]))
    text = json.dumps(notes, default=lambda value: value.item())  # of numpy
    np.savez_compressed(buffer, masks=packed, notes=np.array(text))
    with suppress(OSError):  # then it is read again next time
        write_atomically(file, buffer.getvalue())
    return scene, measures


def scene_of(image: NDArray[np.uint8]) -> Scene:
    """The scene alone."""
    return seen(image)[0]


def _measured(scene: Scene) -> tuple[Scene, tuple[Measures, ...]]:
    return scene, measure_all(scene)


def unread_scenes(images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Those that `read_scenes` would read; none where they are too few to start processes for."""
    unread = [image for image in images if not why_not_read(image) and not _file(image).exists()]
    return unread if len(unread) >= _WORTH_IT and usable_cores() > 1 else []


def read_scenes(
    images: Sequence[NDArray[np.uint8]],
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    note: Callable[[str], None] = lambda _: None,
) -> None:
    """Read what `seen` will be asked about, on all cores; it is then in the cache.

    Every image is kept as soon as it is read: whoever interrupts this loses nothing but those under way.

    Args:
        images: (H, W, 3) each.
        progress: called with (images read, how many are to be read).
        note: told, in one sentence, where a process ended by itself; the rest is read by this one.

    Raises:
        ModelError: as `seen`.
    """
    unread = unread_scenes(images)
    if not unread:
        return
    try:
        for done in _by_processes(unread, usable_cores()):
            progress(done, len(unread))
    except BrokenExecutor:
        note("A process that reads images ended by itself (memory may have run out); going on with one.")


def _by_processes(unread: Sequence[NDArray[np.uint8]], workers: int) -> Iterator[int]:
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare)
    try:
        left, under_way, done = iter(unread), set[Future[None]](), 0
        while True:
            with _no_main_module():
                while len(under_way) < _AHEAD * workers and (image := next(left, None)) is not None:
                    under_way.add(pool.submit(_read, image))
            if not under_way:
                break
            finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
                done += 1
            yield done
    except BaseException:
        processes = list((getattr(pool, "_processes", None) or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        raise
    pool.shutdown()


def _prepare() -> None:
    """In a process that helps: Ctrl-C is for its parent, which ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _read(image: NDArray[np.uint8]) -> None:
    seen(image)


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Processes that are started here do not run the user's script again, as multiprocessing has it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _file(image: NDArray[np.uint8]) -> Path:
    digest = hashlib.sha256(f"{__version__} {image.shape}".encode())
    digest.update(np.ascontiguousarray(image).data)
    name = digest.hexdigest()
    return cache_directory() / "scenes" / name[:2] / f"{name}.npz"
