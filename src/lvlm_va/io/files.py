"""Where downloads are kept, and how a file, or a line of one, is written whole or not at all."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from lvlm_va.io.silence import cache_folder

__all__ = ["append_line", "cache_directory", "file_sha256", "write_atomically"]


def cache_directory() -> Path:
    """The package's cache: `LVLM_VA_CACHE`, else `XDG_CACHE_HOME/lvlm-va`, else `~/.cache/lvlm-va`."""
    folder = cache_folder()
    if folder.startswith("~"):
        raise RuntimeError("there is no home folder for the cache: say LVLM_VA_CACHE")
    return Path(folder)


def write_atomically(path: Path, content: bytes | Iterable[bytes | memoryview]) -> None:
    """Write a file, at once or piece after piece, that is either complete under its name or not there.

    The content goes to a temporary neighbour, is flushed to the disk, and takes the name in one step; an
    older file of that name stays until then. Missing parent folders are made.

    Raises:
        OSError: if the folder cannot be written or the disk is full; no partial file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            for piece in (content,) if isinstance(content, bytes) else content:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, 64 hexadecimal digits.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_line(path: Path, line: str) -> None:
    """Write a line behind the others; it is on the disk when this returns.

    What a killed process left of a last line is dropped. The file's folder must be there.

    Raises:
        OSError: if the disk does not take it.
    """
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        file.write((line + "\n").encode("utf-8", "replace"))
        file.flush()
        os.fsync(file.fileno())
