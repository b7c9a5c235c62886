"""Tensors from a file that can be weights: of the right kind of number, and undamaged."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lvlm_va.errors import ModelError

__all__ = ["dtype_name", "require_sound"]

_ABSURD = 1e18
"""No training leads there: the square no longer fits into float32. A flipped exponent bit does."""


def dtype_name(dtype: torch.dtype) -> str:
    """E.g. "float32"."""
    return str(dtype).removeprefix("torch.")


def require_sound(own: Mapping[str, Tensor], state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a file's tensors where they cannot be the module's weights.

    Numbers that no training leads to (NaN, infinite, absurdly large) are allowed where the module itself has
    the same: the mask of an attention layer, say.

    Args:
        own: the module's state_dict.
        state: the file's, of the same names and shapes.
        path: of the file, for the message.

    Raises:
        ModelError: naming the first such tensor, and why.
    """
    for name, tensor in state.items():
        if (why := _unsound(own[name], tensor)) is not None:
            raise ModelError(f"{path}: {name} {why}")


def _unsound(own: Tensor, tensor: Tensor) -> str | None:
    if tensor.is_meta:
        return "has a shape but no values; save the weights themselves"
    if tensor.is_quantized or tensor.layout != torch.strided:
        what = "quantised" if tensor.is_quantized else "sparse"
        return f"is {what}; save ordinary, dense {dtype_name(own.dtype)} numbers"
    # Whoever saves a whole file in half precision turns batch counters into floats, too.
    counters = _kind(own) == "integer" and _converts(tensor, own.dtype)
    if _kind(tensor) != _kind(own) and not counters:
        return (
            f"holds {dtype_name(tensor.dtype)} numbers instead of {dtype_name(own.dtype)}, which are of "
            "another kind and are not converted; was the file written for this model?"
        )
    if not tensor.is_floating_point() and not tensor.is_complex():
        return None
    # As the module will have them: float64 may be too large for float32.
    became = tensor.to(own.dtype)
    odd = ~(became.abs() <= _ABSURD)
    if bool(odd.any()):
        same = own.detach().to(tensor.device)[odd]
        if not torch.equal(became[odd].nan_to_num(), same.nan_to_num()):
            worst = became[odd].flatten()[0].item()
            count = f"{int(odd.sum())} of {odd.numel()} numbers"
            return (
                f"is damaged: {count} are NaN, infinite or absurdly large (the first is {worst:g}); get "
                "the file again, or take an earlier checkpoint"
            )
    return None


def _converts(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether floating-point numbers become integers of `dtype` without loss."""
    return tensor.is_floating_point() and torch.equal(tensor.to(dtype).to(tensor.dtype), tensor)


def _kind(tensor: Tensor) -> str:
    if tensor.is_complex():
        return "complex"
    if tensor.is_floating_point():
        return "floating-point"
    return "boolean" if tensor.dtype == torch.bool else "integer"
