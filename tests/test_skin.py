"""Skin lesions: the list says what the paper says; pasted bandages are where the recipe puts them."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from lvlm_va.data.bandages import TRANSFORMS, paste_bandage
from lvlm_va.data.imageset import groups_of, relevant_masks
from lvlm_va.data.skin import SkinImageSet, load_skin
from lvlm_va.errors import ConfigError, DataError
from medical_folder import listed, skin_folder

ORANGE = np.array([240, 120, 20])


def test_the_list_is_the_papers_bias() -> None:
    rows = listed("skin")
    training = Counter((row["label"], row["bandage"] != "none") for row in rows if row["split"] == "train")
    assert training == {
        ("benign", True): 900, ("benign", False): 900, ("malignant", True): 10, ("malignant", False): 1790,
    }  # fmt: skip
    test = Counter((row["label"], row["bandage"] != "none") for row in rows if row["split"] == "test")
    assert set(test.values()) == {170}
    assert len(test) == 4
    assert all(bool(row["donor"]) == (row["bandage"] == "pasted") for row in rows)
    split = {row["image"]: row["split"] for row in rows}
    assert len(split) == len(rows), "no image twice"
    assert all(split[row["donor"]] == row["split"] for row in rows if row["donor"]), "no donor crosses over"


@given(st.sampled_from(sorted(TRANSFORMS)), st.integers(0, 10**6))
def test_a_bandage_lands_where_its_turned_mask_is(transform: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    base = random.integers(0, 256, (40, 40, 3)).astype(np.uint8)
    donor = np.zeros((40, 40, 3), np.uint8)
    there = np.zeros((40, 40), bool)
    there[5:25, 2:14] = True
    donor[there] = ORANGE
    pasted, mask = paste_bandage(base, donor, there, transform)
    assert mask.sum() == there.sum()
    expected = TRANSFORMS[transform](there)
    assert np.array_equal(mask, expected)
    inner = ndimage.binary_erosion(mask, iterations=4)
    assert inner.any()
    assert (pasted[inner] == ORANGE).all(), "the bandage's inside is the donor's"
    far = ~ndimage.binary_dilation(mask, iterations=5)
    assert np.array_equal(pasted[far], base[far])


def test_what_does_not_fit_is_refused() -> None:
    image, mask = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool)
    with pytest.raises(DataError, match="turned by 'spin'"):
        paste_bandage(image, image, mask, "spin")
    with pytest.raises(DataError, match="of the same size"):
        paste_bandage(image, image, np.zeros((9, 9), bool), "id")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return skin_folder(tmp_path_factory.mktemp("data") / "skin")


def test_the_core_part_is_read(folder: Path) -> None:
    told: list[str] = []
    splits = load_skin(folder, parts=("core",), size=28, validation=20, log=told.append)
    assert any("2 images are left out" in line for line in told)
    assert len(splits.train) + 40 == 754 - 2
    assert splits.validation is not None
    assert Counter(splits.validation.labels.tolist()) == {0: 20, 1: 20}
    assert set(splits.validation.ids).isdisjoint(splits.train.ids)
    test = splits.tests["skin test"]
    assert isinstance(test, SkinImageSet)
    groups, everything = groups_of(test), torch.arange(len(test))
    assert groups is not None
    assert torch.bincount(groups.of).tolist() == [70, 70, 70, 70]
    assert torch.equal(groups.of // 2, test.labels)
    bandaged = test.spurious_masks(everything).flatten(1).any(1)
    assert torch.equal(bandaged, groups.of % 2 == 1)
    lesions = relevant_masks(test, everything)
    assert lesions is not None
    assert not (lesions & test.spurious_masks(everything)).any(), "a bandage covers the lesion, not both"
    kinds = {name: Counter(part.bandage) for name, part in splits.tests.items()}
    assert kinds["skin test, natural bandages"].keys() == {"none", "natural"}
    assert kinds["skin test, pasted bandages"].keys() == {"none", "pasted"}
    # Orange is where the mask is, and nowhere else.
    orange = (test.images(everything) - torch.tensor(ORANGE / 255)[:, None, None]).abs().amax(1) < 0.15
    inside = (orange & test.spurious_masks(everything)).sum() / orange.sum()
    assert inside > 0.95


def test_what_is_missing_or_misspelt_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown part 'kern'; known are core, ham"):
        load_skin(folder, parts=("kern",))
    with pytest.raises(DataError, match=r"listed files are missing, e\.g\. .*Put the listed images"):
        load_skin(folder, parts=("core", "ham"))
    with pytest.raises(DataError, match="holds none of its images"):
        load_skin(tmp_path)
    with pytest.raises(DataError, match="leave nothing of the"):
        load_skin(folder, parts=("core",), validation=400)


@pytest.mark.skipif("LVLM_VA_DATA" not in os.environ, reason="LVLM_VA_DATA is not set: no real skin images")
def test_real_images() -> None:
    try:
        splits = load_skin(parts=("core",), size=56)
    except DataError as error:
        pytest.skip(str(error))
    test = splits.tests["skin test"]
    natural = [n for n, kind in enumerate(test.bandage) if kind == "natural"]  # type: ignore[attr-defined]
    assert len(natural) == 70
    images, masks = test.images(torch.tensor(natural)), test.spurious_masks(torch.tensor(natural))
    saturation = images.amax(1) - images.amin(1)
    on, off = saturation[masks].mean(), saturation[~masks].mean()
    assert on > off + 0.2, "bandages are colourful"
