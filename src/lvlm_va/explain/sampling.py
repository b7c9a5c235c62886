"""Which images to critique: the alignment set (Sec. 4.1).

A model that decides by a shortcut is sure of itself, so the paper takes the N training images with the
lowest output entropy. These may come from few classes; "balanced" takes the lowest of every class.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lvlm_va.errors import ConfigError, DataError, ModelError
from lvlm_va.io.hints import did_you_mean
from lvlm_va.models.likelihood import Likelihood

__all__ = ["Selection", "Strategy", "describe", "entropy_of_part", "predictive_entropy", "select"]

Strategy = Literal["lowest", "balanced", "random", "highest"]
"""How to choose: the lowest entropy (the paper), the lowest of every class, any, or the highest."""


@dataclass(frozen=True, eq=False)
class Selection:
    """The chosen images, in the order in which they were chosen.

    Attributes:
        indices: (n,) int64, into the set they were chosen from; no index twice.
        entropy: (n,) float64, their output entropy, nats.
        strategy: how they were chosen.
        class_counts: K numbers, how many of them belong to each class; they sum to n.
        classes: (n,) int64, the class of each; of several labels the one that is explained.
        spurious_share: share of them that carry the planted feature, in [0, 1]; None where unknown.
    """

    indices: Tensor
    entropy: Tensor
    strategy: Strategy
    class_counts: tuple[int, ...]
    classes: Tensor
    spurious_share: float | None = None


def predictive_entropy(logits: Tensor, *, several: bool = False) -> Tensor:
    """Entropy of the output, (N, K) logits to (N,) float64, nats, see `Likelihood.entropy`.

    Args:
        logits: (N, K).
        several: whether an image may have several labels: then the sum of the labels' entropies in place of
            that of the softmax, −Σ_k ŷ_k log ŷ_k.

    Raises:
        ModelError: if the shape is not (N, K), or an entropy is not a number.
    """
    entropy = entropy_of_part(logits, several=several)
    _check_numbers(entropy)
    return entropy


def entropy_of_part(logits: Tensor, *, several: bool = False) -> Tensor:
    """`predictive_entropy` of some of the images, which `select` checks together with the others."""
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ModelError(f"the model's outputs must have shape (N, K), not {tuple(logits.shape)}")
    return Likelihood(several).entropy(logits)


def select(
    entropy: Tensor,
    labels: Tensor,
    n: int,
    *,
    strategy: Strategy,
    num_classes: int,
    seed: int,
) -> Tensor:
    """Choose n of N images, each at most once: (n,) int64 indices, in the order of choice.

    The first m of n chosen are those that m alone would give, for every strategy, so a larger run
    extends a smaller one. Ties in entropy go to the smaller index.

    "balanced" takes the surest image of every class, then the second of every class, and so on, within a
    round by entropy: class counts differ by at most one until a class runs out, and then the others fill up.

    Args:
        entropy: (N,) float, output entropy, nats.
        labels: (N,) int64, 0 ≤ label < `num_classes`.
        n: how many, 1 ≤ n ≤ N.
        strategy: "lowest" (the paper), "balanced", "random" or "highest".
        num_classes: K.
        seed: of "random"; the others are deterministic without it.

    Raises:
        ConfigError: if the strategy is unknown or n < 1.
        DataError: if n > N, or the labels do not fit.
        ModelError: if an entropy is not a number.
    """
    if strategy not in get_args(Strategy):
        hint = did_you_mean(strategy, get_args(Strategy))
        raise ConfigError(f"unknown sampling strategy {strategy!r}; {hint}")
    N = len(entropy)
    if n < 1:
        raise ConfigError(f"{n} images to select: choose at least 1")
    if n > N:
        raise DataError(
            f"{n} images to select, but the set holds only {N}: choose at most {N}, or add images"
        )
    if len(labels) != N:
        raise DataError(f"{N} entropies, but {len(labels)} labels: there must be one each per image")
    if not (0 <= int(labels.min()) and int(labels.max()) < num_classes):
        raise DataError(
            f"labels run from {int(labels.min())} to {int(labels.max())}, but there are {num_classes} classes"
        )
    _check_numbers(entropy)

    if strategy == "random":
        order = torch.randperm(N, generator=torch.Generator().manual_seed(seed)).to(entropy.device)
    else:
        order = entropy.argsort(stable=True, descending=strategy == "highest")
        if strategy == "balanced":
            order = order[_rank_within_class(labels[order], num_classes).argsort(stable=True)]
    return order[:n]


def describe(
    indices: Tensor,
    entropy: Tensor,
    labels: Tensor,
    *,
    strategy: Strategy,
    num_classes: int,
    spurious: Tensor | None = None,
) -> Selection:
    """Say what was chosen.

    Args:
        indices: (n,) int64, from `select`.
        entropy: (N,) float, of the set they were chosen from, nats.
        labels: (N,) int64, of the same set.
        strategy: how they were chosen.
        num_classes: K.
        spurious: (N,) bool, True where an image carries the planted feature; None where unknown.
    """
    return Selection(
        indices,
        entropy[indices].double(),
        strategy,
        tuple(labels[indices].bincount(minlength=num_classes).tolist()),
        labels[indices],
        None if spurious is None else float(spurious[indices].double().mean()),
    )


def _rank_within_class(labels: Tensor, num_classes: int) -> Tensor:
    """(N,) int64: how many earlier images have the same label."""
    by_class = labels.argsort(stable=True)
    counts = labels.bincount(minlength=num_classes)
    first = counts.cumsum(0) - counts  # of each class, among those in the order of their classes
    rank = torch.empty_like(labels)
    rank[by_class] = torch.arange(len(labels), device=labels.device) - first[labels[by_class]]
    return rank


def _check_numbers(entropy: Tensor) -> None:
    bad = (~entropy.isfinite()).nonzero().flatten().tolist()
    if bad:
        raise ModelError(
            f"the model's outputs for {len(bad)} of {len(entropy)} images (the first is number {bad[0]}) "
            "are NaN or infinite: train again, perhaps with a smaller learning rate"
        )
