"""Numbers over seeds: mean ± standard deviation with its interval, and differences paired by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from lvlm_va.errors import DataError
from lvlm_va.evaluate.intervals import Interval, mean_interval
from lvlm_va.evaluate.wilcoxon import Wilcoxon, Zeros, wilcoxon

__all__ = ["Paired", "Summary", "paired", "summary"]


@dataclass(frozen=True)
class Summary:
    """One number for each of n seeds, summed up.

    Attributes:
        n: how many seeds.
        mean: plain average.
        std: standard deviation, dividing by n − 1; None for one seed.
        interval: of the mean; None for fewer than three seeds.
    """

    n: int
    mean: float
    std: float | None
    interval: Interval | None

    def __str__(self) -> str:
        """E.g. "0.972 ± 0.001 (n = 3)": the standard deviation, not the standard error."""
        spread = "" if self.std is None else f" ± {self.std:.3f}"
        return f"{self.mean:.3f}{spread} (n = {self.n})"

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "n": self.n,
            "mean": self.mean,
            "std": self.std,
            "interval": None if self.interval is None else self.interval.to_dict(),
        }


@dataclass(frozen=True)
class Paired:
    """One method less another, seed by seed.

    Attributes:
        differences: seed → value of the method less value of the other, for seeds that both have.
        unpaired: seeds that only one of them has; they count nowhere.
        summary: of the differences.
        test: are they different from 0?
    """

    differences: dict[int, float]
    unpaired: tuple[int, ...]
    summary: Summary
    test: Wilcoxon

    def __str__(self) -> str:
        """E.g. "+0.131 ± 0.021 (n = 7), p = 0.016 (smallest possible with n = 7: 0.016)"."""
        sign = "+" if self.summary.mean > 0 else ""
        return f"{sign}{self.summary}, {self.test}"

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "differences": {str(seed): value for seed, value in self.differences.items()},
            "unpaired": list(self.unpaired),
            "summary": self.summary.to_dict(),
            "test": self.test.to_dict(),
        }


def summary(
    values: Sequence[float], *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Summary:
    """Mean, standard deviation and bootstrap interval of the mean over seeds.

    Args:
        values: at least one.
        level: of the interval, see `mean_interval`.
        resamples: likewise.
        seed: likewise.

    Raises:
        ConfigError: if level or resamples cannot be.
        DataError: if there is no value.
    """
    if not values:
        raise DataError("there is nothing to average: not one seed has a value")
    return Summary(
        n=len(values),
        mean=fmean(values),
        std=stdev(values) if len(values) > 1 else None,
        interval=mean_interval(values, level=level, resamples=resamples, seed=seed),
    )


def paired(
    values: Mapping[int, float],
    reference: Mapping[int, float],
    *,
    zeros: Zeros = "wilcoxon",
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Paired:
    """Δ of a method against a reference, e.g. the original model, paired by seed.

    Args:
        values: seed → value of the method.
        reference: seed → value of the reference.
        zeros: what becomes of seeds without a difference in the test, see `wilcoxon`.
        level: of the interval, see `mean_interval`.
        resamples: likewise.
        seed: likewise.

    Raises:
        ConfigError: if level or resamples cannot be.
        DataError: if they have no seed in common.
    """
    common = sorted(values.keys() & reference.keys())
    if not common:
        raise DataError(
            f"there is nothing to pair: values are of the seeds {sorted(values)}, the reference is of "
            f"{sorted(reference)}"
        )
    differences = {s: values[s] - reference[s] for s in common}
    return Paired(
        differences=differences,
        unpaired=tuple(sorted(values.keys() ^ reference.keys())),
        summary=summary(list(differences.values()), level=level, resamples=resamples, seed=seed),
        test=wilcoxon(list(differences.values()), zeros=zeros),
    )
