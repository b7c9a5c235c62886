"""Confounder sensitivity: does the prediction flip when the planted feature is put in or taken out?"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lvlm_va.data.counterparts import Changed, Counterparts
from lvlm_va.data.imageset import ImageSet
from lvlm_va.models.predict import logits

__all__ = ["Flips", "Sensitivity", "sensitivity"]


@dataclass(frozen=True)
class Flips:
    """What a change of the pictures changed about the predictions.

    Attributes:
        pictures: how many were changed.
        flipped: how many of them are then predicted to be of another class.
        probability: mean change of the probability of the true class, after less before, in [−1, 1].
        absolute: mean of its absolute value, in [0, 1]: changes in both directions do not cancel.
        classes: true class → the same for its pictures alone; classes without one are left out.
    """

    pictures: int
    flipped: int
    probability: float
    absolute: float
    classes: "dict[str, Flips]"

    @property
    def rate(self) -> float:
        """Share of the changed pictures whose prediction flips."""
        return self.flipped / self.pictures

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        own: dict[str, object] = {
            "pictures": self.pictures,
            "flipped": self.flipped,
            "rate": self.rate,
            "probability": self.probability,
            "absolute": self.absolute,
        }
        if self.classes:
            own["classes"] = {name: flips.to_dict() for name, flips in self.classes.items()}
        return own


@dataclass(frozen=True)
class Sensitivity:
    """How much a model depends on the planted feature, all else equal.

    Attributes:
        added: pictures without the feature that were given one; None where there are none.
        removed: pictures with the feature that lost it; None where there are none.
        cannot_add: pictures without the feature that could be given none.
        cannot_remove: pictures whose feature could not be taken out exactly, such as a natural one.
    """

    added: Flips | None
    removed: Flips | None
    cannot_add: int
    cannot_remove: int

    @property
    def rate(self) -> float:
        """Share of flips over both changes; NaN where nothing could be changed."""
        both = [flips for flips in (self.added, self.removed) if flips is not None]
        n = sum(flips.pictures for flips in both)
        return sum(flips.flipped for flips in both) / n if n else float("nan")

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "rate": None if self.added is self.removed is None else self.rate,
            "added": None if self.added is None else self.added.to_dict(),
            "removed": None if self.removed is None else self.removed.to_dict(),
            "left_out": {"added": self.cannot_add, "removed": self.cannot_remove},
        }


def sensitivity(
    model: nn.Module,
    pictures: ImageSet,
    known: Counterparts,
    *,
    outputs: Tensor | None = None,
    batch: int = 128,
    note: Callable[[str], None] = lambda _: None,
) -> Sensitivity:
    """Classify the same pictures with and without the planted feature.

    Args:
        model: maps (n, C, H, W) in [0, 1] to (n, K); evaluated in evaluation mode, its mode is restored.
        pictures: N of them.
        known: their counterparts.
        outputs: (N, K) on the pictures as they are, where they are known already.
        batch: pictures per forward pass.
        note: told when it is halved, where memory runs out.
    """
    passes: dict[int, Tensor] = {}

    def of(some: ImageSet) -> Tensor:
        # A set may be what one change ends with and another begins with: once is enough.
        if id(some) not in passes:
            passes[id(some)] = logits(model, some, batch=batch, note=note)
        return passes[id(some)]

    def flips(changed: Changed) -> Flips | None:
        if not len(changed.of):
            return None
        if changed.before is not None:
            before = of(changed.before)
        elif outputs is not None:
            before = outputs[changed.of]
        else:
            before = of(pictures)[changed.of]
        return _flips(before, of(changed.after), pictures.labels[changed.of], tuple(pictures.class_names))

    return Sensitivity(
        added=flips(known.added),
        removed=flips(known.removed),
        cannot_add=known.cannot_add,
        cannot_remove=known.cannot_remove,
    )


def _flips(before: Tensor, after: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> Flips:
    """Of m ≥ 1 pictures: (m, K) logits before and after, and (m,) labels."""
    of_class = labels[:, None]
    change = (after.double().softmax(1) - before.double().softmax(1)).gather(1, of_class)[:, 0]
    flipped = before.argmax(1) != after.argmax(1)

    def over(chosen: Tensor, classes: dict[str, Flips]) -> Flips:
        own = change[chosen]
        return Flips(
            pictures=len(own),
            flipped=int(flipped[chosen].sum()),
            probability=float(own.mean()),
            absolute=float(own.abs().mean()),
            classes=classes,
        )

    members = {name: torch.nonzero(labels == k)[:, 0] for k, name in enumerate(class_names)}
    classes = {name: over(chosen, {}) for name, chosen in members.items() if len(chosen)}
    return over(torch.arange(len(labels)), classes)
