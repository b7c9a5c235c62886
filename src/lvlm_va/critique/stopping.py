"""Ending a run cleanly on Ctrl-C or SIGTERM."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["stop_by_signal"]

_log = logging.getLogger(__name__)


@contextmanager
def stop_by_signal() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second raises KeyboardInterrupt, and those after
    it do what they did before the block.
    """
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            restore()
            earlier = before[signal.Signals(number)]
            if callable(earlier):
                earlier(number, frame)  # the command line's: it sees to it that the process does end
            raise KeyboardInterrupt
        stop.set()
        # A call may be waiting out a Retry-After of minutes: say what is going on, and the way out.
        _log.warning("finishing the calls under way, which are paid for; interrupt again to stop at once")

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals; its owner decides what they mean
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        restore()
