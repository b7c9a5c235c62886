"""Means, intervals and pairs over seeds against normal theory, closed forms and a slow bootstrap."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lvlm_va.data.imageset import Groups
from lvlm_va.errors import ConfigError, DataError
from lvlm_va.evaluate.groups import group_accuracy
from lvlm_va.evaluate.intervals import group_accuracy_interval, mean_interval
from lvlm_va.evaluate.statistics import paired, summary


def test_of_many_values_the_interval_is_the_normal_one() -> None:
    values = np.random.default_rng(3).normal(0.8, 0.05, 400)
    found = mean_interval(values.tolist(), level=0.9)
    assert found is not None
    half = 1.6449 * values.std(ddof=1) / math.sqrt(400)
    assert found.low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_of_three_values_the_ends_are_their_extremes() -> None:
    # The smallest value alone is drawn in 1 of 27 cases, more than the 2.5 % beyond each end.
    found = mean_interval([0.2, 0.5, 0.9])
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.2, 0.9))
    assert str(found) == "95 % interval 0.200 to 0.900"


def test_intervals_are_repeated_by_their_seed() -> None:
    values = [0.61, 0.72, 0.7, 0.66, 0.81]
    one, same, other = (mean_interval(values, resamples=500, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert one is not None
    assert one.to_dict() == {
        "low": one.low, "high": one.high, "level": 0.95, "resamples": 500, "seed": 1, "over": "seeds",
    }  # fmt: skip
    equal = mean_interval([0.5] * 4)
    assert equal is not None
    assert equal.low == equal.high == 0.5


def test_two_seeds_have_no_interval_and_one_no_deviation() -> None:
    assert mean_interval([0.1, 0.9]) is None
    assert summary([0.1, 0.9]).interval is None
    one = summary([0.25])
    assert (one.n, one.mean, one.std, one.interval) == (1, 0.25, None, None)
    assert str(one) == "0.250 (n = 1)"
    with pytest.raises(DataError, match="nothing to average"):
        summary([])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_mean_and_deviation_are_numpys(values: list[float]) -> None:
    found = summary(values, resamples=20)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    assert str(found) == f"{found.mean:.3f} ± {found.std:.3f} (n = {len(values)})"


def test_pairs_are_formed_by_seed_whatever_the_order() -> None:
    found = paired({2: 0.9, 0: 0.7, 1: 0.8, 7: 0.1}, {0: 0.5, 1: 0.5, 2: 0.5, 9: 0.0})
    assert found.differences == pytest.approx({0: 0.2, 1: 0.3, 2: 0.4})
    assert found.unpaired == (7, 9)
    assert found.summary.mean == pytest.approx(0.3)
    assert found.test.two_sided == found.test.smallest_two_sided == 0.25
    assert str(found) == "+0.300 ± 0.100 (n = 3), p = 0.25 (smallest possible with n = 3: 0.25)"
    assert found.to_dict()["unpaired"] == [7, 9]
    back = paired({0: 0.5, 1: 0.5}, {0: 0.7, 1: 0.8})
    assert str(back).startswith("-0.250 ± 0.071")
    with pytest.raises(DataError, match="nothing to pair"):
        paired({0: 0.5}, {1: 0.5})


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="level is 95"):
        mean_interval([0.1, 0.2, 0.3], level=95)
    with pytest.raises(ConfigError, match="resamples is 0"):
        mean_interval([0.1, 0.2, 0.3], resamples=0)


def case() -> tuple[torch.Tensor, torch.Tensor, Groups]:
    """Two groups of 30 and 10 images, 24 and 4 of them right, and an empty one."""
    right = torch.tensor([1] * 24 + [0] * 6 + [1] * 4 + [0] * 6)
    groups = Groups(("many", "few", "none"), torch.tensor([0] * 30 + [1] * 10))
    return torch.eye(2)[right], torch.ones(40, dtype=torch.int64), groups


def test_intervals_over_images_are_those_of_drawing_images() -> None:
    outputs, labels, groups = case()
    found = group_accuracy_interval(outputs, labels, groups, resamples=20_000)
    assert found is not None
    random = np.random.default_rng(5)
    average, worst = [], []
    for _ in range(1500):
        drawn = torch.from_numpy(
            np.concatenate([random.integers(30, size=30), 30 + random.integers(10, size=10)])
        )
        one = group_accuracy(outputs[drawn], labels[drawn], Groups(groups.names, groups.of[drawn]))
        average.append(one.average)
        worst.append(one.worst)
    for interval, values in ((found.average, average), (found.worst, worst)):
        low, high = np.quantile(values, (0.025, 0.975))
        assert interval.low == pytest.approx(low, abs=0.02)
        assert interval.high == pytest.approx(high, abs=0.02)
    assert found.average.over == "images, by group"
    assert found == group_accuracy_interval(outputs, labels, groups, resamples=20_000)


def test_of_many_images_the_interval_of_aga_is_the_normal_one() -> None:
    right = torch.tensor([1] * 1800 + [0] * 200 + [1] * 600 + [0] * 400)
    groups = Groups(("a", "b"), torch.tensor([0] * 2000 + [1] * 1000))
    found = group_accuracy_interval(torch.eye(2)[right], torch.ones(3000, dtype=torch.int64), groups)
    assert found is not None
    half = 1.96 * math.sqrt(0.9 * 0.1 / 2000 + 0.6 * 0.4 / 1000) / 2
    assert found.average.low == pytest.approx(0.75 - half, abs=0.1 * half)
    assert found.average.high == pytest.approx(0.75 + half, abs=0.1 * half)
    nothing = torch.zeros(0, dtype=torch.int64)
    assert group_accuracy_interval(torch.zeros(0, 2), nothing, Groups(("a",), nothing)) is None
