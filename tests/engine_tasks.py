"""Functions that other processes import: see test_engines.py and test_experiments.py."""

import os
import signal
import time
from pathlib import Path

from lvlm_va.errors import DataError, Interrupted


def product(a: int, b: int) -> int:
    return a * b


def where(_: int) -> int:
    """The process, long enough that another gets work, too."""
    time.sleep(0.3)
    return os.getpid()


def refused() -> None:
    raise DataError("the images are gone")


def interrupted(kind: type[BaseException] = Interrupted) -> None:
    raise kind("stop")


def defect() -> None:
    raise ZeroDivisionError("a defect")


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def touch(folder: str, name: str, *, seconds: float = 0.0) -> str:
    """Leaves a mark when it starts."""
    (Path(folder) / name).write_text(str(time.time()))
    time.sleep(seconds)
    return name


def slow(folder: str, name: str) -> str:
    return touch(folder, name, seconds=100_000)


def add_lines(folder: str, who: int) -> None:
    from experiments.store import TrialStore

    store = TrialStore(Path(folder), "terms")
    for number in range(20):
        store.add({"trial": f"{who} {number}", "inputs": "i", "value": "x" * 5000})
