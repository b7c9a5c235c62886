"""What judged segments say about the others, and which to judge next.

A Gaussian process over the segments, with the judgements as ±1 (Rasmussen and Williams 2006, Sec. 6.5, least
squares classification). Of segments at a distance d the prior covariance is exp(−d² / 2h²), h a multiple of
the median distance of a segment to the likest one in another image. With mean m_i and variance v_i of the
posterior,

    p_i = Φ(m_i / √(v_i + s²)),

how sure it is that segment i is spurious. Far from all that was judged p_i is a half, and so it is where what
is near disagrees: such a segment is unscored.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.spatial.distance import cdist
from scipy.special import ndtr

__all__ = ["SURE", "Field"]

Numbers = NDArray[np.float64]

_REACH = 3.0  # h, in median distances to the likest
_NOISE = 0.1  # variance of a judgement
_DOUBT = 0.3  # s: how sure judgements of an identical segment make
SURE = 0.8
"""p_i from which on, and 1 − p_i likewise, a segment takes the verdict."""
_COPY = 1e-9  # of the largest distance
_CANDIDATES = 2_000  # segments that may be asked about; a random draw of them where there are more


class Field:
    """n segments, and what judgements of some say about all.

    Args:
        vectors: (n, D); the Euclidean distance says how unlike two segments are.
        owners: (n,) which image each is of.
        shares: (n,) S_j; a doubt about a segment that holds more of the explanation weighs more.
        drawn: all positions in a random order.
    """

    def __init__(
        self, vectors: Numbers, owners: NDArray[np.int64], shares: Numbers, drawn: Sequence[int]
    ) -> None:
        self._vectors, self._shares = vectors, shares
        self._candidates = np.array(sorted(drawn[:_CANDIDATES]), dtype=np.int64)
        distances = cdist(vectors, vectors[self._candidates])
        others = np.where(owners[:, None] == owners[self._candidates][None], np.inf, distances)
        nearest = others.min(axis=1, initial=np.inf)
        # A copy says nothing about what is usual, and a difference in rounding is none.
        usual = nearest[np.isfinite(nearest) & (nearest > _COPY * distances.max(initial=0.0))]
        self._reach = _REACH * (float(np.median(usual)) if usual.size else 1.0)
        self._prior = self._covariance(distances)

    def _covariance(self, distances: Numbers) -> Numbers:
        found: Numbers = np.exp(-0.5 * (distances / self._reach) ** 2)
        return found

    def belief(self, said: Mapping[int, bool | None]) -> Numbers:
        """(n,) p_i, from what was said of some; None, of which the person could not say, says nothing."""
        return self._posterior(said)[0]

    def verdicts(self, said: Mapping[int, bool | None]) -> list[bool | None]:
        """True, False or None for each of n; what was said of a segment is its verdict."""
        p = self.belief(said).tolist()
        carried = [True if one >= SURE else False if one <= 1 - SURE else None for one in p]
        return [said.get(i, verdict) for i, verdict in enumerate(carried)]

    def likest(self, i: int, said: Mapping[int, bool | None], spurious: bool) -> int:
        """Of the segments of which this was said, the one that is most like i."""
        known = [k for k, word in said.items() if word is spurious]
        return known[int(cdist(self._vectors[i : i + 1], self._vectors[known])[0].argmin())]

    def teaches_most(self, said: Mapping[int, bool | None], due: Collection[int] = ()) -> int | None:
        """The segment whose judgement would take most doubt from all.

        Of a judgement of segment k the variance of segment i falls by C_ik² / (C_kk + noise), C the posterior
        covariance (Cohn, Ghahramani and Jordan 1996). Summed over i, with how far i is from being sure, and
        with its share S_i of the explanation.

        Args:
            said: what was said so far.
            due: segments that will be judged before.

        Returns:
            None where all that may be asked about were.
        """
        p, variance, half = self._posterior(said, due)
        covariance = self._prior - half @ half[self._candidates].T
        asked = [*said, *due]
        doubt = np.clip((SURE - np.maximum(p, 1 - p)) / (SURE - 0.5), 0, None) * self._shares
        doubt[asked] = 0
        if doubt.max(initial=0) <= 0:  # sure of all: what is least sure
            doubt = (1 - np.maximum(p, 1 - p)) * self._shares
            doubt[asked] = 0
        gains = doubt @ covariance**2 / (variance[self._candidates] + _NOISE)
        gains[np.isin(self._candidates, asked)] = -1
        best = int(gains.argmax()) if len(gains) else 0
        return int(self._candidates[best]) if len(gains) and gains[best] >= 0 else None

    def _posterior(
        self, said: Mapping[int, bool | None], due: Collection[int] = ()
    ) -> tuple[Numbers, Numbers, Numbers]:
        """(n,) p and variances, and (n, m) L⁻¹ K, of which the product with itself is what is known by now.

        What is due has no answer yet: it takes away variance, and leaves the mean.
        """
        known = [i for i, spurious in said.items() if spurious is not None]
        rows, n = [*known, *due], len(self._vectors)
        if not rows:
            return np.full(n, 0.5), np.ones(n), np.zeros((n, 0))
        cross = self._covariance(cdist(self._vectors, self._vectors[rows]))
        # L of the first m rows is the L of those alone, so that one factor serves mean and variance.
        factor = cholesky(cross[rows] + _NOISE * np.eye(len(rows)), lower=True)
        half: Numbers = solve_triangular(factor, cross.T, lower=True).T
        signs = np.array([1.0 if said[i] else -1.0 for i in known])
        m = len(known)
        mean = half[:, :m] @ solve_triangular(factor[:m, :m], signs, lower=True) if m else np.zeros(n)
        variance = np.clip(1 - (half**2).sum(axis=1), 0, 1)
        p: Numbers = ndtr(mean / np.sqrt(variance + _DOUBT**2))
        return p, variance, half
