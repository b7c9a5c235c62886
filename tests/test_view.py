"""A view shows the right images, whatever is chosen and however often."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lvlm_va.data.imageset import ArrayImageSet, Groups, ImageSet, groups_of, relevant_masks
from lvlm_va.data.skin import SkinImageSet
from lvlm_va.data.view import View
from lvlm_va.errors import DataError

N = 7


def numbered() -> SkinImageSet:
    """Image i has the value i everywhere, a planted feature in column i and a lesion in row i."""
    columns = torch.eye(N, dtype=torch.bool)
    return SkinImageSet(
        pixels=torch.arange(N, dtype=torch.uint8)[:, None, None, None].expand(N, 1, N, N).contiguous(),
        labels=torch.arange(N) % 3,
        ids=["a", "a#2", "b", "c", "d", "e", "f"],
        class_names=("x", "y", "z"),
        spurious=columns[:, None, :].expand(N, N, N),
        groups=Groups(("even", "odd"), torch.arange(N) % 2),
        lesions=columns[:, :, None].expand(N, N, N),
    )


def check(view: ImageSet, positions: list[int]) -> None:
    expected, everything = torch.tensor(positions, dtype=torch.int64), torch.arange(len(positions))
    assert len(view) == len(positions)
    assert torch.equal(view.images(everything)[:, 0, 0, 0] * 255, expected.float())
    assert torch.equal(view.labels, expected % 3)
    masks, relevant, groups = (
        view.spurious_masks(everything),
        relevant_masks(view, everything),
        groups_of(view),
    )
    assert masks is not None
    assert relevant is not None
    assert groups is not None
    if positions:
        assert torch.equal(masks[:, 0].int().argmax(1), expected)
        assert torch.equal(relevant[:, :, 0].int().argmax(1), expected)
        backwards = everything.flip(0)
        assert torch.equal(view.images(backwards), view.images(everything).flip(0))
    assert torch.equal(groups.of, expected % 2)
    assert len(set(view.ids)) == len(positions)
    assert list(view.class_names) == ["x", "y", "z"]


@given(positions=st.lists(st.integers(0, N - 1), max_size=20), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_view_and_a_view_of_it_show_what_was_chosen(positions: list[int], data: st.DataObject) -> None:
    view = View(numbered(), torch.tensor(positions, dtype=torch.int64))
    check(view, positions)
    if positions:
        inner = data.draw(st.lists(st.integers(0, len(positions) - 1), max_size=20))
        check(View(view, torch.tensor(inner, dtype=torch.int64)), [positions[i] for i in inner])


def test_ids_tell_a_repetition_and_never_collide() -> None:
    assert View(numbered(), torch.tensor([2, 0, 2, 0, 1, 2, 0])).ids == [
        "b", "a", "b#2", "a#3", "a#2", "b#3", "a#4",
    ]  # fmt: skip


def test_what_the_other_set_does_not_know_stays_unknown() -> None:
    plain = ArrayImageSet(torch.rand(4, 1, 2, 2), torch.zeros(4, dtype=torch.int64), list("abcd"), ("x",))
    view = View(plain, torch.tensor([3, 3]))
    assert view.spurious_masks(torch.tensor([0])) is None
    assert relevant_masks(view, torch.tensor([0])) is None
    assert groups_of(view) is None


@pytest.mark.parametrize("position", [-1, N])
def test_a_position_outside_is_refused(position: int) -> None:
    with pytest.raises(DataError, match=f"position {position} is outside of a set of {N}"):
        View(numbered(), torch.tensor([0, position]))
