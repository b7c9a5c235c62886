"""Gradient checkpointing, off where it cannot be: it saves memory, and changes nothing else.

The forward pass that it does again in the backward pass is not inside the modes in which the first was done
(attribution's rules, attention by plain products), and its reentrant kind knows no `torch.autograd.grad`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch.utils.checkpoint as torchs

__all__ = ["without_checkpointing"]


@contextmanager
def without_checkpointing() -> Iterator[None]:
    """While active, `torch.utils.checkpoint.checkpoint` of either kind calls its function and no more."""
    # Models import `checkpoint` by name, so what it calls is replaced: these two, as of torch 2.1 to 2.13.
    with (
        patch.object(torchs.CheckpointFunction, "apply", _apply),
        patch.object(torchs, "_checkpoint_without_reentrant_generator", _nothing_around),
    ):
        yield


def _apply(function: Callable[..., Any], _preserve_rng_state: bool, *arguments: Any) -> Any:
    return function(*arguments)


def _nothing_around(*_: Any, **__: Any) -> Iterator[None]:
    """What `checkpoint` advances before it calls the function, and after."""
    yield
