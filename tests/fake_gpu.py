"""A GPU that is not there: tensors of a device of their own, which compute on the CPU but never mix.

What CUDA refuses is refused here: an operation on tensors of both devices, but for numbers (tensors without
dimensions), copies, and indices, which it takes from the CPU. The device is "lazy", which torch knows of but
does nothing for.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

from lvlm_va.models import compute
from lvlm_va.training import loop

GPU = torch.device("lazy:0")
_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
_INDEXED = (
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._index_put_impl_.default,
)


class OnGPU(torch.Tensor):
    """A tensor of that device; `held` has its numbers."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnGPU":
        made: OnGPU = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=GPU,
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        """As of any tensor: torch refuses it to subclasses."""
        return self.cpu().tolist()

    def new_tensor(self, data: Any, **_: Any) -> torch.Tensor:
        """As of any tensor: torch asks the device itself for it."""
        return torch.tensor(data, dtype=self.dtype).to(GPU)

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """Inside the block there is the device `GPU`; training is in float32, and not seeded."""
    monkeypatch.setattr(compute, "has_bfloat16", lambda device: False)
    monkeypatch.setattr(loop, "seeded", lambda seed, device: nullcontext())
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(
        sys.modules["torch.optim.adam"], "_device_dtype_check_for_fused", lambda *a, **k: None
    )
    # The engine has no thread for a device that is not there.
    with _Mode(), torch.autograd.set_multithreading_enabled(False):
        yield GPU


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    given = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
    there = any(isinstance(t, OnGPU) for t in given)
    if there and func not in _COPIES:
        checked = [args[0], *args[2:]] if func in _INDEXED else given
        for t in tree_flatten(checked)[0]:
            if isinstance(t, torch.Tensor) and not isinstance(t, OnGPU) and t.ndim:
                raise RuntimeError(f"{func}: tensors on the GPU and on the CPU, {tuple(t.shape)}")
    device = kwargs.get("device")
    if device is not None:
        there = torch.device(device).type == GPU.type
        kwargs = kwargs | {"device": torch.device("cpu")}
    if func is torch.ops.aten.copy_.default:
        there = isinstance(args[0], OnGPU)

    def unwrap(value: Any) -> Any:
        return value.held if isinstance(value, OnGPU) else value

    def wrap(value: Any) -> Any:
        return OnGPU(value) if there and isinstance(value, torch.Tensor) else value

    out = func(*tree_map(unwrap, args), **tree_map(unwrap, kwargs))
    if func is torch.ops.aten._to_copy.default and isinstance(args[0], torch.Tensor) and not there:
        return out
    return return_and_correct_aliasing(func, args, kwargs, tree_map(wrap, out))
