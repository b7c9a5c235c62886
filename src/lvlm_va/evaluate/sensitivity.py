"""Confounder sensitivity: does the prediction flip when the planted feature is put in or taken out?"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lvlm_va.data.counterfactual_pairs import Changed, CounterfactualPairs
from lvlm_va.data.imageset import ImageSet

__all__ = ["Flips", "Sensitivity", "sensitivity"]


@dataclass(frozen=True)
class Flips:
    """What a change of the images changed about the predictions.

    Attributes:
        images: how many were changed.
        flipped: how many of them are then predicted to be of another class.
        probability: mean change of the probability of the true class, after less before, in [−1, 1].
        absolute: mean of its absolute value, in [0, 1]: changes in both directions do not cancel.
        classes: true class → the same for its images alone; classes without one are left out.
    """

    images: int
    flipped: int
    probability: float
    absolute: float
    classes: "dict[str, Flips]"

    @property
    def rate(self) -> float:
        """Share of the changed images whose prediction flips."""
        return self.flipped / self.images


@dataclass(frozen=True)
class Sensitivity:
    """How much a model depends on the planted feature, all else equal.

    Attributes:
        added: images without the feature that were given one; None where there are none.
        removed: images with the feature that lost it; None where there are none.
        cannot_add: images without the feature that could be given none.
        cannot_remove: images whose feature could not be taken out exactly, such as a natural one.
    """

    added: Flips | None
    removed: Flips | None
    cannot_add: int
    cannot_remove: int

    @property
    def rate(self) -> float:
        """Share of flips over both changes; NaN where nothing could be changed."""
        both = [flips for flips in (self.added, self.removed) if flips is not None]
        n = sum(flips.images for flips in both)
        return sum(flips.flipped for flips in both) / n if n else float("nan")


def sensitivity(
    predict: Callable[[ImageSet], Tensor],
    images: ImageSet,
    known: CounterfactualPairs,
    *,
    outputs: Tensor | None = None,
) -> Sensitivity:
    """Classify the same images with and without the planted feature.

    Args:
        predict: gives the (n, K) logits of an image set.
        images: N of them.
        known: their counterparts.
        outputs: (N, K) on the images as they are, where they are known already.
    """
    passes: dict[int, Tensor] = {}

    def of(some: ImageSet) -> Tensor:
        # A set may be what one change ends with and another begins with: once is enough.
        if id(some) not in passes:
            passes[id(some)] = predict(some)
        return passes[id(some)]

    def flips(changed: Changed) -> Flips | None:
        if not len(changed.of):
            return None
        if changed.before is not None:
            before = of(changed.before)
        elif outputs is not None:
            before = outputs[changed.of]
        else:
            before = of(images)[changed.of]
        return _flips(before, of(changed.after), images.labels[changed.of], tuple(images.class_names))

    return Sensitivity(
        added=flips(known.added),
        removed=flips(known.removed),
        cannot_add=known.cannot_add,
        cannot_remove=known.cannot_remove,
    )


def _flips(before: Tensor, after: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> Flips:
    """Of m ≥ 1 images: (m, K) logits before and after, and (m,) labels."""
    of_class = labels[:, None]
    change = (after.double().softmax(1) - before.double().softmax(1)).gather(1, of_class)[:, 0]
    flipped = before.argmax(1) != after.argmax(1)

    def over(chosen: Tensor, classes: dict[str, Flips]) -> Flips:
        own = change[chosen]
        return Flips(
            images=len(own),
            flipped=int(flipped[chosen].sum()),
            probability=float(own.mean()),
            absolute=float(own.abs().mean()),
            classes=classes,
        )

    members = {name: torch.nonzero(labels == k)[:, 0] for k, name in enumerate(class_names)}
    classes = {name: over(chosen, {}) for name, chosen in members.items() if len(chosen)}
    return over(torch.arange(len(labels)), classes)
