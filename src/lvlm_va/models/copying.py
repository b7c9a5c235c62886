"""Copies of the user's module: every stage works on one, and the module itself stays as it was."""

import copy
import io
import threading
import types
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lvlm_va.errors import LvlmVaError, ModelError
from lvlm_va.io.raised import place
from lvlm_va.models.memory import reason

__all__ = ["copied"]

M = TypeVar("M", bound=nn.Module)

_SHARED = (
    types.ModuleType,
    io.IOBase,
    threading.local,
    type(threading.Lock()),
    type(threading.RLock()),
)
"""What a module may hold that cannot be copied and has no part in its answers: a copy holds the same."""


def copied(model: M, *, without_kept: bool = False) -> M:
    """A copy that shares no weights with `model`.

    Tensors that were computed and then kept (an activation, the weight of the older `weight_norm`) are copied
    without their history, which torch refuses to copy.

    Args:
        model: any module.
        without_kept: fill those tensors with NaN, so that a forward pass that uses them shows it.

    Raises:
        ModelError: if the model cannot be copied, or its copy shares weights with it.
    """
    memo: dict[int, Any] = {
        id(value): value
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, _SHARED)
    }
    try:
        with _WithoutHistory(without_kept):
            twin = copy.deepcopy(model, memo)
    except LvlmVaError:
        raise
    except Exception as error:  # a user's __deepcopy__ may raise anything
        raise ModelError(
            f"the model cannot be copied, and it is copies that are trained and aligned: {reason(error)}"
            f"{place(error)}; "
            "keep what cannot be copied outside the module, or give its class a __deepcopy__ that works"
        ) from error
    own = {id(tensor) for tensor in _tensors(model)}
    if type(twin) is not type(model) or any(id(tensor) in own for tensor in _tensors(twin)):
        raise ModelError(
            "copy.deepcopy of the model gives no copy of its own but shares weights with it, so that "
            "alignment would change your model; mend the __deepcopy__ of its class"
        )
    return twin


class _WithoutHistory(TorchFunctionMode):
    """Lets `copy.deepcopy` copy tensors that are no leaves of the autograd graph."""

    def __init__(self, blank: bool) -> None:
        super().__init__()
        self.blank = blank

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not Tensor.__deepcopy__ or args[0].is_leaf:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        if id(tensor) not in memo:
            values = tensor.detach()
            fresh = torch.full_like(values, torch.nan) if self.blank else values.clone()
            # No leaf either, so that a copy of the copy can still be told from one with a constant.
            with torch.enable_grad():
                memo[id(tensor)] = fresh.requires_grad_().clone()
        return memo[id(tensor)]


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
