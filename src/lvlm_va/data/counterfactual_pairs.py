"""The same image with and without the planted feature, for data sets that can make both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lvlm_va.data.imageset import ImageSet, as_floats

__all__ = [
    "Changed",
    "CounterfactualPairs",
    "HasCounterfactualPairs",
    "ReadWhenAsked",
    "counterfactual_pairs",
]


@dataclass(frozen=True, eq=False)
class Changed:
    """Some images of a set, before and after the planted feature was put in or taken out.

    Attributes:
        of: (m,) int64, which images of the set they are.
        before: these m images; None where they are the images of the set as they are.
        after: the same m images, changed.
    """

    of: Tensor
    before: ImageSet | None
    after: ImageSet


@dataclass(frozen=True, eq=False)
class CounterfactualPairs:
    """What a data set can change about its images.

    Attributes:
        added: images without the feature, and with it.
        removed: images with the feature, and without it: exactly as they were before it was planted.
        cannot_add: how many images without the feature can be given none.
        cannot_remove: how many images carry one that cannot be taken out exactly, such as a natural one.
    """

    added: Changed
    removed: Changed
    cannot_add: int = 0
    cannot_remove: int = 0


@dataclass(frozen=True, eq=False)
class ReadWhenAsked:
    """An `ImageSet` whose images are made one by one whenever they are asked for; nothing is kept.

    Args:
        read: position → (C, H, W) uint8.
        ids: N unique names.
        labels: (N,) int64.
        class_names: K names, indexed by label.
    """

    read: Callable[[int], Tensor]
    ids: Sequence[str]
    labels: Tensor
    class_names: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)

    def images(self, indices: Tensor) -> Tensor:
        """(n, C, H, W) float32 in [0, 1]."""
        return self.images_on(indices, torch.device("cpu"))

    def images_on(self, indices: Tensor, device: torch.device) -> Tensor:
        """The same on a device, to which bytes travel as bytes."""
        return as_floats(torch.stack([self.read(n) for n in indices.tolist()]).to(device))

    def spurious_masks(self, indices: Tensor) -> Tensor | None:  # noqa: ARG002
        """Not told: these images are classified, not explained."""
        return None


@runtime_checkable
class HasCounterfactualPairs(Protocol):
    """A set that can put the planted feature into its images and take it out. For evaluation only."""

    def counterfactual_pairs(self) -> CounterfactualPairs:
        """The same images with and without it."""
        ...


def counterfactual_pairs(images: ImageSet) -> CounterfactualPairs | None:
    """What a set can change about its images (`HasCounterfactualPairs`); None where it can nothing."""
    return images.counterfactual_pairs() if isinstance(images, HasCounterfactualPairs) else None
