"""ECE in closed form, binned by hand, and of a model that is sure exactly as often as it is right."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lvlm_va.errors import ConfigError, DataError
from lvlm_va.evaluate.calibration import calibration


def sure(confidence: float, n: int, right: int) -> tuple[torch.Tensor, torch.Tensor]:
    """n images of two classes, predicted 0 with this confidence; `right` of them are of class 0."""
    outputs = torch.tensor([[math.log(confidence / (1 - confidence)), 0.0]], dtype=torch.float64).repeat(n, 1)
    return outputs, (torch.arange(n) >= right).long()


def test_always_sure_and_always_wrong_is_one_and_right_is_zero() -> None:
    outputs = torch.tensor([[1000.0, 0.0]]).repeat(5, 1)
    assert calibration(outputs, torch.ones(5, dtype=torch.int64)).ece == 1.0
    assert calibration(outputs, torch.zeros(5, dtype=torch.int64)).ece == 0.0


def test_as_often_right_as_sure_is_zero() -> None:
    parts = [sure(0.6, 10, 6), sure(0.75, 8, 6), sure(0.95, 20, 19)]
    outputs, labels = (torch.cat(some) for some in zip(*parts, strict=True))
    found = calibration(outputs, labels)
    assert found.ece == pytest.approx(0, abs=1e-12)
    assert [n for n in found.images if n] == [10, 8, 20]
    # Without the labels' help: 0.6 sure and always right is 0.4 off, for 10 of 38 images.
    labels[:10] = 0
    assert calibration(outputs, labels).ece == pytest.approx(0.4 * 10 / 38)


def test_in_expectation_a_model_that_draws_labels_by_its_probabilities_is_calibrated() -> None:
    g = torch.Generator().manual_seed(0)
    outputs = 2 * torch.randn(100_000, 4, generator=g)
    labels = torch.multinomial(outputs.softmax(1), 1, generator=g)[:, 0]
    assert calibration(outputs, labels).ece < 0.01
    assert calibration(3 * outputs, labels).ece > 0.1, "overconfident"


def test_an_edge_belongs_to_the_bin_below_it() -> None:
    found = calibration(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), bins=2)  # confidence 1/2
    assert found.images == (3, 0)
    assert (found.confidence, found.accuracy) == ((0.5, None), (1.0, None))
    assert found.ece == 0.5


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 20))
def test_binned_by_hand(seed: int, n: int, bins: int) -> None:
    g = torch.Generator().manual_seed(seed)
    outputs, labels = 2 * torch.randn(n, 3, generator=g), torch.randint(3, (n,), generator=g)
    held: dict[int, list[tuple[float, bool]]] = {}
    for row, label in zip(outputs.double().tolist(), labels.tolist(), strict=True):
        p = [math.exp(x) / sum(math.exp(y) for y in row) for x in row]
        held.setdefault(math.ceil(max(p) * bins), []).append((max(p), p.index(max(p)) == label))
    expected = sum(abs(sum(c for c, _ in b) - sum(right for _, right in b)) for b in held.values()) / n
    found = calibration(outputs, labels, bins=bins)
    assert found.ece == pytest.approx(expected, abs=1e-9)
    assert sum(found.images) == n
    assert len(found.images) == bins


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="bins is 0"):
        calibration(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64), bins=0)
    with pytest.raises(DataError, match="2 outputs and 1 labels"):
        calibration(torch.zeros(2, 2), torch.zeros(1, dtype=torch.int64))
    assert math.isnan(calibration(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)).ece)
