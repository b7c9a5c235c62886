"""The built-in critic's eyes: drawn shapes whose place, area and form are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from builtin_images import decoys
from lvlm_va.vision.colours import colour_name, lab
from lvlm_va.vision.letters import read_letters, why_not_read
from lvlm_va.vision.measures import Measures, measure
from lvlm_va.vision.regions import see


def drawn(size: int, draw: object, colour: tuple[int, int, int] = (200, 200, 200)) -> dict[str, Measures]:
    """Measure what `draw(pen, colour)` puts on black, by role."""
    image = Image.new("RGB", (size, size))
    draw(ImageDraw.Draw(image), colour)  # type: ignore[operator]
    scene = see(np.asarray(image))
    return {region.role: measure(scene, region) for region in scene.regions}


def test_a_square_in_a_corner():
    block = drawn(28, lambda pen, c: pen.rectangle((24, 0, 27, 3), fill=c))["block"]
    assert block.pixels == 16
    assert block.area == pytest.approx(16 / 784)
    assert block.place == "the top right corner"
    assert block.rectangular == block.uniform == block.corner == block.border == 1
    assert block.elongation == pytest.approx(1)
    assert block.colour == "light grey"
    assert block.brightness == block.contrast == pytest.approx(200 / 255)


def test_a_line_is_long_and_not_compact():
    line = drawn(28, lambda pen, c: pen.line((8, 14, 21, 14), fill=c, width=1))["object"]
    assert line.pixels == 14
    # Principal axes of a 14 × 1 bar of unit squares: σ² = 14² / 12 and 1 / 12.
    assert line.elongation == pytest.approx(14)
    assert line.compact < 0.3
    assert line.middle > 0.8
    assert line.corner == 0


def test_a_disc_is_round_and_a_ring_is_not():
    disc = drawn(112, lambda pen, c: pen.ellipse((36, 36, 76, 76), fill=c))["object"]
    ring = drawn(112, lambda pen, c: pen.ellipse((36, 36, 76, 76), outline=c, width=4))["object"]
    assert disc.area == pytest.approx(np.pi * 20.5**2 / 112**2, rel=0.02)
    assert disc.rectangular == pytest.approx(np.pi / 4, rel=0.03)
    assert disc.round > 0.95
    assert disc.compact > 0.95
    assert ring.round < 0.5
    assert ring.compact < 0.1


def test_the_regions_of_a_decoy_are_exactly_what_was_drawn():
    for decoy in decoys(80):
        scene = see(decoy.image)
        masks = {region.role: region.mask for region in scene.regions}
        assert set(masks) == {"block", "object", "ground"}
        assert (masks["block"] == decoy.patch).all()
        assert (masks["object"] == decoy.ink).all()


def test_a_patch_that_touches_the_figure_is_still_a_block():
    image = np.zeros((28, 28, 3), dtype=np.uint8)
    image[6:24, 20:23] = 255
    image[23, 20:26] = 200  # the stroke's foot lies on the patch
    image[24:28, 24:28] = 130
    masks = {region.role: region.mask for region in see(image).regions}
    assert masks["block"].sum() == 16
    assert masks["block"][24:28, 24:28].all()


def test_a_photograph_has_a_textured_ground():
    rng = np.random.default_rng(0)
    image = np.full((112, 112, 3), (210, 170, 150)) + rng.normal(0, 6, (112, 112, 3))
    v, u = np.indices((112, 112))
    radius = np.hypot(v - 56, u - 56)
    image[radius < 15] -= 90
    scene = see(image.clip(0, 255).astype(np.uint8))
    thing = next(region for region in scene.regions if region.role == "object")
    assert scene.photographic
    assert thing.mask[radius < 13.5].all()
    assert not thing.mask[radius > 16.5].any()
    assert measure(scene, thing).colour == "brown"
    assert not measure(scene, thing).brighter


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((0, 0, 0), "black"),
        ((0.5, 0.5, 0.5), "grey"),
        ((1, 1, 1), "white"),
        ((0, 0.5, 1), "blue"),
        ((0.1, 0.8, 0.2), "green"),
        ((1, 0.9, 0), "yellow"),
        ((0.4, 0.2, 0.1), "brown"),
        ((0.85, 0.1, 0.1), "red"),
    ],
)
def test_colours_have_their_everyday_names(rgb, name):
    assert colour_name(np.array(rgb, dtype=float)) == name


def test_lab_of_the_primaries():
    # Lindbloom's values for sRGB under D65.
    primaries = np.array([[[255, 255, 255], [255, 0, 0], [0, 0, 255]]], dtype=np.uint8)
    expected = [[100, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(lab(primaries)[0], expected, atol=0.1)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    levels=st.integers(1, 256),
    seed=st.integers(0, 2**16),
)
def test_regions_partition_any_image_and_are_measurable(height, width, levels, seed):
    image = np.random.default_rng(seed).integers(0, levels, (height, width, 3)).astype(np.uint8)
    scene = see(image)
    covered = np.sum([region.mask for region in scene.regions], axis=0)
    assert (covered == 1).all()
    for region in scene.regions:
        m = measure(scene, region)
        degrees = (m.area, m.corner, m.border, m.middle, m.rectangular, m.compact, m.round, m.uniform)
        assert all(0 <= value <= 1 for value in degrees)
        assert m.elongation >= 1


def test_a_drawn_letter_is_read_and_located():
    image = Image.new("RGB", (224, 224), (90, 90, 90))
    ink = Image.new("L", (224, 224))
    font = ImageFont.load_default(size=26)
    ImageDraw.Draw(ink).text((190, 8), "R", fill=255, font=font)
    image.paste((250, 250, 250), mask=ink)
    (writing,) = read_letters(np.asarray(image))
    truth = np.asarray(ink) > 127
    assert writing.letters == "R"
    assert (writing.mask & truth).sum() > 0.9 * truth.sum()
    assert (writing.mask & ~truth).sum() < 0.5 * truth.sum()
    scene = see(np.asarray(image), (writing,))
    assert [region.letters for region in scene.regions if region.role == "writing"] == ["R"]


def test_too_small_an_image_is_not_read_and_says_so():
    image = np.zeros((28, 28, 3), dtype=np.uint8)
    assert read_letters(image) == ()
    assert "too small" in why_not_read(image)


def test_without_the_engine_the_critique_says_that_letters_were_not_looked_for(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "not installed" in why_not_read(np.zeros((224, 224, 3), dtype=np.uint8))
