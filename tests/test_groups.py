"""AGA and WGA against sums done by hand and against properties that any average has."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lvlm_va.data.imageset import ArrayImageSet, Groups, groups_of
from lvlm_va.errors import DataError
from lvlm_va.evaluate.groups import group_accuracy, training_weighted


def one_hot(predicted: list[int]) -> torch.Tensor:
    return torch.eye(2)[predicted]


def test_by_hand() -> None:
    groups = Groups(("a", "b", "empty"), torch.tensor([0, 0, 0, 0, 1, 1]))
    found = group_accuracy(one_hot([0, 0, 0, 1, 1, 0]), torch.tensor([0, 0, 0, 0, 0, 0]), groups)
    assert found.accuracy == {"a": 0.75, "b": 0.5}
    assert found.images == {"a": 4, "b": 2, "empty": 0}
    assert found.average == 0.625  # not the plain accuracy, 4 of 6
    assert found.worst == 0.5


def test_no_images_have_no_accuracy() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    found = group_accuracy(torch.zeros(0, 2), nothing, Groups(("a",), nothing))
    assert math.isnan(found.average)
    assert math.isnan(found.worst)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 3)), min_size=1))
def test_weighted_by_size_the_groups_give_the_plain_accuracy(rows: list[tuple[int, int, int]]) -> None:
    predicted, labels, of = (list(column) for column in zip(*rows, strict=True))
    groups = Groups(("a", "b", "c", "d"), torch.tensor(of))
    found = group_accuracy(one_hot(predicted), torch.tensor(labels), groups)
    weighted = sum(found.accuracy[name] * found.images[name] for name in found.accuracy) / len(rows)
    assert weighted == pytest.approx(sum(p == y for p, y in zip(predicted, labels, strict=True)) / len(rows))
    assert found.worst <= found.average <= max(found.accuracy.values()) + 1e-12


def test_groups_must_fit_the_images() -> None:
    with pytest.raises(DataError, match="2 outputs, 2 labels and 1 groups"):
        group_accuracy(one_hot([0, 1]), torch.tensor([0, 1]), Groups(("a",), torch.tensor([0])))
    pixels, labels, names = torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]), ("x", "y")

    def images(groups: Groups | None) -> ArrayImageSet:
        return ArrayImageSet(pixels, labels, ["1", "2"], names, groups=groups)

    with pytest.raises(DataError, match="2 images, but 1 groups"):
        images(Groups(("a",), torch.tensor([0])))
    with pytest.raises(DataError, match="from 0 to 1, but there are 1: a"):
        images(Groups(("a",), torch.tensor([0, 1])))
    with pytest.raises(DataError, match="must be unique"):
        images(Groups(("a", "a"), torch.tensor([0, 1])))
    assert groups_of(images(None)) is None
    fits = Groups(("a",), torch.tensor([0, 0]))
    assert groups_of(images(fits)) is fits


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=40),
    st.integers(1, 3),
)
def test_weighted_by_equal_shares_it_is_the_plain_accuracy(rows: list[tuple[int, int]], times: int) -> None:
    right, of = (list(column) for column in zip(*rows, strict=True))
    groups = Groups(("a", "b", "c", "d"), torch.tensor(of))
    found = group_accuracy(one_hot(right), torch.ones(len(rows), dtype=torch.int64), groups)
    # The same shares in a training set of another size, and under names in another order.
    training = Groups(("d", "c", "b", "a"), 3 - torch.tensor(of * times))
    assert training_weighted(found, training) == pytest.approx(sum(right) / len(rows))


def test_training_weighted_by_hand() -> None:
    groups = Groups(("a", "b", "empty"), torch.tensor([0, 0, 0, 0, 1, 1]))
    found = group_accuracy(one_hot([0, 0, 0, 1, 1, 0]), torch.tensor([0, 0, 0, 0, 0, 0]), groups)
    training = Groups(("a", "b", "empty"), torch.tensor([0] + [1] * 9))
    assert training_weighted(found, training) == pytest.approx((0.75 + 9 * 0.5) / 10)
    # A training group that was not tested: nothing is made up for it.
    assert training_weighted(found, Groups(("a", "b", "empty"), torch.tensor([0, 2]))) is None
    assert training_weighted(found, Groups(("a",), torch.zeros(0, dtype=torch.int64))) is None
