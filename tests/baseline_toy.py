"""Images of two pixels whose best classifiers are known in closed form.

The first pixel is the core feature, ½ ± d with Gaussian noise σ; the second is the spurious one, ½ ± ¼
without noise, which agrees with the class in a share p of the images. The log-odds of the class are linear
in both: ± ln(p / (1 − p)) + 2d · (core − ½) / σ². With p = 0.95 and σ = d they are ±2.94 + N(±2, 2²), so the
best classifier is right in a share Φ((2 − 2.94) / 2) = 0.32 of the images in which the two disagree; where
the spurious feature says nothing it is right in Φ(1) = 0.84 of every group.
"""

import math
from statistics import NormalDist

import torch
from torch import nn

from lvlm_va.data.imageset import ArrayImageSet, Groups, ImageSet, groups_of
from lvlm_va.evaluate.groups import group_accuracy
from lvlm_va.models.predict import logits

CLASSES = ("low", "high")
GROUPS = ("low, dark", "low, light", "high, dark", "high, light")
D = 0.08
SHORTCUT = NormalDist().cdf((2 - math.log(19)) / 2)
SOUND = NormalDist().cdf(1)


def images(n: int, *, agree: float, seed: int, name: str = "p") -> ArrayImageSet:
    """n images (n, 1, 1, 2) with alternating labels; exactly a share `agree` has an honest second pixel."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    honest = (torch.arange(n) // 2) < round(agree * n / 2)
    spurious = torch.where(honest, labels, 1 - labels)
    core = 0.5 + D * (2 * labels - 1) + D * torch.randn(n, generator=g)
    pixels = torch.stack([core, 0.25 + 0.5 * spurious], 1)[:, None, None].float().clamp(0, 1)
    return ArrayImageSet(
        pixels,
        labels,
        [f"{name}{i}" for i in range(n)],
        CLASSES,
        groups=Groups(GROUPS, 2 * labels + spurious),
    )


def linear(seed: int = 0) -> nn.Module:
    """Logistic regression; the second pixel is as easily learnt as the first."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(Centred(), nn.Flatten(), nn.Linear(2, 2))


def mlp(seed: int = 0) -> nn.Module:
    """One hidden layer; its 16 units are what DFR weighs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(Centred(), nn.Flatten(), nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2))


class Centred(nn.Module):
    """Pixels about 0 and of the size of 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - 0.5) / 0.15


def worst(model: nn.Module, images: ImageSet) -> float:
    groups = groups_of(images)
    assert groups is not None
    return group_accuracy(logits(model, images), images.labels, groups).worst
