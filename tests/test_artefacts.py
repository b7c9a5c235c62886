"""The files of a run: written and read back bit for bit, damage told as damage."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from lvlm_va.explain.attribution import Attribution
from lvlm_va.explain.sampling import Selection
from lvlm_va.explain.segmentation import ppeps_wgm
from lvlm_va.run import artefacts


def test_selection_round_trip(tmp_path: Path) -> None:
    entropy = torch.tensor([1 / 3, 1e-300, 0.0, 0.1 + 0.2], dtype=torch.float64)
    classes = torch.tensor([1, 0, 1, 1])
    selection = Selection(torch.tensor([7, 0, 3, 9]), entropy, "balanced", (1, 3), classes, 0.5)
    ids = [f'id "{n}", é' for n in range(10)]
    file = tmp_path / "selection.csv"
    file.write_bytes(artefacts.selection_file(selection, ids))
    indices, read = artefacts.read_selection(file)
    assert torch.equal(artefacts.read_selected_classes(file), classes)
    assert indices.tolist() == [7, 0, 3, 9]
    assert torch.equal(read, entropy), "bit for bit"
    head, first, *_ = file.read_text(encoding="utf-8").splitlines()
    assert head == "image_id,index,label,entropy,strategy"
    assert first == '"id ""7"", é",7,1,0.3333333333333333,balanced'


def test_attribution_round_trip(tmp_path: Path) -> None:
    attribution = Attribution(torch.randn(3, 4, 5), torch.rand(3), "deeplift-shap")
    file = tmp_path / "a.safetensors"
    file.write_bytes(
        artefacts.attribution_file(attribution, torch.tensor([2, 0, 1]), torch.tensor([2, 0, 0]))
    )
    read, targets, predicted = artefacts.read_attribution(file)
    assert torch.equal(read.values, attribution.values)
    assert torch.equal(read.completeness_error, attribution.completeness_error)
    assert read.method == "deeplift-shap"
    assert (targets.tolist(), predicted.tolist()) == ([2, 0, 1], [2, 0, 0])


def test_segmentation_round_trip(tmp_path: Path) -> None:
    attribution = torch.randn(3, 6, 7, generator=torch.Generator().manual_seed(0))
    attribution[1] = -1
    segmentation = replace(ppeps_wgm(attribution, 2), method="slic")
    assert set(segmentation.set_aside) == {1}
    file = tmp_path / "s.safetensors"
    file.write_bytes(artefacts.segmentation_file(segmentation))
    read = artefacts.read_segmentation(file)
    for field in fields(segmentation):
        one, other = getattr(segmentation, field.name), getattr(read, field.name)
        if field.name in ("set_aside", "method"):
            assert one == other
        else:
            assert one.dtype == other.dtype
            torch.testing.assert_close(other, one, rtol=0, atol=0, equal_nan=True)


def test_notes_and_strided_tensors(tmp_path: Path) -> None:
    file = tmp_path / "t.safetensors"
    strided = torch.arange(12).view(3, 4).T
    file.write_bytes(artefacts.tensors_file({"x": strided}, ids=["a", "é"], nothing=None))
    tensors, notes = artefacts.read_tensors(file)
    assert torch.equal(tensors["x"], strided)
    assert notes == {"ids": ["a", "é"], "nothing": None}


READERS: list[tuple[str, Callable[[Path], object]]] = [
    ("t.safetensors", artefacts.read_tensors),
    ("a.safetensors", artefacts.read_attribution),
    ("s.safetensors", artefacts.read_segmentation),
    ("selection.csv", artefacts.read_selection),
]


@pytest.mark.parametrize(("name", "read"), READERS)
@pytest.mark.parametrize("damage", [b"", b"garbage", b"\xff" * 100, b"image_id,index,entropy\na\n"])
def test_damage_is_told_in_the_way_a_stage_understands(
    tmp_path: Path, name: str, read: Callable[[Path], object], damage: bytes
) -> None:
    file = tmp_path / name
    with pytest.raises(FileNotFoundError):
        read(file)
    file.write_bytes(damage)
    if name == "selection.csv" and damage in (b"", b"garbage"):
        indices, _ = read(file)  # type: ignore[misc]
        assert len(indices) == 0, "no row: the stage misses its images"
        return
    with pytest.raises((ValueError, KeyError)):
        read(file)


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_file_that_was_cut_off(tmp_path: Path, kept: float) -> None:
    file = tmp_path / "a.safetensors"
    content = artefacts.attribution_file(
        Attribution(torch.randn(2, 3, 3), torch.rand(2), "x"), torch.tensor([0, 1]), torch.tensor([0, 1])
    )
    file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"a\.safetensors"):
        artefacts.read_attribution(file)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(artefacts.tensors_file({"x": torch.zeros(1)}))
    with pytest.raises(KeyError):
        artefacts.read_attribution(file)
    with pytest.raises(KeyError):
        artefacts.read_segmentation(file)
