"""Evaluation mode that leaves every submodule's own mode as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluating"]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Hold `model` in evaluation mode; afterwards every module is in the mode it was in.

    A fine-tuner's frozen stage may be in evaluation mode inside a model in training mode, so one flag for
    all is not enough. Flags are set directly: `train()` and `eval()` may be overridden and do more than
    set flags.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training
