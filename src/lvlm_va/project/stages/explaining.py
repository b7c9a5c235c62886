"""What a process, or a worker on another machine, does with a part of the images."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lvlm_va.explain.attribution import Attribution, Explainer
from lvlm_va.explain.sampling import entropy_of_part
from lvlm_va.models.likelihood import Likelihood
from lvlm_va.models.predict import logits_of_images
from lvlm_va.project.inputs import choose_device

__all__ = ["PartExplained", "explaining", "scoring"]


def scoring(
    model: nn.Module, device: str, only: int | None, note: Callable[[str], None]
) -> Callable[[Tensor, Tensor], Tensor]:
    """What scores (n, C, H, W) images and their labels: (2, n) float64, entropy and class to be explained."""
    model = model.to(choose_device(device))

    def score(images: Tensor, labels: Tensor) -> Tensor:
        outputs = logits_of_images(model, images, note=note)
        likelihood = Likelihood.of(labels)
        classes = likelihood.explained(outputs, labels, only) if likelihood.several else labels
        # Of several labels, how sure the model is of the one that was asked for, else of all.
        asked = outputs if only is None else outputs[:, only, None]
        return torch.stack([entropy_of_part(asked, several=likelihood.several), classes.double()])

    return score


PartExplained = tuple[Attribution, Tensor, Tensor]
"""Φ of some images, the classes that it explains, and those predicted."""


def explaining(
    model: nn.Module,
    device: str,
    baselines: Tensor,
    total: int,
    options: Mapping[str, Any],
    several: bool,
    note: Callable[[str], None],
) -> Callable[[int, Tensor, Tensor | None], PartExplained]:
    """What explains a part of `total` images: the number of its first, images, classes or None."""
    model = model.to(choose_device(device))
    explainer = Explainer(model, baselines, total, **options, note=note)

    def explain(first: int, images: Tensor, targets: Tensor | None) -> PartExplained:
        outputs = logits_of_images(model, images, note=note)
        predicted = Likelihood.answers(outputs, targets if several else None)
        targets = predicted if targets is None else targets
        return explainer.explain(images, targets, first=first), targets, predicted

    return explain
