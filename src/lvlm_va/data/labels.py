"""Labels of N images: one class each, (N,) int64; or several labels or none, (N, K) of 1, 0 and unknown.

Unknown (NaN, or −1 as CheXpert writes what is uncertain) is neither 1 nor 0: such an entry has no part in the
loss nor in what is measured.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["known_labels", "label_answers", "label_problem", "label_strata", "several_labels"]


def several_labels(labels: Tensor) -> bool:
    """Whether an image may have several labels, or none."""
    return isinstance(labels, Tensor) and labels.ndim == 2


def known_labels(labels: Tensor) -> Tensor:
    """(N, K) bool: where several labels are 1 or 0."""
    return labels >= 0  # NaN is not


def label_problem(labels: Tensor, class_names: Sequence[str]) -> str | None:
    """Why labels are not (N, K) of 1, 0 and unknown; None where they are.

    Args:
        labels: (N, ·).
        class_names: K names, one for each label.
    """
    K = len(class_names)
    if labels.shape[1] != K:
        return f"labels have the shape {tuple(labels.shape)}, but there are {K} of them a row: one per name"
    strange = ~((labels == 0) | (labels == 1) | (labels == -1) | labels.isnan())
    if bool(strange.any()):
        n, k = strange.nonzero()[0].tolist()
        return (
            f"label {class_names[k]} of image {n} is {float(labels[n, k]):g}; it is 1 where the image has "
            "it, 0 where it has not, and NaN or -1 where that is not known"
        )
    if clash := [name for name in class_names if f"no {name}" in class_names]:
        return f"{clash[0]!r} and 'no {clash[0]}' are two labels; the second is the absence of the first"
    return None


def label_answers(class_names: Sequence[str]) -> tuple[str, ...]:
    """2K names: those of the labels, then those of their absences; number K + k is the absence of k."""
    return (*class_names, *(f"no {name}" for name in class_names))


def label_strata(labels: Tensor) -> list[int]:
    """N numbers: the rarest label that an image has, K where it has none.

    By which images with several labels are held out evenly: the first step of iterative stratification
    (Sechidis et al. 2011), since it is the rare labels that chance would leave out.

    Args:
        labels: (N, K).
    """
    K = labels.shape[1]
    has = labels == 1
    order = has.sum(0).argsort(stable=True)  # the rarest first
    first = has[:, order].int().argmax(1)
    return torch.where(has.any(1), order[first], K).tolist()
