"""How well a class's probability ranks its images before the others: AUROC and average precision."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lvlm_va.data.labels import known_labels, several_labels

__all__ = ["Ranking", "ranking"]


@dataclass(frozen=True)
class Ranking:
    """Of each class against the rest, of each label against its absence; NaN where it has no image, or all.

    Attributes:
        auroc: class → probability that an image of it ranks before one of another, in [0, 1]; ties count ½.
        average_precision: class → Σ_i (R_i − R_{i−1}) P_i over the thresholds, of recall R and precision P.
    """

    auroc: dict[str, float]
    average_precision: dict[str, float]


def ranking(outputs: Tensor, labels: Tensor, class_names: Sequence[str]) -> Ranking:
    """Both measures for each class.

    Args:
        outputs: (N, K) logits; K ≥ 2 for one class an image.
        labels: (N,) int64; or (N, K) of 1, 0 and unknown, of which only the known ones are ranked.
        class_names: K names.
    """
    outputs = outputs.double()
    found: dict[str, tuple[float, float]] = {}
    for k, name in enumerate(class_names):
        if several_labels(labels):
            known = known_labels(labels)[:, k]
            found[name] = _ranked(outputs[known, k], labels[known, k] == 1)
            continue
        others = torch.cat([outputs[:, :k], outputs[:, k + 1 :]], 1)
        # The log-odds rank as the probability does, and do not saturate.
        found[name] = _ranked(outputs[:, k] - others.logsumexp(1), labels == k)
    return Ranking({k: a for k, (a, _) in found.items()}, {k: p for k, (_, p) in found.items()})


def _ranked(scores: Tensor, positive: Tensor) -> tuple[float, float]:
    """AUROC and average precision of (N,) scores."""
    P = int(positive.sum())
    N = len(positive) - P
    if P == 0 or N == 0:
        return float("nan"), float("nan")
    _, which = torch.unique(scores, return_inverse=True)  # ascending; equal scores are one threshold
    hits = torch.bincount(which, weights=positive.double()).flip(0)
    misses = torch.bincount(which, weights=(~positive).double()).flip(0)
    recalled, precision = hits.cumsum(0), hits.cumsum(0) / (hits + misses).cumsum(0)
    # Each miss counts the positives before it, and half of those beside it.
    auroc = (misses * (recalled - hits / 2)).sum() / (P * N)
    return float(auroc), float((hits * precision).sum() / P)
