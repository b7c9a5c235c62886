"""The outputs of a classifier on an image set."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lvlm_va.data.imageset import ImageSet, images_on
from lvlm_va.models.adapter import adapted
from lvlm_va.models.compute import full_float32
from lvlm_va.models.memory import in_parts
from lvlm_va.models.mode import evaluating

__all__ = ["logits", "logits_of_images"]


def logits(
    model: nn.Module,
    images: ImageSet,
    indices: Tensor | None = None,
    *,
    batch: int = 512,
    note: Callable[[str], None] = lambda _: None,
) -> Tensor:
    """(n, K) outputs in evaluation mode, on the CPU; every module is left in the mode it was in.

    Args:
        model: maps (n, C, H, W) in [0, 1] to (n, K), see `Adapted`.
        images: the set.
        indices: (n,) int64 positions in the set; all of it when None.
        batch: images per forward pass; halved where memory runs out.
        note: told when it is halved.

    Raises:
        ModelError: if the logits cannot be told from the model's other outputs.
    """
    chosen = torch.arange(len(images)) if indices is None else indices
    device = _device(model)
    return _logits(model, len(chosen), lambda rows: images_on(images, chosen[rows], device), batch, note)


def logits_of_images(
    model: nn.Module, images: Tensor, *, batch: int = 512, note: Callable[[str], None] = lambda _: None
) -> Tensor:
    """The same of (n, C, H, W) images in [0, 1], wherever they are.

    Raises:
        ModelError: if the logits cannot be told from the model's other outputs.
    """
    device = _device(model)
    return _logits(model, len(images), lambda rows: images[rows].to(device), batch, note)


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _logits(
    model: nn.Module,
    total: int,
    images: Callable[[slice], Tensor],
    batch: int,
    note: Callable[[str], None],
) -> Tensor:
    model = adapted(model)

    def part(rows: slice) -> Tensor:
        outputs: Tensor = model(images(rows))
        return outputs.cpu()

    found = torch.empty(0, 0)
    first = 0
    # Not in inference mode: what a model caches in there could not be trained with afterwards.
    with evaluating(model), torch.no_grad(), full_float32():
        for outputs in in_parts(total, batch, part, note):
            if not first:
                found = outputs.new_empty(total, *outputs.shape[1:])
            # Into its place: thousands of small tensors between large ones that come and go can pin the heap.
            found[first : first + len(outputs)] = outputs
            first += len(outputs)
    return found
