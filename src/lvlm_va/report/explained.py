"""Fig. 4: the same test images, explained before and after alignment."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lvlm_va.critique.rendering import enlarge, heatmap, smoothed
from lvlm_va.evaluate.alignment import mu_align
from lvlm_va.report.images import Figure, figure, outline
from lvlm_va.report.record import Explanations
from lvlm_va.report.words import percent

__all__ = ["Change", "Side", "changes"]

_SIZE = 320  # pixels of the shorter side of an image


@dataclass(frozen=True)
class Side:
    """One model's explanation of an image.

    Attributes:
        heatmap: where its evidence lies; the planted feature is outlined where it is known.
        predicted: class name.
        right: whether that is the image's class.
        on_planted: share of |Φ| on the planted feature, in words; "" where the feature is not known.
    """

    heatmap: Figure
    predicted: str
    right: bool
    on_planted: str


@dataclass(frozen=True)
class Change:
    """One test image, its class, and its explanation by both models on the same scale."""

    image_id: str
    label: str
    original: Figure
    before: Side
    after: Side


def changes(explanations: Explanations) -> list[Change]:
    """One `Change` per image, in order."""
    found = []
    for n, (image_id, label) in enumerate(zip(explanations.ids, explanations.labels, strict=True)):
        image, maps = explanations.images[n], (explanations.before[n], explanations.after[n])
        drawn = [smoothed(values) for values in maps]
        planted = None if explanations.spurious is None else explanations.spurious[n]
        limit = max(float(np.quantile(np.abs(values), 0.99)) for values in drawn)
        predictions = explanations.predicted_before[n], explanations.predicted_after[n]
        before, after = (
            _side(
                enlarge(heatmap(shown, image, limit=limit), min_size=_SIZE),
                predicted,
                label,
                _on_planted(values, planted),
                planted,
                f"Test image {image_id} explained {when} alignment",
            )
            for values, shown, predicted, when in zip(
                maps, drawn, predictions, ("before", "after"), strict=True
            )
        )
        original = figure(enlarge(image, min_size=_SIZE), f"Test image {image_id}, class {label}.")
        found.append(Change(image_id, label, original, before, after))
    return found


def _side(
    pixels: NDArray[np.uint8],
    predicted: str,
    label: str,
    on_planted: str,
    planted: NDArray[np.bool_] | None,
    title: str,
) -> Side:
    right = predicted == label
    alt = f"{title}: predicted {predicted}, which is {'right' if right else 'wrong'}"
    if on_planted:
        alt += f"; {on_planted} of the explanation lies on the planted feature, which is outlined"
    drawn = pixels if planted is None else outline(pixels, planted)
    return Side(figure(drawn, f"{alt}."), predicted, right, on_planted)


def _on_planted(values: NDArray[np.float32], planted: NDArray[np.bool_] | None) -> str:
    if planted is None or not planted.any():
        return ""
    measured = mu_align(torch.from_numpy(values)[None], torch.from_numpy(planted)[None])
    return percent(1 - measured.mean)
