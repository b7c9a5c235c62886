"""Pictures decoded once: bytes in a memory-mapped file of the cache, whatever their number.

Reading a row costs a copy of its bytes, and the operating system keeps in memory what is read often. A
folder of the cache belongs to one list of files (their sizes and times of change included) and one
preprocessing; it can be deleted at any time.
"""

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lvlm_va.data.cache import cache_directory
from lvlm_va.data.preprocess import Channels, Fit, Preprocess
from lvlm_va.data.reading import Pixels
from lvlm_va.errors import DataError

__all__ = ["Decoded", "decode"]

_VERSION = 1  # of the folder's form and of the preprocessing; a change makes older folders unused
_CHUNK = 256  # pictures decoded before they are written
_PATIENCE = 10.0  # seconds between two lines of progress


@dataclass(frozen=True, eq=False)
class Decoded:
    """N decoded pictures.

    Attributes:
        pixels: (N, C, H, W) uint8, mapped read-only; black where a picture could not be read.
        problems: row → why that picture could not be read.
        digests: N hashes of the pictures as they were before preprocessing; equal pictures have equal ones.
        sizes: N pairs (height, width), likewise; (0, 0) where it could not be read.
    """

    pixels: NDArray[np.uint8]
    problems: Mapping[int, str]
    digests: Sequence[str]
    sizes: Sequence[tuple[int, int]]


class _ColourError(Exception):
    """A colour picture, where all before it were grey."""


def decode(
    names: Sequence[object],
    read: Callable[[int], Pixels],
    *,
    size: int,
    fit: Fit,
    channels: Channels | Literal["auto"],
    workers: int | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Decoded:
    """Read and preprocess N pictures, or find them in the cache.

    Args:
        names: N ≥ 1 plain values that change when the picture does, e.g. path, length and time of change.
        read: row → pixels; a `DataError` sets the picture aside. Called from several threads.
        size: see `Preprocess`.
        fit: see `Preprocess`.
        channels: see `Preprocess`; "auto" is rgb if any picture has colour channels, else grey.
        workers: threads; one per core, eight at most, when not given.
        log: told about progress.

    Raises:
        DataError: if the cache cannot be written.
    """
    key = json.dumps([_VERSION, size, fit, channels, list(names)], default=str)
    folder = cache_directory() / "pictures" / hashlib.sha256(key.encode()).hexdigest()[:24]
    found = _find(folder, len(names), size)
    if found is not None and not _mended(found, read):
        return found
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir(parents=True)
        if channels == "auto":
            try:
                _write(part, len(names), read, Preprocess(size, fit, "grey"), workers, log, only_grey=True)
            except _ColourError:
                _write(part, len(names), read, Preprocess(size, fit, "rgb"), workers, log)
        else:
            _write(part, len(names), read, Preprocess(size, fit, channels), workers, log)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except OSError as error:
        raise DataError(
            f"{folder.parent}: decoded pictures cannot be kept there ({error.strerror}); "
            "make room, or name another folder with LVLM_VA_CACHE"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    written = _find(folder, len(names), size)
    assert written is not None
    return written


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
        _ColourError: if `only_grey` and a picture is not.
    """
    problems: dict[int, str] = {}
    digests: list[str] = []
    sizes: list[tuple[int, int]] = []
    black = np.zeros(preprocess.shape, dtype=np.uint8)

    def one(row: int) -> tuple[NDArray[np.uint8], str, tuple[int, int], str]:
        try:
            pixels = read(row)
        except DataError as error:
            return black, "", (0, 0), str(error)
        if only_grey and pixels.ndim == 3:
            raise _ColourError
        digest = hashlib.sha256(f"{pixels.dtype} {pixels.shape}".encode() + pixels.tobytes()).hexdigest()
        return preprocess(pixels), digest, (pixels.shape[0], pixels.shape[1]), ""

    said = time.monotonic()
    threads = workers or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool, (folder / "pixels.u8").open("wb") as file:
        for start in range(0, n, _CHUNK):
            rows = range(start, min(n, start + _CHUNK))
            for row, (pixels, digest, size, problem) in zip(rows, pool.map(one, rows), strict=True):
                file.write(pixels.tobytes())
                digests.append(digest)
                sizes.append(size)
                if problem:
                    problems[row] = problem
            if time.monotonic() - said > _PATIENCE:
                said = time.monotonic()
                log(f"{rows.stop:,} of {n:,} pictures decoded")
    index = {"channels": preprocess.shape[0], "problems": problems, "digests": digests, "sizes": sizes}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _find(folder: Path, n: int, size: int) -> Decoded | None:
    """What an earlier call wrote; None if there is nothing whole."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        shape = (n, int(index["channels"]), size, size)
        if (folder / "pixels.u8").stat().st_size != np.prod(shape):
            return None
        pixels = np.memmap(folder / "pixels.u8", dtype=np.uint8, mode="r", shape=shape)
        return Decoded(
            pixels,
            {int(row): str(reason) for row, reason in index["problems"].items()},
            [str(digest) for digest in index["digests"]],
            [(int(height), int(width)) for height, width in index["sizes"]],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mended(found: Decoded, read: Callable[[int], Pixels]) -> bool:
    """Can a picture be read now that could not then? A reader may have been installed since."""
    for row in found.problems:
        try:
            read(row)
        except DataError:
            continue
        return True
    return False
