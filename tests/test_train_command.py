"""Training by itself: from Python, from the command line, killed in between, and as a part of a run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

import lvlm_va
import small
from lvlm_va.cli import main as cli
from lvlm_va.data.imageset import Groups
from lvlm_va.data.splits import Splits
from lvlm_va.errors import ConfigError, Interrupted, ModelError
from lvlm_va.evaluate.accuracy import accuracy
from lvlm_va.models.predict import logits
from lvlm_va.project import inputs as project
from lvlm_va.training import train as training

SETTINGS: dict[str, Any] = {
    "device": "cpu",
    "model.epochs": 4,
    "model.batch": 32,
    "model.learning_rate": 0.003,
    "model.patience": 2,
}


def grouped() -> Splits:
    """Test images in two groups."""
    parts = small.splits()
    test = parts.tests["test"]
    groups = Groups(("first", "second"), torch.arange(300) // 200)
    return replace(parts, tests={"test": replace(test, groups=groups)})  # type: ignore[type-var]


def interrupt_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write, done = training.Resumption.write, 0

    def write_and_stop(self: training.Resumption, state: dict[str, Any]) -> bytes:
        nonlocal done
        done += 1
        content = write(self, state)
        if done == epochs:
            raise Interrupted("stopped")
        return content

    monkeypatch.setattr(training.Resumption, "write", write_and_stop)


def test_interrupted_resumed_and_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, parts = small.untrained(), grouped()
    before = [p.detach().clone() for p in model.parameters()]
    calm = lvlm_va.train(model, parts, run=tmp_path / "calm", settings=SETTINGS, quiet=True)

    with monkeypatch.context() as patch:
        interrupt_after(2, patch)
        with pytest.raises(Interrupted):
            lvlm_va.train(model, parts, run=tmp_path / "run", settings=SETTINGS, quiet=True)
    assert (tmp_path / "run" / "training.unfinished.pt").exists()
    fitted = lvlm_va.train(model, parts, run=tmp_path / "run", settings=SETTINGS, quiet=True)
    assert not (tmp_path / "run" / "training.unfinished.pt").exists()

    for a, b in zip(calm.model.parameters(), fitted.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert calm.training == fitted.training
    assert fitted.training["how_kept"].startswith("best plain validation accuracy")
    outputs = logits(fitted.model, parts.tests["test"])
    right = (outputs.argmax(1) == parts.tests["test"].labels).float()
    measured = fitted.accuracy["test"]
    assert measured.accuracy == accuracy(outputs, parts.tests["test"].labels)
    one, two = right[:200].mean().item(), right[200:].mean().item()
    assert measured.groups.average == pytest.approx((one + two) / 2)
    assert measured.groups.worst == pytest.approx(min(one, two))
    assert f"AGA {(one + two) / 2:.4f}  WGA {min(one, two):.4f}" in str(fitted)
    assert fitted.accuracy["validation"].groups is None

    seconds = json.loads((tmp_path / "run" / "run.json").read_text())["stages"]["train"]["seconds"]
    lvlm_va.align(
        model,
        parts,
        small.SPECIFICATIONS,
        critic="ground-truth",
        run=tmp_path / "run",
        settings=small.settings(align__epochs=1, explain__num_images=8) | SETTINGS,
        trained=False,
        quiet=True,
    )
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["stages"]["train"]["seconds"] == seconds, "trained once"


@pytest.fixture
def project_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(project, "load_splits", lambda config, *, log: grouped())
    path = tmp_path / "project.yaml"
    # Neither specifications nor a key for the critic are needed.
    document = {
        "project": "alone",
        "specifications": "none.yaml",
        "model": {"epochs": 2, "batch": 64},
        "critique": {"critic": "openai:gpt-4o"},
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return path


def test_the_command(project_file: Path, tmp_path: Path) -> None:
    words = ["train", str(project_file), "--run", str(tmp_path / "run"), "--device", "cpu"]
    first = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert first.exit_code == 0
    assert "mlp: 2 epochs on cpu, float32; epoch 2 kept (the last)." in first.stdout
    assert "epoch 2 of 2: cross-entropy" in first.stderr
    assert f"Weights: {tmp_path / 'run' / 'model.safetensors'}" in first.stdout
    again = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert again.stdout == first.stdout
    assert "Training" not in again.stderr, "nothing is done twice"
    given = ["--set", f"model.weights={tmp_path / 'run' / 'model.safetensors'}", "--run", str(tmp_path / "2")]
    measured = CliRunner().invoke(cli.app, [*words[:2], *given], catch_exceptions=False)
    assert measured.stdout.startswith("mlp: the weights were given, nothing was trained.")
    assert measured.stdout.splitlines()[1:-1] == first.stdout.splitlines()[1:-1]


def test_what_cannot_be(project_file: Path, tmp_path: Path) -> None:
    for command in ("train", "align", "critique"):
        words = [command, str(project_file), "--device", "cuda:99"]
        if command != "train":
            words += ["--critic", "ground-truth"]
        outcome = CliRunner().invoke(cli.app, words)
        assert isinstance(outcome.exception, ConfigError), command
        assert "device 'cuda:99' cannot be used here" in str(outcome.exception)
    unvalidated, model = small.splits(validation=False), small.untrained()
    with pytest.raises(ConfigError, match=r"model\.patience needs a validation set"):
        lvlm_va.train(model, unvalidated, run=tmp_path / "a", settings=SETTINGS, quiet=True)
    settings = SETTINGS | {"model.optimizer": "adamw", "model.learning_rate": 10, "model.weight_decay": 1000}
    with pytest.raises(ModelError, match=r"choose a smaller model\.learning_rate"):
        lvlm_va.train(model, small.splits(), run=tmp_path / "b", settings=settings, quiet=True)
