"""Bootstrap intervals: of a mean over seeds, and of AGA and WGA over the images of one test set."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap
from torch import Tensor

from lvlm_va.data.imageset import Groups
from lvlm_va.errors import ConfigError
from lvlm_va.evaluate.groups import group_accuracy

__all__ = ["GroupInterval", "Interval", "group_accuracy_interval", "mean_interval"]


@dataclass(frozen=True)
class Interval:
    """A percentile bootstrap interval.

    Attributes:
        low: its lower end.
        high: its upper end.
        level: share of the resamples inside, e.g. 0.95.
        resamples: how many were drawn.
        seed: of the draws.
        over: what was drawn with replacement: "seeds" or "images, by group".
    """

    low: float
    high: float
    level: float
    resamples: int
    seed: int
    over: str

    def __str__(self) -> str:
        """E.g. "95 % interval 0.91 to 0.95"."""
        return f"{100 * self.level:g} % interval {self.low:.3f} to {self.high:.3f}"

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class GroupInterval:
    """How far AGA and WGA of one model would move with other test images of the same groups.

    Attributes:
        average: interval of AGA.
        worst: interval of WGA. The minimum of noisy groups is biased downwards, and so is this interval:
            it may lie around less than the WGA that was measured.
    """

    average: Interval
    worst: Interval

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"average": self.average.to_dict(), "worst": self.worst.to_dict()}


def mean_interval(
    values: Sequence[float], *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval | None:
    """Percentile bootstrap interval of the mean over seeds (Efron & Tibshirani 1993, chap. 13).

    Of few values it is too narrow (of five at 95 % it covers the mean in about 83 % of cases if they are
    normal): read it as an image of the spread, beside the exact test.

    Args:
        values: one for each seed.
        level: share of the resampled means inside the interval.
        resamples: how many.
        seed: of the draws.

    Returns:
        None for fewer than three values.

    Raises:
        ConfigError: if level or resamples cannot be.
    """
    _check(level, resamples)
    if len(values) < 3:
        return None
    found = bootstrap(
        (np.asarray(values, dtype=np.float64),),
        np.mean,
        n_resamples=resamples,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(found.low), float(found.high), level, resamples, seed, "seeds")


def group_accuracy_interval(
    outputs: Tensor,
    labels: Tensor,
    groups: Groups,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> GroupInterval | None:
    """Percentile bootstrap intervals of AGA and WGA of one model over images, stratified by group.

    Drawing n_g images of a group with replacement draws how many of them are right from a binomial
    distribution with the group's accuracy; so that is what is drawn.

    Args:
        outputs: (N, K) logits.
        labels: (N,) int64.
        groups: of the same N images; each keeps its number of images.
        level: share of the resampled values inside the interval.
        resamples: how many.
        seed: of the draws.

    Returns:
        None where no group has an image.

    Raises:
        ConfigError: if level or resamples cannot be.
        DataError: if the numbers of images disagree.
    """
    _check(level, resamples)
    found = group_accuracy(outputs, labels, groups)
    if not found.accuracy:
        return None
    n = np.array([found.images[name] for name in found.accuracy])
    share = np.array(list(found.accuracy.values()))
    drawn = np.random.default_rng(seed).binomial(n, share, size=(resamples, len(n))) / n

    def interval(values: NDArray[np.float64]) -> Interval:
        low, high = np.quantile(values, ((1 - level) / 2, (1 + level) / 2))
        return Interval(float(low), float(high), level, resamples, seed, "images, by group")

    return GroupInterval(average=interval(drawn.mean(1)), worst=interval(drawn.min(1)))


def _check(level: float, resamples: int) -> None:
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}: choose a share between 0 and 1, e.g. 0.95")
    if resamples < 1:
        raise ConfigError(f"resamples is {resamples}: draw at least one, better 1,000 or more")
