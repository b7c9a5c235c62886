"""How far a rate of agreement may be off over participants; over answers see `evaluate.statistics.wilson`."""

from collections.abc import Sequence

import numpy as np

__all__ = ["cluster_bootstrap"]

_RESAMPLES = 10_000


def cluster_bootstrap(
    agreeing: Sequence[int], answers: Sequence[int], *, seed: int = 0
) -> tuple[float, float] | None:
    """The 95 % interval of Σ agreeing / Σ answers when whole participants are drawn again, in [0, 1].

    Percentiles over 10,000 draws with replacement. It says what other participants would have made of the
    same questions. Of a handful of participants it is too narrow.

    Args:
        agreeing: by participant.
        answers: by participant; those without an answer do not count.
        seed: of the draws.

    Returns:
        The interval, or None for fewer than two participants.
    """
    k, n = (np.array(counts)[np.array(answers) > 0] for counts in (agreeing, answers))
    if len(n) < 2:
        return None
    drawn = np.random.default_rng(seed).integers(len(n), size=(_RESAMPLES, len(n)))
    rates = k[drawn].sum(1) / n[drawn].sum(1)
    low, high = np.quantile(rates, (0.025, 0.975))
    return float(low), float(high)
