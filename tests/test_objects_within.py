"""Masks cut to the objects in the image: whole objects or none, never the ground."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lvlm_va.alignment.masks import objects_within
from lvlm_va.errors import ConfigError

SIDE = 28


def drawing() -> tuple[Tensor, Tensor, Tensor]:
    """A dark image with a 4×4 patch in a corner and a stroke: (28, 28, 3) uint8, patch, stroke."""
    patch, stroke = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    patch[:4, :4] = True
    stroke[8:22, 12:15] = True
    grey = 105 * patch.int() + 255 * stroke.int()
    return grey.to(torch.uint8)[..., None].expand(-1, -1, 3).contiguous(), patch, stroke


def test_a_half_condemned_object_is_let_off_and_the_patch_is_not() -> None:
    image, patch, stroke = drawing()
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[:15] = True  # the whole patch, the upper half of the stroke, and much ground
    assert torch.equal(objects_within(image[None], mask[None])[0], patch)
    everything = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    assert torch.equal(objects_within(image[None], everything)[0], patch | stroke), "never the ground"
    assert torch.equal(objects_within(image[None], everything, share=1)[0], patch | stroke)


@pytest.mark.parametrize(("rows", "share", "kept"), [(3, 0.75, True), (3, 0.76, False), (4, 1.0, True)])
def test_the_share_of_a_thing_that_must_be_masked(rows: int, share: float, kept: bool) -> None:
    image, patch, _ = drawing()
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    mask[0, :rows] = True  # rows / 4 of the patch
    cut = objects_within(image[None], mask, share=share)[0]
    assert torch.equal(cut, patch if kept else torch.zeros_like(patch)), "a thing is kept whole or not at all"


def test_no_mask_no_thing() -> None:
    image, patch, _ = drawing()
    masks = torch.stack([torch.zeros_like(patch), patch])
    cut = objects_within(image.expand(2, -1, -1, -1), masks)
    assert not cut[0].any()
    assert torch.equal(cut[1], patch)
    flat = torch.full((1, SIDE, SIDE, 3), 40, dtype=torch.uint8)
    assert not objects_within(flat, torch.ones(1, SIDE, SIDE, dtype=torch.bool)).any()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), more=st.integers(0, SIDE), share=st.floats(0.1, 1))
def test_a_larger_mask_or_a_smaller_share_never_lets_off_more(seed: int, more: int, share: float) -> None:
    g = torch.Generator().manual_seed(seed)
    image, patch, stroke = drawing()
    mask = torch.rand(SIDE, SIDE, generator=g) < 0.8
    larger = mask.clone()
    larger[:more] = True
    cut = objects_within(image[None], mask[None], share=share)[0]
    assert not (cut & ~objects_within(image[None], larger[None], share=share)[0]).any()
    assert not (cut & ~objects_within(image[None], mask[None], share=share / 2)[0]).any()
    assert not (cut & ~(patch | stroke)).any()


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, float("nan")])
def test_a_share_that_cannot_be(share: float) -> None:
    image, patch, _ = drawing()
    with pytest.raises(ConfigError, match="share = "):
        objects_within(image[None], patch[None], share=share)
