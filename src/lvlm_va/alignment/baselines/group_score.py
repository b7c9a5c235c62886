"""Models judged by their accuracy in groups, and the images they get wrong."""

from collections.abc import Callable

from torch import Tensor, nn

from lvlm_va.data.imageset import Groups, ImageSet
from lvlm_va.evaluate.groups import group_accuracy
from lvlm_va.models.predict import logits

__all__ = ["group_score", "judge_by_groups", "mistakes"]


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
