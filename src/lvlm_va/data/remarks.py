"""What the decoders' libraries warn of, kept with the image instead of printed without its name."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image

__all__ = ["remarks"]

_LIBRARIES = ("PIL", "pydicom", "tifffile")  # names of their loggers
_LONGEST = 200  # characters of one remark


class _Kept(threading.local):
    texts: list[str] | None = None


_kept = _Kept()
_lock = threading.Lock()
_inside = 0
_state = warnings.catch_warnings()


@contextmanager
def remarks() -> Iterator[list[str]]:
    """A list that fills with what libraries warn of in this thread, each remark once and in one line.

    `warnings.catch_warnings` changes the whole process and is left in another order than entered when threads
    use it; here the first thread to enter changes it, and the last to leave puts it back.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _listen()
        _inside += 1
    before, _kept.texts = _kept.texts, []
    try:
        yield _kept.texts
    finally:
        _kept.texts = before
        with _lock:
            _inside -= 1
            if _inside == 0:
                _stop_listening()


def _keep(text: str) -> None:
    line = " ".join(text.split())
    line = line if len(line) <= _LONGEST else line[:_LONGEST] + " ..."
    if _kept.texts is not None and line not in _kept.texts:
        _kept.texts.append(line)


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _keep(record.getMessage())


_handler = _Handler(logging.WARNING)


def _listen() -> None:
    global _state
    _state = warnings.catch_warnings()
    _state.__enter__()
    printed = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: Any, **options: Any) -> None:
        if _kept.texts is None:  # a thread that reads no image
            printed(message, category, *rest, **options)
        elif not issubclass(category, DeprecationWarning):
            _keep(str(message))

    warnings.showwarning = show
    warnings.simplefilter("always")
    # Sizes are bounded by `read_image`, in words that name the key.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    for name in _LIBRARIES:
        logging.getLogger(name).addHandler(_handler)


def _stop_listening() -> None:
    for name in _LIBRARIES:
        logging.getLogger(name).removeHandler(_handler)
    _state.__exit__(None, None, None)
