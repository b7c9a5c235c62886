"""`lvlm-va` on the small data set, with a mishap; the first arguments say which, and where."""

import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import small
from lvlm_va.cli import main as cli
from lvlm_va.io import ending
from lvlm_va.project import inputs as project
from lvlm_va.project import pipeline


def stuck(*_: Any, **__: Any) -> Any:
    """Waits for a thread that never ends, as a pool does at its end."""
    thread = threading.Thread(target=time.sleep, args=(100_000,))
    thread.start()
    Path("ready").touch()
    thread.join()


def exiting(*_: Any, **__: Any) -> Any:
    """Ends, and leaves a thread behind for which the interpreter waits."""
    threading.Thread(target=time.sleep, args=(100_000,)).start()
    Path("ready").touch()
    raise KeyboardInterrupt


def swallowing(*_: Any, **__: Any) -> Any:
    """Code that catches everything, again and again."""
    Path("ready").touch()
    while True:
        with suppress(BaseException):
            time.sleep(100_000)


def broken(*_: Any, **__: Any) -> Any:
    raise KeyError("the key sk-secret-42\x1b[2J\nlvlm-va: all is well")


def leaving(*_: Any, **__: Any) -> Any:
    sys.exit(0)


def without_memory(*_: Any, **__: Any) -> Any:
    raise MemoryError


def main() -> None:
    """Put the mishap where the training is, or where the data are read, and run the command."""
    torch.set_num_threads(1)
    what, where = sys.argv.pop(1), sys.argv.pop(1)
    ending.GRACE = 0.5
    project.load_splits = lambda config, *, log: small.splits()
    mishap = globals()[what]
    if where == "run":
        pipeline.original_model = mishap
    else:
        project.load_splits = mishap
    cli.main()


if __name__ == "__main__":
    main()
