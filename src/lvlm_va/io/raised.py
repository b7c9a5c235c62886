"""Where somebody else's code raised: file and line of theirs, for a message that names what they can mend."""

import sysconfig
import traceback
from pathlib import Path

__all__ = ["place"]

_OURS = Path(__file__).parents[1]
_INSTALLED = ("site-packages", "dist-packages")
_PYTHON = Path(sysconfig.get_path("stdlib"))


def place(error: BaseException) -> str:
    """E.g. " (net.py, line 12, in forward)"; empty where only torch, Python and this package were running.

    Of the calls that led there it is the last that is in no installed package, else the last in one.
    """
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f" ({_short(Path(error.filename))}, line {error.lineno})"
    frames = [(Path(f.filename), f) for f in traceback.extract_tb(error.__traceback__)]
    theirs = [(file, f) for file, f in frames if _is_theirs(file)]
    own = [(file, f) for file, f in theirs if _package(file) is None]
    if not theirs:
        return ""
    file, frame = (own or theirs)[-1]
    return f" ({_short(file)}, line {frame.lineno}, in {frame.name})"


def _is_theirs(file: Path) -> bool:
    package = _package(file)
    if not file.is_absolute() or file.is_relative_to(_OURS) or package == "torch":
        return False
    return package is not None or not file.is_relative_to(_PYTHON)


def _package(file: Path) -> str | None:
    """The installed package a file belongs to; None for one that is not installed."""
    parts = file.parts
    places = [i for i, part in enumerate(parts[:-1]) if part in _INSTALLED]
    return parts[places[-1] + 1] if places else None


def _short(file: Path) -> str:
    return str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else str(file)
