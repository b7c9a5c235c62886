"""Where a published data set lies: a folder that was named, or `LVLM_VA_DATA`."""

import os
from collections.abc import Callable
from pathlib import Path

from lvlm_va.errors import DataError

__all__ = ["locate"]


def locate(name: str, path: Path | None, holds: Callable[[Path], bool], how_to_get: str) -> Path:
    """The folder that holds the data set: the one named or its subfolder `name`.

    Args:
        name: of the data set and of a subfolder that may hold it.
        path: the folder the user named; None for `LVLM_VA_DATA`.
        holds: whether the data set lies directly in a folder.
        how_to_get: what to do where there is none, for the message.

    Raises:
        DataError: if no folder is named, or it holds nothing of the data set.
    """
    said = "data.path"
    if path is None:
        named = os.environ.get("LVLM_VA_DATA")
        if not named:
            raise DataError(f"the data set {name!r} is nowhere: no folder is named. {how_to_get}")
        said, path = "LVLM_VA_DATA", Path(named).expanduser()
    for folder in (path, path / name):
        if holds(folder):
            return folder
    what = "holds none of its images" if path.is_dir() else "is no folder"
    raise DataError(f"{path} ({said}), where the data set {name!r} should be, {what}. {how_to_get}")
