"""Knee radiographs: the list says what the paper says, tags are drawn where it says, on the real data too."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lvlm_va.data.imageset import ArrayImageSet, groups_of
from lvlm_va.data.knee import load_knee
from lvlm_va.data.markers import CORNERS, draw_marker
from lvlm_va.errors import DataError
from medical_folder import knee_folder, listed, radiograph

GROUPS = ("healthy, no tag", "healthy, tag", "arthritic, no tag", "arthritic, tag")


def test_the_list_is_the_papers_bias() -> None:
    rows = listed("knee")
    counts = Counter((row["split"], row["grade"], bool(row["tag"])) for row in rows)
    assert counts == {
        ("train", "0", False): 250, ("train", "0", True): 250,
        ("train", "3", False): 488, ("train", "3", True): 12,
        ("val", "0", False): 50, ("val", "0", True): 50, ("val", "3", False): 50, ("val", "3", True): 50,
        ("test", "0", False): 100, ("test", "0", True): 100,
        ("test", "3", False): 100, ("test", "3", True): 100,
    }  # fmt: skip
    parts: dict[str, set[str]] = {}
    for row in rows:
        parts.setdefault(row["image"][:-1], set()).add(row["split"])
        assert bool(row["tag"]) == bool(row["corner"])
        assert not row["tag"] or row["tag"] == row["image"][-1], "the marker names the side of the body"
    assert all(len(splits) == 1 for splits in parts.values()), "no patient in two parts"
    assert len({row["image"] for row in rows}) == len(rows)


@given(st.sampled_from("LR"), st.sampled_from(CORNERS), st.integers(0, 10**6))
def test_a_marker_is_bright_small_in_its_corner_and_changes_nothing_else(
    letter: str, corner: str, seed: int
) -> None:
    image = radiograph(np.random.default_rng(1))
    marked, mask = draw_marker(image, letter, corner, np.random.default_rng(seed))
    assert np.array_equal(marked[~mask], image[~mask]) or (
        np.abs(marked[~mask].astype(int) - image[~mask]).max() <= 0.1 * 255
    ), "beyond the rim only the blur's last tenth"
    assert (marked >= image).all(), "lead is never darker than what lies under it"
    assert 0.002 < mask.mean() < 0.02
    rows, columns = np.nonzero(mask)
    assert (rows.max() < 0.25 * 224) if corner[0] == "t" else (rows.min() > 0.75 * 224)
    assert (columns.max() < 0.25 * 224) if corner[1] == "l" else (columns.min() > 0.75 * 224)
    assert np.percentile(marked[mask], 75) > 200
    again, _ = draw_marker(image, letter, corner, np.random.default_rng(seed))
    assert np.array_equal(marked, again)


def test_only_known_letters_and_corners() -> None:
    image = radiograph(np.random.default_rng(1))
    for letter, corner in (("X", "tl"), ("L", "middle")):
        with pytest.raises(DataError, match="choose L or R"):
            draw_marker(image, letter, corner, np.random.default_rng(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return knee_folder(tmp_path_factory.mktemp("data") / "knee")


def test_the_published_folders_are_read_at_any_size(folder: Path) -> None:
    told: list[str] = []
    splits = load_knee(folder.parent, size=32, log=told.append)
    assert told == [f"Knee radiographs: from {folder}"]
    assert [len(p) for p in (splits.train, splits.validation, *splits.tests.values())] == [1000, 200, 400]
    assert splits.class_names == ("healthy", "arthritic")
    for images in (splits.train, splits.validation, *splits.tests.values()):
        assert isinstance(images, ArrayImageSet)
        groups, everything = groups_of(images), torch.arange(len(images))
        assert groups is not None
        assert groups.names == GROUPS
        tagged = images.spurious_masks(everything).flatten(1).any(1)
        assert torch.equal(tagged, groups.of % 2 == 1), "the ground truth is where the list says"
        assert torch.equal(groups.of // 2, images.labels)
    images = splits.train.images(torch.tensor([0, 5]))
    assert images.shape == (2, 3, 32, 32)
    assert torch.equal(images[:, 0], images[:, 2]), "grey in all channels"


@pytest.mark.slow
def test_seeds_move_the_tags_and_not_who_has_one(folder: Path) -> None:
    one, same, other = (load_knee(folder, size=32, seed=seed).train for seed in (0, 0, 1))
    everything = torch.arange(len(one))
    assert torch.equal(one.images(everything), same.images(everything))
    a, b = (part.spurious_masks(everything) for part in (one, other))
    assert torch.equal(a.flatten(1).any(1), b.flatten(1).any(1))
    assert not torch.equal(a, b)


def test_what_is_missing_is_named_with_what_to_do(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("LVLM_VA_DATA", raising=False)
    with pytest.raises(DataError, match=r"no folder is named\. Get KneeKL224"):
        load_knee()
    with pytest.raises(DataError, match=r"data\.path.*holds none of its images.*Get KneeKL224"):
        load_knee(tmp_path)
    monkeypatch.setenv("LVLM_VA_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"LVLM_VA_DATA.*is no folder"):
        load_knee()
    first, last = listed("knee")[0], listed("knee")[-1]
    part = tmp_path / first["split"] / first["grade"]
    part.mkdir(parents=True)
    source = folder / first["split"] / first["grade"] / f"{first['image']}.png"
    (part / source.name).write_bytes(source.read_bytes())
    with pytest.raises(DataError, match="1599 of 1600 listed radiographs are missing"):
        load_knee(tmp_path)
    assert last["split"] == "test"


def test_a_damaged_radiograph_is_named(folder: Path) -> None:
    first = listed("knee")[0]
    path = folder / first["split"] / first["grade"] / f"{first['image']}.png"
    whole = path.read_bytes()
    try:
        path.write_bytes(b"not an image")
        with pytest.raises(DataError, match=f"{path.name}: not a readable image"):
            load_knee(folder, size=16)
        Image.new("L", (20, 20)).save(path)
        with pytest.raises(DataError, match=f"{path.name}: 20×20 pixels; KneeKL224 has 224×224"):
            load_knee(folder, size=16)
    finally:
        path.write_bytes(whole)


@pytest.mark.skipif("LVLM_VA_DATA" not in os.environ, reason="LVLM_VA_DATA is not set: no real radiographs")
def test_real_radiographs() -> None:
    try:
        splits = load_knee(size=56)
    except DataError as error:
        pytest.skip(str(error))
    assert len(splits.train) == 1000
    means = splits.train.images(torch.arange(1000)).mean((1, 2, 3))
    assert means.std() > 0.05, "real exposures differ"
