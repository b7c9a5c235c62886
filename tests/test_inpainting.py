"""Push-pull filling: what must stay stays, constants and bounds are kept, smooth images come back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lvlm_va.alignment.inpainting import fill
from lvlm_va.errors import DataError


@given(st.integers(2, 19), st.integers(2, 19), st.integers(0, 10**6))
def test_known_pixels_stay_and_others_lie_between_them(height: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 3, height, width, generator=generator)
    masks = torch.rand(2, height, width, generator=generator) < 0.5
    masks[:, 0, 0] = False
    filled = fill(images, masks)
    kept = ~masks[:, None].expand_as(images)
    assert torch.equal(filled[kept], images[kept])
    for n in range(2):
        for c in range(3):
            known = images[n, c][~masks[n]]
            assert filled[n, c].min() >= known.min() - 1e-6
            assert filled[n, c].max() <= known.max() + 1e-6


@given(st.integers(2, 40), st.floats(0, 1), st.integers(0, 10**6))
def test_a_constant_image_is_filled_with_its_constant(side: int, value: float, seed: int) -> None:
    masks = torch.rand(1, side, side, generator=torch.Generator().manual_seed(seed)) < 0.7
    masks[0, -1, -1] = False
    holes = torch.where(masks[:, None], 9.0, value)
    torch.testing.assert_close(fill(holes, masks), torch.full_like(holes, value))


def test_a_slope_is_continued_far_better_than_by_the_mean() -> None:
    slope = torch.linspace(0, 1, 64).expand(64, 64).reshape(1, 1, 64, 64).clone()
    masks = torch.zeros(1, 64, 64, dtype=torch.bool)
    masks[0, 24:40, 4:20] = True
    error = (fill(slope, masks) - slope)[0, 0][masks[0]].abs().mean()
    mean = (slope.mean() - slope)[0, 0][masks[0]].abs().mean()
    assert error < mean / 8


def test_a_half_masked_pixel_is_half_itself() -> None:
    images = torch.zeros(1, 1, 1, 2)
    images[..., 0], images[..., 1] = 1.0, 0.0
    half = fill(images, torch.tensor([[[0.5, 0.0]]]))
    whole = fill(images, torch.tensor([[[1.0, 0.0]]]))
    assert whole[0, 0, 0, 0] < half[0, 0, 0, 0] < 1
    assert half[0, 0, 0, 1] == 0


def test_nothing_to_continue_and_wrong_shapes_are_errors() -> None:
    with pytest.raises(DataError, match="covers its whole image"):
        fill(torch.rand(2, 1, 4, 4), torch.tensor([False, True])[:, None, None].expand(2, 4, 4))
    with pytest.raises(DataError, match="one mask per image"):
        fill(torch.rand(2, 1, 4, 4), torch.zeros(2, 4, 5))
