"""What a classifier's last layer is given: its own description of an image."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lvlm_va.errors import ModelError
from lvlm_va.models.adapter import adapted
from lvlm_va.models.compute import full_float32
from lvlm_va.models.memory import in_parts
from lvlm_va.models.mode import evaluating

__all__ = ["activations"]


def activations(
    model: nn.Module,
    images: Callable[[slice], Tensor],
    total: int,
    *,
    batch: int = 64,
    note: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Tensor:
    """(n, D) float32: the input of the last layer with weights that ran, averaged over places or tokens.

    Args:
        model: maps (n, C, H, W) in [0, 1] to (n, K).
        images: gives the images of a slice, (·, C, H, W), when they are needed.
        total: n.
        batch: images per forward pass; halved where memory runs out.
        note: told when it is halved.
        progress: told how many are done.

    Raises:
        ModelError: if no layer of the model has weights, or its input is not one row an image.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    model = adapted(model)
    given: dict[str, Any] = {}

    def remember(_layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        tensor = next((a for a in arguments if isinstance(a, Tensor) and a.is_floating_point()), None)
        if tensor is not None:
            given["last"] = tensor

    layers = [m for m in model.modules() if next(m.parameters(recurse=False), None) is not None]
    hooks = [layer.register_forward_pre_hook(remember) for layer in layers]

    def part(rows: slice) -> Tensor:
        some = images(rows)
        given.clear()
        model(some.to(device))
        last = given.get("last")
        if last is None or last.ndim < 2 or len(last) != len(some):
            raise ModelError("the model's last layer is not given one row of numbers for each image")
        progress(rows.stop, total)
        last = last.detach().float().cpu()
        assert isinstance(last, Tensor)
        # Places follow the channels (n, C, H, W); tokens precede them (n, T, C).
        return last.mean(dim=1) if last.ndim == 3 else last.flatten(2).mean(2) if last.ndim > 3 else last

    try:
        with evaluating(model), torch.no_grad(), full_float32():
            return torch.cat(list(in_parts(total, batch, part, note)))
    finally:
        for hook in hooks:
            hook.remove()
