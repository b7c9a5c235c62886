"""Where a model's first weights come from: a file, the cache, a hub, or nowhere, which is said loudly."""

import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lvlm_va.config.loading import ModelConfig, load_config, parse_config
from lvlm_va.errors import ConfigError, ModelError
from lvlm_va.models import weights
from lvlm_va.models.adapter import unwrapped
from lvlm_va.models.resnet import ResNet, resnet18
from lvlm_va.models.weights import HUBS, Hosted, find_imagenet
from lvlm_va.project.inputs import load_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "resnet18-00000000.pth"
    torch.manual_seed(7)
    torch.save(resnet18(num_classes=6).state_dict(), path)
    return path


@pytest.fixture
def hub(checkpoint: Path) -> Iterator[str]:
    """A server with the checkpoint; what is not there it answers with 404."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(checkpoint.parent))

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights of this machine's, no real hub."""
    monkeypatch.delenv("LVLM_VA_WEIGHTS", raising=False)
    monkeypatch.setenv("LVLM_VA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "HUBS", {"resnet18": (Hosted("http://127.0.0.1:9/resnet18.pth", "", 10),)})


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(notes: list[str] | None = None, **settings: object) -> tuple[nn.Module, str]:
    log = (lambda _: None) if notes is None else notes.append
    model, origin = load_model(ModelConfig(name="resnet18", **settings), (3, 32, 32), ("a", "b"), log=log)
    assert isinstance(unwrapped(model), ResNet)
    return unwrapped(model), origin


def test_the_hubs_are_asked_in_order_and_the_file_is_kept(
    hub: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    routes = (
        Hosted(f"{hub}/gone.pth", sha256(checkpoint), 1),
        Hosted(f"{hub}/{checkpoint.name}", sha256(checkpoint), 60_000_000),
    )
    monkeypatch.setattr(weights, "HUBS", {"resnet18": routes})
    notes: list[str] = []
    model, origin = load(notes, pretrained="imagenet", normalise="imagenet")
    assert origin == f"imagenet (file sha256 {sha256(checkpoint)})"
    assert torch.equal(model.conv1.weight, torch.load(checkpoint, weights_only=True)["conv1.weight"])
    assert model.fc.out_features == 2
    assert any("gone.pth: the server answers 404" in note for note in notes)
    # Again: the cache has it.
    monkeypatch.setattr(weights, "reachable", lambda urls: pytest.fail("the cache is asked first"))
    notes.clear()
    path = find_imagenet("resnet18", log=notes.append)
    assert path is not None
    assert path.parent == tmp_path / "cache/weights"
    assert "from the cache" in notes[0]


def test_another_file_is_not_taken(hub: str, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = sha256(checkpoint)[:-1] + ("0" if sha256(checkpoint)[-1] != "0" else "1")
    monkeypatch.setattr(
        weights, "HUBS", {"resnet18": (Hosted(f"{hub}/{checkpoint.name}", digits, 60_000_000),)}
    )
    notes: list[str] = []
    assert find_imagenet("resnet18", log=notes.append) is None
    assert f"SHA-256 is not {digits}" in notes[-1]


def test_nowhere_is_said_loudly_and_labelled() -> None:
    notes: list[str] = []
    _, origin = load(notes, pretrained="imagenet", normalise="imagenet")
    assert origin.startswith("random (imagenet")
    assert any(
        note.startswith("NO IMAGENET WEIGHTS: resnet18 is trained from random weights") for note in notes
    )
    assert any("127.0.0.1:9" in note for note in notes), "and why"
    assert load()[1] == "random"


def test_imagenet_without_normalisation_is_mentioned() -> None:
    notes: list[str] = []
    load(notes, pretrained="imagenet")
    assert any("set model.normalise to imagenet" in note for note in notes)


def test_a_named_file_or_folder_goes_first(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for named in (checkpoint, checkpoint.parent):
        monkeypatch.setenv("LVLM_VA_WEIGHTS", str(named))
        assert find_imagenet("resnet18", log=lambda _: None) == checkpoint
    monkeypatch.setenv("LVLM_VA_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="LVLM_VA_WEIGHTS: there is no file or folder"):
        find_imagenet("resnet18", log=lambda _: None)
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.setenv("LVLM_VA_WEIGHTS", str(folder))
    notes: list[str] = []
    assert find_imagenet("resnet18", log=notes.append) is None
    assert "holds no file resnet18*" in notes[0]
    for name in ("resnet18-a.pth", "resnet18-b.safetensors"):
        (folder / name).touch()
    with pytest.raises(ModelError, match=r"resnet18-a\.pth, resnet18-b\.safetensors; name one"):
        find_imagenet("resnet18", log=lambda _: None)


def test_imagenet_is_known_for_few() -> None:
    with pytest.raises(ConfigError, match="known for resnet18, not for mlp"):
        find_imagenet("mlp", log=lambda _: None)
    assert set(HUBS) == {"resnet18", "resnet50"}
    for hosted in (hosted for several in HUBS.values() for hosted in several):
        assert len(bytes.fromhex(hosted.sha256)) == 32
        # torchvision's names carry the first digits, hugging face's addresses the commit.
        named = hosted.sha256[:8] in hosted.url
        assert named or re.search(r"/resolve/[0-9a-f]{40}/", hosted.url)
        assert "/" not in hosted.file


def test_a_file_of_the_users(checkpoint: Path, tmp_path: Path) -> None:
    _, origin = load(pretrained=checkpoint)
    assert origin == f"{checkpoint.name} (file sha256 {sha256(checkpoint)})"
    with pytest.raises(ModelError, match="no such checkpoint"):
        load(pretrained=tmp_path / "none.pth")
    whole = tmp_path / "whole.safetensors"
    save_file(resnet18(num_classes=2).half().state_dict(), whole)
    model, origin = load(weights=whole)
    assert origin == "complete (whole.safetensors)"
    assert model.fc.weight.dtype == torch.float32
    with pytest.raises(ModelError, match=r"of another shape: fc\.weight is \(6, 512\) instead of \(2, 512\)"):
        load(weights=checkpoint)


def test_the_keys(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("model: {pretrained: w.pth, normalise: {mean: [0.5], std: [0.2]}}\n")
    model = load_config(file).model
    assert model.pretrained == tmp_path / "w.pth"
    assert model.normalise == {"mean": (0.5,), "std": (0.2,)}
    file.write_text("model: {pretrained: imagenet, normalise: imagenet}\n")
    config = load_config(file)
    assert config.model.pretrained == "imagenet"
    assert parse_config(config.model_dump(mode="json", by_alias=True)) == config
    with pytest.raises(ConfigError, match=r"model\.normalise: normalise must be none, imagenet, or \{mean"):
        parse_config({"model": {"normalise": "imagnet"}})
    with pytest.raises(ConfigError, match="give one of them"):
        parse_config({"model": {"weights": "a", "pretrained": "b"}})
    with pytest.raises(ConfigError, match=r"explain\.steps"):
        parse_config({"explain": {"steps": 0}})
