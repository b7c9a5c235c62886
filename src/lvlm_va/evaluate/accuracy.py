"""Accuracy: the plain average over pictures."""

import torch
from torch import Tensor, nn

from lvlm_va.data.imageset import ImageSet

__all__ = ["accuracy", "logits"]


def logits(
    model: nn.Module, pictures: ImageSet, indices: Tensor | None = None, *, batch: int = 512
) -> Tensor:
    """(n, K) outputs in evaluation mode, on the CPU; the model's mode is restored.

    Args:
        model: maps (n, C, H, W) to (n, K).
        pictures: the set.
        indices: (n,) int64 positions in the set; all of it when None.
        batch: pictures per forward pass.
    """
    if indices is None:
        indices = torch.arange(len(pictures))
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            outputs = [model(pictures.images(part).to(device)).cpu() for part in torch.split(indices, batch)]
    finally:
        model.train(training)
    return torch.cat(outputs).clone()


def accuracy(outputs: Tensor, labels: Tensor) -> float:
    """Share of pictures whose largest output (N, K) is the label (N,)."""
    return float((outputs.argmax(1) == labels).double().mean())
