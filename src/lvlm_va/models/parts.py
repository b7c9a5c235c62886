"""What a module is made of: whether it can be trained at all, and kept in a file."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from lvlm_va.errors import ModelError
from lvlm_va.io.raised import place
from lvlm_va.models.adapter import is_compiled
from lvlm_va.models.memory import reason

__all__ = ["check_parts"]


def check_parts(module: nn.Module) -> None:
    """Refuse a module that cannot be trained whatever it computes, or whose weights no checkpoint can hold.

    Args:
        module: the user's own.

    Raises:
        ModelError: naming the part, what it is, and what to give instead.
    """
    for name, part in module.named_modules():
        if (cause := _cause(part)) is not None:
            what, instead = cause
            where = f"the model's part {name}" if name else "the model"
            raise ModelError(f"{where} is {what} ({type(part).__name__}); {instead}")
    try:
        state = module.state_dict()
    except Exception as error:  # a user's own state_dict or get_extra_state may raise anything
        raise ModelError(f"the model's state_dict() fails: {reason(error)}{place(error)}") from error
    for name, value in state.items():
        if (unfit := _unfit(value)) is not None:
            raise ModelError(f"the model's {name} {unfit}")


def _cause(part: nn.Module) -> tuple[str, str] | None:
    """What this kind of module is, and what to give instead; None for an ordinary one."""
    kind = type(part)
    if isinstance(part, torch.jit.ScriptModule):
        return "scripted or traced by torch.jit, which hides its operations and cannot be trained further", (
            "give the module it was made from"
        )
    if is_compiled(part) or getattr(part, "_compiled_call_impl", None) is not None:
        return "compiled by torch.compile, which cannot be differentiated twice", (
            "give the module without torch.compile (model._orig_mod, where it was called on one)"
        )
    if ".quantized" in kind.__module__ and kind.__module__.startswith("torch."):
        return "quantised, so that its weights cannot be trained", (
            "give the floating-point model it was made from, and quantise the aligned one"
        )
    return None


def _unfit(value: Any) -> str | None:
    """Why an entry of a state_dict cannot be kept in a checkpoint; None where it can."""
    if not isinstance(value, Tensor):
        return (
            f"is extra state, {type(value).__name__} instead of a tensor, which a checkpoint cannot "
            "hold; keep it in a buffer, or let get_extra_state return a tensor"
        )
    if isinstance(value, (UninitializedBuffer, UninitializedParameter)):
        return "has no shape yet (a lazy layer); show the model one batch before you return it"
    if value.is_meta:
        return "has no values (it is on the meta device); load its weights first"
    if value.is_quantized:
        return "is quantised and cannot be trained; give the floating-point model"
    if value.layout != torch.strided:
        layout = str(value.layout).removeprefix("torch.")
        return f"is a sparse tensor ({layout}), which a checkpoint cannot hold; keep it dense (to_dense())"
    return None
