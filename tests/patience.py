"""How long a test waits for a process or a thread before it calls that a hang."""

import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

PATIENCE = 1800
"""Seconds. It says nothing about speed: a machine ten times slower than any of ours passes too."""


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[Any]") -> None:
    """Wait for what a child process does; a child that ended without doing it fails the test at once."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if process.poll() is not None and not condition():
            raise AssertionError(f"the process ended ({process.returncode}): {process.communicate()}")
        assert time.monotonic() < deadline, "the process hangs"
        time.sleep(0.02)


def output_of(command: Sequence[object], **options: Any) -> str:
    """What a child prints; one that fails, fails the test with what it printed to both streams."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False, **options)
    assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
