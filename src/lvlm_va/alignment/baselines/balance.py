"""Groups that a baseline needs, as many images of each, and models judged by their accuracy in them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lvlm_va.data.imageset import Groups, ImageSet, groups_of
from lvlm_va.data.labels import several_labels
from lvlm_va.errors import DataError
from lvlm_va.evaluate.groups import group_accuracy
from lvlm_va.models.predict import logits

__all__ = [
    "balanced",
    "group_score",
    "group_sizes",
    "groups_needed",
    "judge_by_groups",
    "mistakes",
    "one_class_needed",
]


def groups_needed(images: ImageSet, part: str, method: str) -> Groups:
    """The groups (class × attribute) of a set.

    Args:
        images: the set.
        part: how it is called in a message, e.g. "training".
        method: who needs them, e.g. "SUBG".

    Raises:
        DataError: if the set is empty, knows no groups, or a group has images of more than one class.
    """
    one_class_needed(images, method)
    groups = groups_of(images)
    if groups is None:
        raise DataError(
            f"{method} needs the group of every {part} image, and this {part} set knows none; name the "
            "columns that make groups (data.groups), or give the set an attribute `groups`"
        )
    if not len(images):
        raise DataError(f"{method} needs {part} images, and the {part} set is empty")
    for g, name in enumerate(groups.names):
        classes = sorted(set(images.labels[groups.of == g].tolist()))
        if len(classes) > 1:
            several = ", ".join(str(images.class_names[k]) for k in classes)
            raise DataError(
                f"{method}: group {name!r} has {part} images of the classes {several}; a group is one "
                "class with one value of the attribute"
            )
    return groups


def one_class_needed(images: ImageSet, method: str) -> None:
    """Refuse images with several labels: a group is there of a label, and none is of an image.

    Raises:
        DataError: if an image may have several labels.
    """
    if several_labels(images.labels):
        raise DataError(
            f"{method} is for images with one class each; of several labels, take one and its absence as two "
            "classes"
        )


def group_sizes(groups: Groups, positions: Tensor | None = None) -> dict[str, int]:
    """Group name → number of its images, the empty groups too; among `positions` (n,) when given."""
    of = groups.of if positions is None else groups.of[positions]
    return dict(zip(groups.names, torch.bincount(of, minlength=len(groups.names)).tolist(), strict=True))


def balanced(groups: Groups, generator: torch.Generator, among: Tensor | None = None) -> Tensor:
    """Positions, in ascending order, of as many images of every group as its smallest one has.

    Groups without an image are left out; else nothing would be left.

    Args:
        groups: of N images.
        generator: of the draw without replacement.
        among: (n,) int64 positions to draw from; all N when None.
    """
    candidates = torch.arange(len(groups.of)) if among is None else among
    members = [candidates[groups.of[candidates] == g] for g in range(len(groups.names))]
    members = [m for m in members if len(m)]
    smallest = min(len(m) for m in members)
    drawn = [m[torch.randperm(len(m), generator=generator)[:smallest]] for m in members]
    return torch.cat(drawn).sort().values


def group_score(outputs: Tensor, labels: Tensor, groups: Groups) -> tuple[float, float]:
    """Worst and average accuracy over the groups that have images; compared as tuples are.

    The worst decides. Of a few images it takes few values, and where it is equal, the average decides.

    Args:
        outputs: (N, K) logits.
        labels: (N,) int64.
        groups: of the same N images.
    """
    by_group = group_accuracy(outputs, labels, groups)
    return by_group.worst, by_group.average


def judge_by_groups(images: ImageSet, groups: Groups) -> Callable[[nn.Module], tuple[float, float]]:
    """A judge of models: their `group_score` on `images`."""
    return lambda model: group_score(logits(model, images), images.labels, groups)


def mistakes(model: nn.Module, images: ImageSet) -> Tensor:
    """(n,) int64, positions of the images whose largest output is not the label; in evaluation mode."""
    return (logits(model, images).argmax(1) != images.labels).nonzero()[:, 0]
