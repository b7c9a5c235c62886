"""Intervals and pairs over seeds against normal theory and closed forms."""

import math

import numpy as np
import pytest

from lvlm_va.evaluate.statistics import mean_interval, paired


def test_of_many_values_the_interval_is_the_normal_one() -> None:
    values = np.random.default_rng(3).normal(0.8, 0.05, 400)
    half = 1.96 * values.std(ddof=1) / math.sqrt(400)
    found = mean_interval(values.tolist())
    assert found == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05 * half)


def test_of_three_values_the_ends_are_their_extremes() -> None:
    # The smallest value alone is drawn in 1 of 27 cases, more than the 2.5 % beyond each end.
    assert mean_interval([0.2, 0.5, 0.9]) == pytest.approx((0.2, 0.9))
    assert mean_interval([0.5] * 4) == (0.5, 0.5)
    assert mean_interval([0.1, 0.9]) is None


def test_intervals_are_repeated() -> None:
    values = [0.61, 0.72, 0.7, 0.66, 0.81]
    assert mean_interval(values) == mean_interval(values)


def test_pairs_are_formed_by_seed_whatever_the_order() -> None:
    found = paired({2: 0.9, 0: 0.7, 1: 0.8, 7: 0.1}, {0: 0.5, 1: 0.5, 2: 0.5, 9: 0.0})
    assert found is not None
    assert found.differences == pytest.approx({0: 0.2, 1: 0.3, 2: 0.4})
    assert found.interval == pytest.approx((0.2, 0.4))
    assert found.test.two_sided == found.test.smallest_two_sided == 0.25
    back = paired({0: 0.5, 1: 0.5}, {0: 0.7, 1: 0.8})
    assert back is not None
    assert back.differences == pytest.approx({0: -0.2, 1: -0.3})
    assert back.interval is None
    assert paired({0: 0.5}, {1: 0.5}) is None
