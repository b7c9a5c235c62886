"""Open one file of the user's without waiting for anybody: no pipe, socket or device."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lvlm_va.errors import DataError

__all__ = ["regular_file"]

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


@contextmanager
def regular_file(path: Path) -> Iterator[BinaryIO]:
    """The file at `path`, open for reading.

    Reading a pipe waits for whoever writes to it, for ever and without heeding a signal; so what is no file
    is refused before it is opened, and opened in a way that does not wait in case it was exchanged just then.

    Raises:
        DataError: if it is missing, a link to nothing, no file, or may not be read.
    """
    try:
        _refuse_others(path.stat().st_mode)
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - closed below
    except FileNotFoundError:
        if path.is_symlink():
            raise DataError(f"a symbolic link to {path.readlink()}, where there is nothing") from None
        raise DataError("no such file") from None
    except OSError as error:
        raise DataError(f"cannot be opened ({error.strerror or error})") from None
    except ValueError as error:  # a zero byte in the name
        raise DataError(f"cannot be opened ({error})") from None
    with file:
        _refuse_others(os.fstat(file.fileno()).st_mode)
        yield file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _refuse_others(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise DataError(f"{_KINDS.get(stat.S_IFMT(mode), 'something else')}, not a file")
