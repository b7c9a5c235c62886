"""Radiographs with lead markers and skin with bandages: what is drawn is found where it was drawn."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from lvlm_va.critique.backends.builtin.assessment import assess
from lvlm_va.critique.backends.builtin.weighing import Scales
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.specification import ClassSpecification, load_specifications
from lvlm_va.data import knee, skin
from lvlm_va.data.markers import CORNERS, draw_marker
from lvlm_va.project.presets import preset_specifications
from lvlm_va.vision import read_letters, see
from lvlm_va.vision.markers import find_markers


def radiograph(seed: int) -> NDArray[np.uint8]:
    """A joint space between two shafts: (224, 224) uint8."""
    rng = np.random.default_rng(seed)
    v, u = np.indices((224, 224))
    bone = 110 + 55 * np.cos((u - 112) / 60) - 50 * np.exp(-(((v - 118 - 8 * np.cos(u / 30)) / 7) ** 2))
    return (bone + rng.normal(0, 3, bone.shape)).clip(0, 255).astype(np.uint8)


def reduced(plane: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3))


def colours(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(plane[..., None], 3, axis=2)


def agreement(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("size", [224, 112])
@pytest.mark.parametrize(("letter", "corner"), list(zip("LRLR", CORNERS, strict=True)))
def test_a_lead_marker_is_read_where_it_was_drawn(size: int, letter: str, corner: str) -> None:
    marked = draw_marker(radiograph(0), letter, corner, np.random.default_rng(ord(letter)))
    truth = reduced((255 * marked.mask).astype(np.uint8), size) >= 128
    image = colours(reduced(marked.pixels, size))
    (writing,) = read_letters(image)
    assert writing.letters == letter
    assert agreement(writing.mask, truth) > 0.6
    assert [region.role for region in see(image, (writing,)).regions].count("writing") == 1


@pytest.mark.parametrize("size", [224, 112])
def test_a_radiograph_without_a_marker_has_none(size: int) -> None:
    for seed in range(4):
        assert find_markers(colours(reduced(radiograph(seed), size)), lambda line: ("", 0.0)) == ()


def test_an_illegible_marker_is_still_one_on_a_grey_image_only() -> None:
    marked = draw_marker(radiograph(1), "R", "tr", np.random.default_rng(1))
    image = colours(marked.pixels)
    ((letters, mask),) = find_markers(image, lambda line: ("", 0.0))
    assert letters == ""
    assert agreement(mask, marked.mask) > 0.6
    coloured = (image * np.array([1, 0.8, 0.7])).astype(np.uint8)
    assert find_markers(coloured, lambda line: ("", 0.0)) == ()


def dermatoscopy(bandage: tuple[int, int, int] | None) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Skin with a mole in the middle and perhaps a round bandage at the right: (112, 112, 3), its mask."""
    rng = np.random.default_rng(2)
    v, u = np.indices((112, 112))
    image = np.full((112, 112, 3), (214, 172, 150)) + rng.normal(0, 4, (112, 112, 3))
    image[np.hypot(v - 56, u - 50) < 14] = (110, 66, 44)
    there = np.hypot((v - 60) / 1.3, u - 118) < 25
    if bandage is not None:
        image[there] = bandage
    return image.clip(0, 255).astype(np.uint8), there


@pytest.mark.parametrize("bandage", [(20, 120, 210), (90, 200, 200), (240, 150, 50), (30, 140, 60)])
def test_a_bandage_is_a_patch_of_its_own(bandage: tuple[int, int, int]) -> None:
    image, truth = dermatoscopy(bandage)
    masks = {region.role: region.mask for region in see(image).regions}
    assert agreement(masks["patch"], truth) > 0.9
    v, u = np.indices((112, 112))
    assert agreement(masks["object"], np.hypot(v - 56, u - 50) < 14) > 0.8


def test_skin_without_a_bandage_has_no_patch() -> None:
    image, _ = dermatoscopy(None)
    assert {region.role for region in see(image).regions} == {"object", "ground"}


def specifications(name: str, classes: tuple[str, ...]) -> dict[str, ClassSpecification]:
    return load_specifications(preset_specifications(name), classes)


def test_the_shipped_specifications_have_two_paragraphs_a_class() -> None:
    for name, classes in (("knee", knee.CLASS_NAMES), ("skin", skin.CLASS_NAMES)):
        for specification in specifications(name, classes).values():
            assert specification.description.count("\n\n") == 1
            assert specification.relevant
            assert specification.spurious


def verdicts(explained: ExplainedImage, specification: ClassSpecification) -> dict[int, bool | None]:
    scene = see(explained.image, read_letters(explained.image))
    _, findings = assess(explained, scene, Scales(specification))
    return {finding.segment: finding.spurious for finding in findings}


def test_a_bandage_is_condemned_and_of_skin_it_says_nothing() -> None:
    """What is skin no measurement tells with certainty."""
    image, there = dermatoscopy((20, 120, 210))
    v, u = np.indices((112, 112))
    segments = np.where(there, 2, np.where(np.hypot(v - 56, u - 50) < 18, 1, 3)).astype(np.int16)
    attribution = np.ones((112, 112), np.float32)
    explained = ExplainedImage("mole", image, segments, attribution, (0.5, 0.3, 0.2), "benign", "benign")
    for specification in specifications("skin", skin.CLASS_NAMES).values():
        found = verdicts(explained, specification)
        assert found[2] is True
        assert found[1] is not True
        assert found[3] is None


def test_real_radiographs() -> None:
    root = os.environ.get("LVLM_VA_DATA")
    if root is None or not (Path(root) / "knee").is_dir():
        pytest.skip("LVLM_VA_DATA with a folder knee is not set; see lvlm_va.data.knee")
    images = knee.load_knee(Path(root), size=112).train
    truth = images.spurious_masks(torch.arange(40))
    assert truth is not None
    found = 0
    for image, mask in zip(images.images(torch.arange(40)), truth.numpy(), strict=True):
        grey = (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        writings = read_letters(np.ascontiguousarray(grey))
        found += any((writing.mask & mask).any() for writing in writings) == bool(mask.any())
    assert found >= 36
