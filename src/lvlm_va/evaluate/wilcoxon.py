"""The paired Wilcoxon signed-rank test, exact: is one method better than another, seed by seed?

With n seeds the smallest p-value that can come out is 2^(1−n): with n = 3, no result whatever is significant
at 0.05. It is therefore told beside every p-value.

Wilcoxon, "Individual comparisons by ranking methods", 1945.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # scipy.stats takes a second to load, and only when it is used
from numpy.typing import NDArray

from lvlm_va.errors import DataError

__all__ = ["Wilcoxon", "wilcoxon"]

_DECIMALS = 12  # differences of shares that agree to so many are equal: 0.93 − 0.91 and 0.92 − 0.90 are


@dataclass(frozen=True)
class Wilcoxon:
    """The test of n paired differences against symmetry about 0.

    Attributes:
        n: pairs.
        two_sided: p-value against "there is a difference".
        smallest_two_sided: 2^(1−n), the smallest p-value that n pairs can give.
    """

    n: int
    two_sided: float
    smallest_two_sided: float


def wilcoxon(differences: Sequence[float]) -> Wilcoxon:
    """Wilcoxon's signed-rank test with exact p-values, whatever zeros and ties there are.

    Pairs without a difference are left out before ranking. Under the null hypothesis every difference is as
    likely to have either sign. The distribution of W⁺ over all 2^n signs is counted, not approximated;
    doubled, mid-ranks are whole numbers, so it is a product of polynomials 1 + x^(2·rank). Without zeros and
    ties this is `scipy.stats.wilcoxon(method="exact")`.

    Args:
        differences: n ≥ 1 paired differences, e.g. WGA of a method less WGA of the original model, seed by
            seed. Rounded to 12 decimals before they are compared.

    Raises:
        DataError: if there is none, or one is not a number.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or not len(d) or not np.isfinite(d).all():
        raise DataError("the Wilcoxon test needs at least one paired difference, and numbers only")
    different = d.round(_DECIMALS)
    different = different[different != 0]
    doubled = (2 * scipy.stats.rankdata(np.abs(different))).round().astype(np.int64)
    count = _sums(doubled)
    w = int(doubled[different > 0].sum())
    at_least, at_most = sum(count[w:]) / sum(count), sum(count[: w + 1]) / sum(count)
    return Wilcoxon(
        n=len(d), two_sided=min(1.0, 2 * min(at_least, at_most)), smallest_two_sided=2.0 ** (1 - len(d))
    )


def _sums(parts: NDArray[np.int64]) -> list[int]:
    """How many subsets of `parts` have the sum 0, 1, ..., Σ parts: exact, Python's integers know no limit."""
    count = [1]
    for part in parts.tolist():
        shifted = [0] * part + count
        count = [a + b for a, b in zip(count + [0] * part, shifted, strict=True)]
    return count
