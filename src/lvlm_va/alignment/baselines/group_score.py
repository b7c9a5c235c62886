"""Models judged by their accuracy in groups, and the pictures they get wrong."""

from collections.abc import Callable

from torch import Tensor, nn

from lvlm_va.data.imageset import Groups, ImageSet
from lvlm_va.evaluate.groups import group_accuracy
from lvlm_va.models.predict import logits

__all__ = ["group_score", "judge_by_groups", "mistakes"]


def group_score(outputs: Tensor, labels: Tensor, groups: Groups) -> tuple[float, float]:
    """Worst and average accuracy over the groups that have pictures; compared as tuples are.

    The worst decides. Of a few pictures it takes few values, and where it is equal, the average decides.

    Args:
        outputs: (N, K) logits.
        labels: (N,) int64.
        groups: of the same N pictures.
    """
    by_group = group_accuracy(outputs, labels, groups)
    return by_group.worst, by_group.average


def judge_by_groups(pictures: ImageSet, groups: Groups) -> Callable[[nn.Module], tuple[float, float]]:
    """A judge of models: their `group_score` on `pictures`."""
    return lambda model: group_score(logits(model, pictures), pictures.labels, groups)


def mistakes(model: nn.Module, pictures: ImageSet) -> Tensor:
    """(n,) int64, positions of the pictures whose largest output is not the label; in evaluation mode."""
    return (logits(model, pictures).argmax(1) != pictures.labels).nonzero()[:, 0]
