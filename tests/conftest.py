"""What holds for all tests."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A test is judged by what it finds, not by how busy the machine is.
settings.register_profile("lvlm-va", deadline=None)
settings.load_profile("lvlm-va")


@pytest.fixture(autouse=True)
def _no_watcher() -> Iterator[None]:
    """A command that ran in this process watches for signals to its end; tests go on and send their own."""
    yield
    signal.set_wakeup_fd(-1)
