"""Ask a model for its logits and leave no trace in it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lvlm_va.errors import ModelError
from lvlm_va.models.mode import evaluating

__all__ = ["device_and_dtype", "frozen", "logits_of"]


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Hold `model` in evaluation mode with constant parameters; afterwards every flag is as it was.

    With constant parameters a tensor of the forward pass requires a gradient exactly when it depends on the
    input.
    """
    requires_grad = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in requires_grad:
            parameter.requires_grad_(False)
        with evaluating(model):
            yield
    finally:
        for parameter, flag in requires_grad:
            parameter.requires_grad_(flag)


def device_and_dtype(model: nn.Module) -> tuple[torch.device, torch.dtype] | None:
    """Where and how finely `model` computes: as its first floating-point parameter; None without one."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            return parameter.device, parameter.dtype
    return None


def logits_of(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The model's logits.

    Args:
        model: any module that returns a tensor of one logit per class.
        inputs: (R, C, H, W).
        targets: (n,) int64, the classes that must exist.

    Returns:
        (R, K) logits.

    Raises:
        ModelError: if the output is no (R, K) tensor or a target is not among its K classes.
    """
    logits: Tensor = model(inputs)
    if logits.ndim != 2 or len(logits) != len(inputs):
        raise ModelError(
            f"the model answered {len(inputs)} images with {tuple(logits.shape)} instead of logits of "
            f"shape ({len(inputs)}, number of classes); wrap it in a module that returns the logits alone"
        )
    classes = logits.shape[1]
    if bool(((targets < 0) | (targets >= classes)).any()):
        raise ModelError(
            f"the model has {classes} outputs, but targets run from {int(targets.min())} to "
            f"{int(targets.max())}; targets must lie in 0..{classes - 1}"
        )
    return logits
