"""The classifier of the DecoyMNIST experiment (Sec. 5.1): a multi-layer perceptron."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

__all__ = ["MLP"]


class MLP(nn.Module):
    """Flattened pixels, hidden layers with ReLU, one logit per class.

    Args:
        in_shape: (C, H, W) of the images.
        hidden: widths of the hidden layers.
        num_classes: K.
    """

    def __init__(
        self,
        in_shape: Sequence[int] = (1, 28, 28),
        hidden: Sequence[int] = (256, 256),
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        widths = [math.prod(in_shape), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) float in [0, 1] → (n, K) logits."""
        logits: Tensor = self.layers(x)
        return logits
