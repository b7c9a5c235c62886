"""How the command ends: by Ctrl-C or SIGTERM, and by an exception that nobody expected.

It guards the imports of everything else, so at the top it imports nothing that takes time.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing's own would have to be imported
if not TYPE_CHECKING:
    import _signal as signal  # what `signal` dresses up in enumerations, which take their time
else:
    import signal
    from pathlib import Path
    from types import FrameType
    from typing import NoReturn

__all__ = ["STOPPED", "asked_to_stop", "end_by_signals", "leaving", "note_run", "starting", "write_trace"]

STOPPED = "stopped; what is done is kept, the same command resumes"
GRACE = 10.0
"""Seconds to leave in good order; threads that are stuck and code that swallows exceptions get no more."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_EXIT_CODE = 130

_calls = 0  # of end_by_signals
_asked = False  # to stop, or the command is leaving anyway
_said = False
_run: Path | None = None


class starting:  # noqa: N801 -- used like a function, as contextlib's managers are
    """While the block imports: a signal ends the process at once, with one sentence.

    There is nothing to clean up yet, and an exception amid the imports of a library may come out as anything.
    """

    def __enter__(self) -> None:
        try:
            self._before = [(number, signal.signal(number, _end_now)) for number in _SIGNALS]
        except ValueError:  # not the main thread, which alone may do this
            self._before = []

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)


def end_by_signals() -> None:
    """From now on SIGINT and SIGTERM raise KeyboardInterrupt, and the process does end.

    KeyboardInterrupt is no `Exception`, so little code swallows it. Where it is swallowed all the same, or
    where the main thread waits for a thread that is stuck, the process ends `GRACE` seconds later, and a
    second signal ends it at once. Whoever puts another handler in place, to finish what is under way, has the
    time that takes.
    """
    from threading import Thread

    global _calls, _asked, _said
    _calls += 1
    _asked = _said = False
    for number in _SIGNALS:
        signal.signal(number, _stop)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    # Written to by the handler in C, at once, also where the main thread is in C code and runs no Python.
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    if _calls > 1 and before >= 0:
        os.close(before)  # its thread ends
    Thread(target=_watch, args=(reading, _calls), name="signals", daemon=True).start()


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    global _asked
    if _asked:
        _end("stopped at once; what is done is kept, the same command resumes")
    _asked = True
    raise KeyboardInterrupt


def _watch(reading: int, call: int) -> None:
    from time import sleep

    while number := os.read(reading, 1):
        left = GRACE if number[0] in _SIGNALS else float("inf")
        while 0 < left < float("inf") and call == _calls:
            sleep(0.1)
            if signal.getsignal(number[0]) is _stop:
                left -= 0.1
        if left <= 0:
            _end(STOPPED)
    os.close(reading)


def asked_to_stop() -> bool:
    """Whether a signal came: an import that it broke off may go on as any exception."""
    return _asked


def leaving() -> None:
    """The command has said how it ends: what a signal can stop now is only the waiting for threads."""
    global _asked, _said
    _asked = _said = True


def _end_now(_number: int, _frame: FrameType | None) -> NoReturn:
    _end("stopped")


def _end(message: str) -> NoReturn:
    """Leave without waiting for anything."""
    try:
        if not _said:
            # Progress bars hide the cursor.
            os.write(2, b"\x1b[?25h" * os.isatty(2) + f"lvlm-va: {message}\n".encode())
    finally:
        os._exit(_EXIT_CODE)


def note_run(path: Path | None) -> None:
    """The run that is worked on: where the trace of a defect goes."""
    global _run
    _run = path


def write_trace(error: BaseException) -> Path | None:
    """Write the traceback to a file in the run, or else in the working folder; None if neither takes it."""
    import platform
    import time
    import traceback
    from pathlib import Path

    from lvlm_va._version import __version__
    from lvlm_va.io.redaction import redact

    text = (
        f"lvlm-va {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"{sys.argv!r}\n\n{''.join(traceback.format_exception(error))}"
    )
    text = redact(text)
    name = f"lvlm-va-defect-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for folder in (_run, Path()):
        try:
            if folder is not None:
                path = (folder / name).absolute()
                path.write_text(text, encoding="utf-8", errors="backslashreplace")
                return path
        except OSError:
            continue
    return None
