"""How sure: two methods compared over seeds, paired, with interval and test; and the interval of a share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # scipy.stats takes a second to load, and only when it is used

from lvlm_va.evaluate.wilcoxon import Wilcoxon, wilcoxon

__all__ = ["Paired", "exact_interval", "mean_interval", "mean_share_interval", "paired", "wilson"]


@dataclass(frozen=True)
class Paired:
    """One method less another, seed by seed.

    Attributes:
        differences: seed → value of the method less value of the other, for seeds that both have.
        interval: 95 % interval of their mean, (low, high); None for fewer than three seeds.
        test: are they different from 0?
    """

    differences: dict[int, float]
    interval: tuple[float, float] | None
    test: Wilcoxon


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of the mean over seeds (Efron & Tibshirani 1993, chap. 13).

    10,000 resamples, drawn with a seed of 0. Of few values it is too narrow (of five it covers the mean in
    about 83 % of cases if they are normal): read it as an image of the spread, beside the exact test.

    Returns:
        (low, high); None for fewer than three values.
    """
    if len(values) < 3:
        return None
    found = scipy.stats.bootstrap(
        (np.asarray(values, dtype=np.float64),),
        np.mean,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def mean_share_interval(shares: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of n independent shares in [0, 1]; (0, 1) for fewer than three.

    The percentile bootstrap of `mean_interval`, which for shares that are all equal is a point. So neither
    end is nearer to 0 or 1 than n draws can tell: than the exact interval of 0 of n, or of n of n, is.
    """
    boot, n = mean_interval(shares), len(shares)
    if boot is None:
        return 0.0, 1.0
    return min(boot[0], exact_interval(n, n)[0]), max(boot[1], exact_interval(0, n)[1])


def paired(values: Mapping[int, float], reference: Mapping[int, float]) -> Paired | None:
    """Δ of a method against a reference, e.g. the original model, paired by seed.

    Args:
        values: seed → value of the method.
        reference: seed → value of the reference.

    Returns:
        None where they have no seed in common.
    """
    differences = {s: values[s] - reference[s] for s in sorted(values.keys() & reference.keys())}
    if not differences:
        return None
    every = list(differences.values())
    return Paired(differences, mean_interval(every), wilcoxon(every))


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share, in [0, 1]; (0, 1) where n = 0 (Wilson 1927).

    It takes every one of the n for a draw of its own. Those of one participant, or the segments of one
    image, are not, so it is too narrow where these differ.
    """
    return _share_interval(hits, n, "wilson")


def exact_interval(hits: int, n: int) -> tuple[float, float]:
    """The exact 95 % interval of a share, with the same reservation (Clopper and Pearson 1934)."""
    return _share_interval(hits, n, "exact")


def _share_interval(hits: int, n: int, method: str) -> tuple[float, float]:
    if n == 0:
        return 0.0, 1.0
    interval = scipy.stats.binomtest(hits, n).proportion_ci(0.95, method=method)
    return float(interval.low), float(interval.high)
