"""Accuracy by group, its plain mean (AGA) and its worst (WGA): Sec. 5.2; and its training-weighted mean."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lvlm_va.data.imageset import Groups
from lvlm_va.errors import DataError
from lvlm_va.models.likelihood import Likelihood

__all__ = ["GroupAccuracy", "group_accuracy", "training_weighted"]


@dataclass(frozen=True)
class GroupAccuracy:
    """Accuracy by group.

    Attributes:
        accuracy: group name → share of its images that are classified rightly, in [0, 1]; groups without
            an image are left out.
        images: group name → how many images it has, the empty ones too.
    """

    accuracy: dict[str, float]
    images: dict[str, int]

    @property
    def average(self) -> float:
        """AGA: the mean over groups, each counting the same whatever its size; NaN without images."""
        return sum(self.accuracy.values()) / len(self.accuracy) if self.accuracy else float("nan")

    @property
    def worst(self) -> float:
        """WGA: the accuracy of the worst group; NaN without images."""
        return min(self.accuracy.values(), default=float("nan"))


def group_accuracy(outputs: Tensor, labels: Tensor, groups: Groups) -> GroupAccuracy:
    """Accuracy of each group.

    Args:
        outputs: (N, K) logits.
        labels: (N,) int64; or (N, K) of 1, 0 and unknown, each told rightly or not at a probability of ½.
        groups: of the same N images, see `groups_of`.

    Raises:
        DataError: if the numbers of images disagree.
    """
    if not len(outputs) == len(labels) == len(groups.of) or labels.shape != groups.of.shape:
        raise DataError(
            f"{len(outputs)} outputs, {len(labels)} labels and {len(groups.of)} groups: they must agree"
        )
    G = len(groups.names)
    total, of = groups.sizes, groups.of[Likelihood.of(labels).right(outputs, labels)]
    right = torch.bincount(of[of >= 0], minlength=G)
    return GroupAccuracy(
        {
            name: int(r) / int(n)
            for name, r, n in zip(groups.names, right.tolist(), total.tolist(), strict=True)
            if n
        },
        dict(zip(groups.names, total.tolist(), strict=True)),
    )


def training_weighted(found: GroupAccuracy, training: Groups) -> float | None:
    """Accuracy by group, weighted by the groups' shares of the training set.

    What Sagawa et al. (2020) and the code of BalancingGroups call "average accuracy": that on images like
    the training ones, the bias included. AGA weighs every group the same, plain accuracy by the test set.

    Args:
        found: accuracy by group of a test set.
        training: of the training set.

    Returns:
        A share in [0, 1]; None if the training set has none, or one of its groups has no test image.
    """
    total = training.sizes.tolist()
    present = {name: int(n) for name, n in zip(training.names, total, strict=True) if n}
    if not present or not present.keys() <= found.accuracy.keys():
        return None
    return sum(n * found.accuracy[name] for name, n in present.items()) / sum(present.values())
