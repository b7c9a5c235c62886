"""Gradients that are no numbers, found before an optimizer takes them for some."""

import torch
from torch import nn

__all__ = ["UNDER_A_ROOT", "finite_gradients"]

UNDER_A_ROOT = (
    "as a rule the model takes a root, a norm or a standard deviation of something that is zero: add a small "
    "number under the root"
)
"""What to look for where a function is finite and its derivative is not."""


def finite_gradients(model: nn.Module) -> bool:
    """Whether all gradients that the parameters have are finite; one synchronisation with a GPU."""
    finite = [p.grad.isfinite().all() for p in model.parameters() if p.grad is not None]
    return not finite or bool(torch.stack(finite).all())
