"""What a process, or a worker on another machine, does with a part of the images."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from lvlm_va.explain.attribution import Attribution, Explainer
from lvlm_va.models.predict import logits_of_images
from lvlm_va.project.inputs import choose_device

__all__ = ["PartExplained", "explaining", "scoring"]


def scoring(model: nn.Module, device: str, note: Callable[[str], None]) -> Callable[[Tensor], Tensor]:
    """What computes the logits (n, K) of a part of the images."""
    model = model.to(choose_device(device))
    return lambda images: logits_of_images(model, images, note=note)


PartExplained = tuple[Attribution, Tensor, Tensor]
"""Φ of some images, the classes that it explains, and those predicted."""


def explaining(
    model: nn.Module,
    device: str,
    baselines: Tensor,
    total: int,
    options: Mapping[str, Any],
    note: Callable[[str], None],
) -> Callable[[int, Tensor, Tensor | None], PartExplained]:
    """What explains a part of `total` images: the number of its first, images, classes or None."""
    model = model.to(choose_device(device))
    explainer = Explainer(model, baselines, total, **options, note=note)

    def explain(first: int, images: Tensor, targets: Tensor | None) -> PartExplained:
        predicted = logits_of_images(model, images, note=note).argmax(1)
        targets = predicted if targets is None else targets
        return explainer.explain(images, targets, first=first), targets, predicted

    return explain
