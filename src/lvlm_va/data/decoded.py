"""Images decoded once: bytes in a memory-mapped file of the cache, whatever their number.

Reading a row costs a copy of its bytes, and the operating system keeps in memory what is read often. A
folder of the cache belongs to one list of files (their sizes and times of change included) and one
preprocessing; it can be deleted at any time. Of several processes that want the same one, the first decodes
and the others wait for it.
"""

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from lvlm_va.data.preprocess import Channels, Preprocess, Resize, Size
from lvlm_va.data.reading import Pixels
from lvlm_va.data.remarks import remarks
from lvlm_va.errors import DataError
from lvlm_va.io.files import cache_directory

__all__ = ["Decoded", "decode"]

_VERSION = 2  # of the folder's form and of the preprocessing; a change makes older folders unused
_CHUNK = 256  # images decoded before they are written
_PATIENCE = 10.0  # seconds between two lines of progress
_PART = ".part"  # ends the names of folders that are being written


@dataclass(frozen=True, eq=False)
class Decoded:
    """N decoded images.

    Attributes:
        pixels: (N, C, H, W) uint8, mapped read-only; black where an image could not be read.
        problems: row → why that image could not be read.
        digests: N hashes of the images as they were before preprocessing; equal images have equal ones.
        sizes: N pairs (height, width), likewise; (0, 0) where it could not be read.
        remarks: row → what its decoder warned of.
    """

    pixels: NDArray[np.uint8]
    problems: Mapping[int, str]
    digests: Sequence[str]
    sizes: Sequence[tuple[int, int]]
    remarks: Mapping[int, str] = field(default_factory=dict)


class _ColourError(Exception):
    """A colour image, where all before it were grey."""


