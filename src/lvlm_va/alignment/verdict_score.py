"""Choosing λ and when to stop, without group labels: by what the verdicts themselves say.

Plain accuracy on a validation set that is biased like the training set rewards the shortcut. The verdicts
know better: every validation image is scored twice, as it is and with a condemned segment of some critiqued
training image pasted in. Class by class that gives 2K accuracies; the worst of them stands for the worst
group, without anyone having said which image belongs to which group. It counts for one half and their mean
for the other: alone it is the share of one class's few images, and noise would choose.

Of several labels each is two classes, its presence and its absence, and a segment that was condemned for one
label is scored by that label alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lvlm_va.alignment.counterfactuals import Counterfactuals
from lvlm_va.data.imageset import ImageSet, images_on
from lvlm_va.data.labels import known_labels, label_answers, several_labels
from lvlm_va.models.likelihood import Likelihood
from lvlm_va.models.predict import logits

__all__ = ["VerdictScore", "score_by_verdicts"]


@dataclass(frozen=True)
class VerdictScore:
    """Accuracies on a validation set, as it is and with condemned segments pasted in.

    Attributes:
        as_is: class name → accuracy on its images as they are, in [0, 1].
        pasted: class name → accuracy on the same images, each with a condemned segment put in.
    """

    as_is: dict[str, float]
    pasted: dict[str, float]

    @property
    def worst(self) -> float:
        """The smallest of the 2K accuracies."""
        return min([*self.as_is.values(), *self.pasted.values()])

    @property
    def overall(self) -> float:
        """Their mean: each class and version counts the same."""
        return (sum(self.as_is.values()) + sum(self.pasted.values())) / (len(self.as_is) + len(self.pasted))

    @property
    def score(self) -> float:
        """Half the worst and half the overall accuracy: by this λ is chosen."""
        return (self.worst + self.overall) / 2


def score_by_verdicts(
    model: nn.Module,
    validation: ImageSet,
    counterfactuals: Counterfactuals,
    *,
    outputs: Tensor | None = None,
    seed: int = 0,
    batch: int = 128,
) -> VerdictScore:
    """Score a model by the verdicts on the training images; no label but the class is read.

    Args:
        model: maps (n, C, H, W) to (n, K); evaluated in evaluation mode, its mode is restored.
        validation: the validation set of V images.
        counterfactuals: of the alignment set, at least one.
        outputs: (V, K) on the images as they are, where they are known already.
        seed: of which condemned segment is pasted into which image; the same for every model.
        batch: images per forward pass.
    """
    generator = torch.Generator().manual_seed(seed)
    donors = torch.randint(len(counterfactuals), (len(validation),), generator=generator)
    if outputs is None:
        outputs = logits(model, validation, batch=batch)
    pasted = logits(model, _Pasted(validation, counterfactuals, donors), batch=batch)
    if several_labels(validation.labels):
        assert counterfactuals.explained is not None
        about = counterfactuals.explained.cpu()[donors]
        return VerdictScore(_by_label(outputs, validation), _by_label(pasted, validation, about))
    return VerdictScore(_by_class(outputs, validation), _by_class(pasted, validation))


@dataclass(frozen=True, eq=False)
class _Pasted:
    """An `ImageSet` with a donor's condemned segment in every image, made when asked for."""

    base: ImageSet
    counterfactuals: Counterfactuals
    donors: Tensor

    @property
    def ids(self) -> Sequence[str]:
        return self.base.ids

    @property
    def labels(self) -> Tensor:
        return self.base.labels

    @property
    def class_names(self) -> Sequence[str]:
        return self.base.class_names

    def __len__(self) -> int:
        return len(self.base)

    def images(self, indices: Tensor) -> Tensor:
        return self.images_on(indices, torch.device("cpu"))

    def images_on(self, indices: Tensor, device: torch.device) -> Tensor:
        images = images_on(self.base, indices, device)
        return self.counterfactuals.pasted(images, self.donors[indices])

    def spurious_masks(self, indices: Tensor) -> Tensor | None:  # noqa: ARG002
        """Not known: what was pasted is what a critic condemned."""
        return None


def _by_class(outputs: Tensor, images: ImageSet) -> dict[str, float]:
    right, labels = outputs.argmax(1) == images.labels, images.labels
    return {
        name: float(right[labels == k].double().mean())
        for k, name in enumerate(images.class_names)
        if bool((labels == k).any())
    }


def _by_label(outputs: Tensor, images: ImageSet, about: Tensor | None = None) -> dict[str, float]:
    """The same for presence and absence of each label; or of one label an image, `about` (N,)."""
    labels, K = images.labels, images.labels.shape[1]
    right = Likelihood.of(labels).right(outputs, labels)
    counted = known_labels(labels)
    if about is not None:
        counted = counted & (torch.arange(K) == about[:, None])
    found = {}
    for number, name in enumerate(label_answers(images.class_names)):
        wanted = counted[:, number % K] & ((labels[:, number % K] == 1) == (number < K))
        if bool(wanted.any()):
            found[name] = float(right[wanted, number % K].double().mean())
    return found
