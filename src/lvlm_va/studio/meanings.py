"""The sentence encoder, loaded in the background: the first page does not wait for it."""

import threading
from contextlib import suppress

from lvlm_va.errors import LvlmVaError
from lvlm_va.vision.encoder import encode

__all__ = ["are_ready", "load"]

_ready = threading.Event()


def load() -> None:
    """Begin to load it; once it is there, `are_ready`."""
    threading.Thread(target=_load, name="meanings", daemon=True).start()


def _load() -> None:
    with suppress(LvlmVaError):  # what needs it says so
        encode(["a word"])
    _ready.set()


def are_ready() -> bool:
    """Whether meanings are at hand."""
    return _ready.is_set()