def decode(
    names: Sequence[object],
    read: Callable[[int], Pixels],
    *,
    size: Size,
    resize: Resize,
    channels: Channels | Literal["auto"],
    workers: int | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Decoded:
    """Read and preprocess N images, or find them in the cache.

    Args:
        names: N ≥ 1 plain values that change when the image does, e.g. path, length and time of change.
        read: row → pixels; a `DataError` sets the image aside. Called from several threads.
        size: see `Preprocess`.
        resize: see `Preprocess`.
        channels: see `Preprocess`; "auto" is rgb if any image has colour channels, else grey.
        workers: threads; one per core, eight at most, when not given.
        log: told about progress.

    Raises:
        DataError: if the cache cannot be written.
    """
    key = json.dumps([_VERSION, size, resize, channels, list(names)], default=str)
    folder = cache_directory() / "images" / hashlib.sha256(key.encode()).hexdigest()[:24]
    with remarks():  # here once for all threads; each keeps its own
        found = _find(folder, len(names), size)
        if found is not None and not _mended(found, read):
            return found
        try:
            with _alone(folder, log):
                other = _find(folder, len(names), size)
                if other is not None and (found is None or not _mended(other, read)):
                    return other  # written by another process in the meantime
                _decode_into(folder, len(names), read, size, resize, channels, workers, log)
        except OSError as error:
            raise DataError(
                f"{folder.parent}: decoded images cannot be kept there ({error.strerror or error}); "
                "make room, or name another folder with LVLM_VA_CACHE"
            ) from error
    written = _find(folder, len(names), size)
    if written is None:
        raise DataError(f"{folder}: has been removed while it was written; run again")
    return written


@contextmanager
def _alone(folder: Path, log: Callable[[str], None]) -> Iterator[None]:
    """No other process decodes into `folder` meanwhile; what killed ones left in the cache is swept.

    The locks lie beside the folders and stay, empty: removing one would let two processes hold it.

    Raises:
        OSError: if the cache cannot be written.
    """
    locks = folder.parent.parent / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log("Another process decodes the same images; waiting for it.")
        lock.acquire()
    except NotImplementedError:  # a file system without locks: the rename alone decides
        yield
        return
    try:
        for part in folder.parent.glob(f".*{_PART}"):
            key = part.name[1:].split(".")[0]
            if key == folder.name:
                shutil.rmtree(part, ignore_errors=True)
                continue
            with suppress(Timeout, OSError), FileLock(locks / f"{key}.lock", timeout=0):
                shutil.rmtree(part, ignore_errors=True)
        yield
    finally:
        lock.release()


def _decode_into(
    folder: Path,
    n: int,
    read: Callable[[int], Pixels],
    size: Size,
    resize: Resize,
    channels: Channels | Literal["auto"],
    workers: int | None,
    log: Callable[[str], None],
) -> None:
    """Decode N images; the folder is whole under its name, or as it was.

    Raises:
        OSError: if the cache cannot be written.
    """
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}{_PART}")
    try:
        part.mkdir()
        if channels == "auto":
            try:
                _write(part, n, read, Preprocess(size, resize, "grey"), workers, log, only_grey=True)
            except _ColourError:
                _write(part, n, read, Preprocess(size, resize, "rgb"), workers, log)
        else:
            _write(part, n, read, Preprocess(size, resize, channels), workers, log)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            part.rename(folder)
        except OSError:
            # Without locks another process may have been faster: then its folder is as good.
            if _find(folder, n, size) is None:
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(
    folder: Path,
    n: int,
    read: Callable[[int], Pixels],
    preprocess: Preprocess,
    workers: int | None,
    log: Callable[[str], None],
    *,
    only_grey: bool = False,
) -> None:
    """Decode all rows into `folder`. Written, not mapped: a full disk is then an error, not a signal.

    Raises:
        _ColourError: if `only_grey` and an image is not.
    """
    problems: dict[int, str] = {}
    noted: dict[int, str] = {}
    digests: list[str] = []
    sizes: list[tuple[int, int]] = []
    black = np.zeros(preprocess.shape, dtype=np.uint8)

    def one(row: int) -> tuple[NDArray[np.uint8], str, tuple[int, int], str, str]:
        with remarks() as said:
            try:
                pixels = read(row)
            except DataError as error:
                return black, "", (0, 0), str(error), ""
        if only_grey and pixels.ndim == 3:
            raise _ColourError
        digest = hashlib.sha256(f"{pixels.dtype} {pixels.shape}".encode())
        digest.update(np.ascontiguousarray(pixels).data)
        size = (pixels.shape[0], pixels.shape[1])
        return preprocess(pixels), digest.hexdigest(), size, "", "; ".join(said)

    said = time.monotonic()
    threads = workers or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool, (folder / "pixels.u8").open("wb") as file:
        try:
            for start in range(0, n, _CHUNK):
                rows = range(start, min(n, start + _CHUNK))
                results = zip(rows, pool.map(one, rows), strict=True)
                for row, (pixels, digest, size, problem, remark) in results:
                    file.write(pixels.data)
                    digests.append(digest)
                    sizes.append(size)
                    if problem:
                        problems[row] = problem
                    if remark:
                        noted[row] = remark
                if time.monotonic() - said > _PATIENCE:
                    said = time.monotonic()
                    log(f"{rows.stop:,} of {n:,} images decoded")
        except BaseException:  # interrupted: what has not begun is not waited for
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        _to_disk(file)
    index = {
        "channels": preprocess.shape[0],
        "problems": problems,
        "digests": digests,
        "sizes": sizes,
        "remarks": noted,
    }
    with (folder / "index.json").open("wb") as file:
        file.write(json.dumps(index).encode())
        _to_disk(file)


def _to_disk(file: IO[bytes]) -> None:
    """Before the folder gets its name: else a power cut could leave it with pixels that are all black."""
    file.flush()
    os.fsync(file.fileno())


def _find(folder: Path, n: int, size: Size) -> Decoded | None:
    """What an earlier call wrote; None if there is nothing whole."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        height, width = (size, size) if isinstance(size, int) else size
        shape = (n, int(index["channels"]), height, width)
        if (folder / "pixels.u8").stat().st_size != np.prod(shape):
            return None
        pixels = np.memmap(folder / "pixels.u8", dtype=np.uint8, mode="r", shape=shape)
        return Decoded(
            pixels,
            {int(row): str(reason) for row, reason in index["problems"].items()},
            [str(digest) for digest in index["digests"]],
            [(int(height), int(width)) for height, width in index["sizes"]],
            {int(row): str(remark) for row, remark in index["remarks"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mended(found: Decoded, read: Callable[[int], Pixels]) -> bool:
    """Can an image be read now that could not then? A reader may have been installed since."""
    for row in found.problems:
        try:
            read(row)
        except DataError:
            continue
        return True
    return False
