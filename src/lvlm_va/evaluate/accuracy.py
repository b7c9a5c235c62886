"""Accuracy: the plain average over images; of several labels that of each, and its mean over the labels."""

from collections.abc import Sequence

from torch import Tensor

from lvlm_va.data.labels import known_labels, several_labels
from lvlm_va.models.likelihood import Likelihood

__all__ = ["accuracy", "label_accuracy"]


def accuracy(outputs: Tensor, labels: Tensor) -> float:
    """Share of images that are classified rightly, in [0, 1].

    Args:
        outputs: (N, K) logits.
        labels: (N,) int64: the largest output is right; or (N, K) of 1, 0 and unknown: the mean over the
            labels of the share that is told rightly at a probability of ½ (macro average), unknown ones left
            out.
    """
    if not several_labels(labels):
        return float((outputs.argmax(1) == labels).double().mean())
    found = [share for share in _by_label(outputs, labels) if share is not None]
    return sum(found) / len(found) if found else float("nan")


def label_accuracy(outputs: Tensor, labels: Tensor, class_names: Sequence[str]) -> dict[str, float]:
    """Label → share of the images, for which it is known, told rightly at p = ½; NaN where it never is known.

    Args:
        outputs: (N, K) logits.
        labels: (N, K) of 1, 0 and unknown.
        class_names: K names.
    """
    shares = (float("nan") if share is None else share for share in _by_label(outputs, labels))
    return dict(zip(class_names, shares, strict=True))


def _by_label(outputs: Tensor, labels: Tensor) -> list[float | None]:
    known, right = known_labels(labels), Likelihood.of(labels).right(outputs, labels)
    counts = zip((right & known).sum(0).tolist(), known.sum(0).tolist(), strict=True)
    return [r / n if n else None for r, n in counts]
