"""The paired Wilcoxon signed-rank test, exact: is one method better than another, seed by seed?

With n seeds the smallest p-value that can come out is 2^(1−n) two-sided and 2^(−n) one-sided: with n = 3, no
result whatever is significant at 0.05. It is therefore told beside every p-value.

Wilcoxon, "Individual comparisons by ranking methods", 1945; Pratt, "Remarks on zeros and ties in the Wilcoxon
signed rank procedures", 1959.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from lvlm_va.errors import DataError

__all__ = ["Wilcoxon", "Zeros", "wilcoxon"]

Zeros = Literal["wilcoxon", "pratt"]
"""What becomes of pairs without a difference: left out before ranking (Wilcoxon), or after (Pratt)."""

_DECIMALS = 12  # differences of shares that agree to so many are equal: 0.93 − 0.91 and 0.92 − 0.90 are


@dataclass(frozen=True)
class Wilcoxon:
    """The test of n paired differences against symmetry about 0.

    Attributes:
        n: pairs.
        nonzero: pairs that differ.
        ties: whether two of these differ by the same amount; their ranks are averaged (mid-ranks).
        zeros: what became of pairs without a difference.
        rank_sum: sum of the ranks of the positive differences, W⁺.
        two_sided: p-value against "there is a difference".
        greater: p-value against "the differences are positive".
        smallest_two_sided: 2^(1−n), the smallest p-value that n pairs can give.
        smallest_greater: 2^(−n), likewise.
    """

    n: int
    nonzero: int
    ties: bool
    zeros: Zeros
    rank_sum: float
    two_sided: float
    greater: float
    smallest_two_sided: float
    smallest_greater: float

    def __str__(self) -> str:
        """E.g. "p = 0.016 (smallest possible with n = 7: 0.016)", two-sided."""
        told = f"p = {self.two_sided:.2g} (smallest possible with n = {self.n}: {self.smallest_two_sided:.2g}"
        if same := self.n - self.nonzero:
            told += f"; {same} without a difference"
        return told + ")"

    def to_dict(self) -> dict[str, object]:
        """For JSON; "sentence" is the test in words."""
        return asdict(self) | {"sentence": str(self)}


def wilcoxon(differences: Sequence[float], *, zeros: Zeros = "wilcoxon") -> Wilcoxon:
    """Wilcoxon's signed-rank test with exact p-values, whatever zeros and ties there are.

    Under the null hypothesis every difference is as likely to have either sign. The distribution of W⁺ over
    all 2^n signs is counted, not approximated; doubled, mid-ranks are whole numbers, so it is a product of
    polynomials 1 + x^(2·rank). Without zeros and ties this is `scipy.stats.wilcoxon(method="exact")`.

    Args:
        differences: n ≥ 1 paired differences, e.g. WGA of a method less WGA of the original model, seed by
            seed. Rounded to 12 decimals before they are compared.
        zeros: see `Zeros`.

    Raises:
        DataError: if there is none, or one is not a number.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or not len(d) or not np.isfinite(d).all():
        raise DataError("the Wilcoxon test needs at least one paired difference, and numbers only")
    d = d.round(_DECIMALS)
    different = d != 0
    ranked = different if zeros == "wilcoxon" else np.full(len(d), True)
    ranks = rankdata(np.abs(d[ranked]))[different[ranked]]
    signs = np.sign(d[different])
    doubled = (2 * ranks).round().astype(np.int64)
    count = _sums(doubled)
    w = int(doubled[signs > 0].sum())
    whole = sum(count)
    at_least, at_most = sum(count[w:]) / whole, sum(count[: w + 1]) / whole
    n = len(d)
    return Wilcoxon(
        n=n,
        nonzero=int(different.sum()),
        ties=len(np.unique(ranks)) < len(ranks),
        zeros=zeros,
        rank_sum=w / 2,
        two_sided=min(1.0, 2 * min(at_least, at_most)),
        greater=at_least,
        smallest_two_sided=2.0 ** (1 - n),
        smallest_greater=2.0**-n,
    )


def _sums(parts: NDArray[np.int64]) -> list[int]:
    """How many subsets of `parts` have the sum 0, 1, ..., Σ parts: exact, Python's integers know no limit."""
    count = [1]
    for part in parts.tolist():
        shifted = [0] * part + count
        count = [a + b for a, b in zip(count + [0] * part, shifted, strict=True)]
    return count
