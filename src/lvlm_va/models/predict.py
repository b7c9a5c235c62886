"""The outputs of a classifier on an image set."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lvlm_va.data.imageset import ImageSet, images_on
from lvlm_va.models.adapter import adapted
from lvlm_va.models.compute import full_float32
from lvlm_va.models.memory import in_parts
from lvlm_va.models.mode import evaluating

__all__ = ["logits"]


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
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    model = adapted(model)

    def part(rows: slice) -> Tensor:
        outputs: Tensor = model(images_on(images, chosen[rows], device))
        return outputs.cpu()

    found = torch.empty(0, 0)
    first = 0
    # Not in inference mode: what a model caches in there could not be trained with afterwards.
    with evaluating(model), torch.no_grad(), full_float32():
        for outputs in in_parts(len(chosen), batch, part, note):
            if not first:
                found = outputs.new_empty(len(chosen), *outputs.shape[1:])
            # Into its place: thousands of small tensors between large ones that come and go can pin the heap.
            found[first : first + len(outputs)] = outputs
            first += len(outputs)
    return found
