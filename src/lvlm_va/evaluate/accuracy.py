"""Accuracy: the plain average over images."""

from torch import Tensor

__all__ = ["accuracy"]


def accuracy(outputs: Tensor, labels: Tensor) -> float:
    """Share of images whose largest output (N, K) is the label (N,)."""
    return float((outputs.argmax(1) == labels).double().mean())
