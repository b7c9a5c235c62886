"""Accuracy by group, its plain mean (AGA) and its worst (WGA): Sec. 5.1."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lvlm_va.data.imageset import Groups
from lvlm_va.errors import DataError

__all__ = ["GroupAccuracy", "group_accuracy"]


@dataclass(frozen=True)
class GroupAccuracy:
    """Accuracy by group.

    Attributes:
        accuracy: group name → share of its pictures that are classified rightly, in [0, 1]; groups without
            a picture are left out.
        pictures: group name → how many pictures it has, the empty ones too.
    """

    accuracy: dict[str, float]
    pictures: dict[str, int]

    @property
    def average(self) -> float:
        """AGA: the mean over groups, each counting the same whatever its size; NaN without pictures."""
        return sum(self.accuracy.values()) / len(self.accuracy) if self.accuracy else float("nan")

    @property
    def worst(self) -> float:
        """WGA: the accuracy of the worst group; NaN without pictures."""
        return min(self.accuracy.values(), default=float("nan"))

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "accuracy": self.accuracy,
            "pictures": self.pictures,
            "average": self.average,
            "worst": self.worst,
        }


def group_accuracy(outputs: Tensor, labels: Tensor, groups: Groups) -> GroupAccuracy:
    """Accuracy of each group.

    Args:
        outputs: (N, K) logits.
        labels: (N,) int64.
        groups: of the same N pictures.

    Raises:
        DataError: if the numbers of pictures disagree.
    """
    if not len(outputs) == len(labels) == len(groups.of):
        raise DataError(
            f"{len(outputs)} outputs, {len(labels)} labels and {len(groups.of)} groups: they must agree"
        )
    G = len(groups.names)
    total = torch.bincount(groups.of, minlength=G)
    right = torch.bincount(groups.of[outputs.argmax(1) == labels], minlength=G)
    return GroupAccuracy(
        {
            name: int(r) / int(n)
            for name, r, n in zip(groups.names, right.tolist(), total.tolist(), strict=True)
            if n
        },
        dict(zip(groups.names, total.tolist(), strict=True)),
    )
