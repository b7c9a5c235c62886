"""The signed-rank test against scipy's exact p-value, against every sign written out, and its own limits."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lvlm_va.errors import DataError
from lvlm_va.evaluate.wilcoxon import wilcoxon


@given(
    st.lists(
        st.tuples(st.integers(1, 10_000), st.booleans()), min_size=1, max_size=14, unique_by=lambda p: p[0]
    )
)
def test_without_zeros_and_ties_it_is_scipys(pairs: list[tuple[int, bool]]) -> None:
    d = [size / 10_000 if up else -size / 10_000 for size, up in pairs]
    assert wilcoxon(d).two_sided == pytest.approx(stats.wilcoxon(d, method="exact").pvalue, abs=1e-12)


def by_brute_force(d: list[int]) -> float:
    """Every sign of every difference; ranks by counting who is smaller."""
    pool = [abs(x) for x in d if x]
    rank = {a: sum(b < a for b in pool) + (pool.count(a) + 1) / 2 for a in pool}
    w = sum(rank[x] for x in d if x > 0)
    sums = [
        sum(rank[a] for a, up in zip(pool, signs, strict=True) if up)
        for signs in product((0, 1), repeat=len(pool))
    ]
    above, below = (sum(test(s) for s in sums) / len(sums) for test in (lambda s: s >= w, lambda s: s <= w))
    return min(1.0, 2 * min(above, below))


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_zeros_and_ties_against_every_sign_written_out(d: list[int]) -> None:
    # In hundredths, where 0.29 − 0.28 and 0.15 − 0.14 differ in the last bits.
    found = wilcoxon([(50 + x) / 100 - 0.5 for x in d])
    assert found.n == len(d)
    assert found.two_sided == pytest.approx(by_brute_force(d), abs=1e-12)
    assert wilcoxon([-(x / 100) for x in d]) == found, "which method comes first does not matter"


@given(st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=1, max_size=12))
def test_the_smallest_p_is_reached_exactly_where_all_differences_agree(d: list[float]) -> None:
    found = wilcoxon(d)
    signs = set(np.sign(np.round(d, 12)).tolist())
    assert found.smallest_two_sided == 2.0 ** (1 - len(d))
    assert found.two_sided >= found.smallest_two_sided
    if len(d) > 1:
        assert (found.two_sided == found.smallest_two_sided) == (signs in ({1.0}, {-1.0}))


def test_many_seeds_stay_exact() -> None:
    d = np.random.default_rng(0).normal(0.3, 1, 60)
    assert wilcoxon(d.tolist()).two_sided == pytest.approx(stats.wilcoxon(d, method="exact").pvalue, rel=1e-9)


@pytest.mark.parametrize("nothing", [[], [float("nan")], [0.1, float("inf")]])
def test_what_is_no_number_is_refused(nothing: list[float]) -> None:
    with pytest.raises(DataError, match="at least one paired difference"):
        wilcoxon(nothing)
