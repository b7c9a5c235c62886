"""A model handed over computes what the aligned model computes, and its card is true and harmless."""

import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import lvlm_va
import small
from lvlm_va.errors import ConfigError, LvlmVaError, ModelError, RunError
from lvlm_va.models.formats import difference_from_torch, onnx_file
from lvlm_va.project import export as handover
from lvlm_va.project import inputs as project
from lvlm_va.report.page import markdown
from lvlm_va.run.verdict_table import read_verdicts, verdicts_file
from report_run import SCRIPT


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> lvlm_va.AlignmentResult:
    given_settings = {k: v for k, v in small.settings(align__epochs=3).items() if "critic" not in k}
    return lvlm_va.align(
        small.trained(),
        small.splits(),
        small.SPECIFICATIONS,
        critic="ground-truth",
        run=tmp_path_factory.mktemp("handed") / "run",
        settings=given_settings | {"explain.num_images": 12},
        quiet=True,
    )


@pytest.fixture(scope="module")
def as_onnx(aligned: lvlm_va.AlignmentResult) -> lvlm_va.ExportedModel:
    pytest.importorskip("onnxscript")
    return lvlm_va.export(aligned.path, format="onnx", model=small.untrained(seed=5))


def images(n: int) -> Tensor:
    return small.splits().tests["test"].images(torch.arange(n))


def expected(aligned: lvlm_va.AlignmentResult, images: Tensor) -> Tensor:
    assert aligned.model is not None
    with torch.inference_mode():
        logits: Tensor = aligned.model(images)
    return logits


def test_safetensors_load_strictly_into_a_fresh_model(aligned: lvlm_va.AlignmentResult) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file

    passed = small.untrained(seed=5)
    before = {name: tensor.clone() for name, tensor in passed.state_dict().items()}
    done = lvlm_va.export(aligned.path, model=passed)
    assert all(torch.equal(tensor, before[name]) for name, tensor in passed.state_dict().items())
    fresh = small.untrained(seed=6)
    fresh.load_state_dict(load_file(done.path), strict=True)
    assert torch.equal(fresh.eval()(images(9)), expected(aligned, images(9)))
    with safe_open(done.path, framework="pt") as file:
        notes = file.metadata()
    assert notes["format"] == "pt"
    assert json.loads(notes["classes"]) == list(small.CLASSES)
    assert notes["input"] == "images: (n, 1, 12, 12) float32 in [0, 1], grey"


def test_a_state_dict_loads_as_weights_only(aligned: lvlm_va.AlignmentResult) -> None:
    done = lvlm_va.export(str(aligned.path), format="state-dict", which="original", model=small.untrained())
    state = torch.load(done.path, weights_only=True)
    fresh = small.untrained(seed=6)
    fresh.load_state_dict(state, strict=True)
    assert torch.equal(fresh.eval()(images(9)), small.trained().eval()(images(9)))
    assert "This file is the model before alignment" in done.card.read_text(encoding="utf-8")


def test_onnx_computes_what_torch_computes(
    aligned: lvlm_va.AlignmentResult, as_onnx: lvlm_va.ExportedModel
) -> None:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(as_onnx.path)
    for n in (1, 2, 33):
        (found,) = session.run(["logits"], {"images": images(n).numpy()})
        torch.testing.assert_close(
            torch.from_numpy(found), expected(aligned, images(n)), rtol=1e-4, atol=1e-5
        )
    assert as_onnx.difference is not None
    assert as_onnx.difference < 1e-5
    model = onnx.load(as_onnx.path)
    onnx.checker.check_model(model, full_check=True)
    assert [o.version for o in model.opset_import if o.domain == ""] == [18]
    notes = {p.key: p.value for p in model.metadata_props}
    assert json.loads(notes["classes"]) == list(small.CLASSES)
    assert "float32 in [0, 1], grey" in notes["input"]


def test_a_difference_is_measured(as_onnx: lvlm_va.ExportedModel) -> None:
    pytest.importorskip("onnxruntime")
    other = small.untrained(seed=9).eval()
    session_logits = difference_from_torch(as_onnx.path.read_bytes(), other, images(4))
    assert session_logits is not None
    assert session_logits > 0.01


class Spoken(nn.Module):
    """Wants normalised images and answers with a mapping, as many models do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small.untrained(seed=3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.net(x), "features": x.flatten(1)}


class Counting(nn.Module):
    """Asks for the number of images in a way that fixes it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] * len(x)


def test_normalisation_and_answers_in_a_mapping_are_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same logits from ONNX, which normalises inside, and from the bare weights by the card's code."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    normalise = {"mean": [0.4], "std": [0.2]}
    settings = {k: v for k, v in small.settings(align__epochs=1).items() if "critic" not in k}
    run = lvlm_va.align(
        Spoken(),
        small.splits(),
        small.SPECIFICATIONS,
        critic="ground-truth",
        run=tmp_path / "run",
        settings=settings | {"explain.num_images": 6, "model.normalise": normalise},
        quiet=True,
    )
    assert run.model is not None
    with torch.inference_mode():
        logits = run.model((images(3) - 0.4) / 0.2)["logits"]
    onnx = lvlm_va.export(run.path, format="onnx", model=Spoken())
    session = onnxruntime.InferenceSession(onnx.path)
    (found,) = session.run(["logits"], {"images": images(3).numpy()})
    torch.testing.assert_close(torch.from_numpy(found), logits, rtol=1e-4, atol=1e-5)
    assert "normalisation is inside the file" in onnx.card.read_text(encoding="utf-8")
    bare = lvlm_va.export(run.path, model=Spoken())
    assert "(x − mean) / std with mean 0.4 and std 0.2" in bare.card.read_text(encoding="utf-8")
    model = run_snippet(bare.card, monkeypatch, model=Spoken())["model"]
    torch.testing.assert_close(model(images(3)), logits)


class Fickle(nn.Module):
    """What it computes depends on what it sees: no graph can hold that."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] if float(x.sum()) > 0 else x.flatten(1)[:, 3:6]


def test_onnx_that_would_lie_is_refused(
    aligned: lvlm_va.AlignmentResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxscript")
    with pytest.raises(ModelError, match="Fickle cannot be written as ONNX"):
        onnx_file(Fickle().eval(), images(2), {})
    with pytest.raises(ModelError, match="Counting cannot be written as ONNX for any number of images"):
        onnx_file(Counting().eval(), images(2), {})
    with pytest.raises(ModelError, match="onnxruntime cannot run Counting"):
        difference_from_torch(b"not a graph", Counting().eval(), images(2))
    monkeypatch.setattr(handover, "onnx_file", lambda *_: b"")
    monkeypatch.setattr(handover, "difference_from_torch", lambda *_: float("nan"))
    out = aligned.path.parent / "refused"
    with pytest.raises(
        ModelError, match=r"differ by nan from torch's, more than 0\.001: nothing was written"
    ):
        lvlm_va.export(aligned.path, format="onnx", model=small.untrained(), out=out)
    assert not out.exists()


def snippet(card: Path) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", card.read_text(encoding="utf-8"), flags=re.DOTALL)
    return str(code)


def run_snippet(card: Path, monkeypatch: pytest.MonkeyPatch, **names: Any) -> dict[str, Any]:
    monkeypatch.chdir(card.parent)
    found = dict(names)
    exec(compile(snippet(card), str(card), "exec"), found)
    return found


def test_the_code_in_the_card_runs(
    aligned: lvlm_va.AlignmentResult,
    as_onnx: lvlm_va.ExportedModel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    black = torch.zeros(1, 1, small.SIDE, small.SIDE)
    logits = expected(aligned, black).numpy()
    cards = [as_onnx.card] + [
        lvlm_va.export(aligned.path, format=name, model=small.untrained()).card
        for name in ("safetensors", "state-dict")
    ]
    for card in cards:
        capsys.readouterr()
        found = run_snippet(card, monkeypatch, model=small.untrained(seed=7))
        np.testing.assert_allclose(np.asarray(found["logits"]), logits, rtol=1e-4, atol=1e-5)
        assert capsys.readouterr().out == f"{small.CLASSES[int(logits.argmax())]}\n"


def test_the_card_tells_the_story(aligned: lvlm_va.AlignmentResult, as_onnx: lvlm_va.ExportedModel) -> None:
    text = as_onnx.card.read_text(encoding="utf-8")
    _, header, body = text.split("---\n", 2)
    document = yaml.safe_load(header)
    assert document["pipeline_tag"] == "image-classification"
    (result,) = document["model-index"][0]["results"]
    before, after = (aligned.metrics.models[name].accuracy["test"] for name in ("original", "aligned"))
    assert result["metrics"][0]["value"] == pytest.approx(after, abs=1e-4)
    for value in (before, after):
        assert f"{100 * value:.1f}\u202f%" in body
    verdicts = aligned.metrics.verdicts
    assert f"condemned {verdicts.spurious} of {verdicts.segments} segments" in body
    for said in (
        "an oracle",
        "## Limits",
        "A bar of light strokes.",
        "plain averages over images",
        "given",
    ):
        assert said in body
    assert str(aligned.path.parent) not in text, "nobody's folders"


def test_an_expert_is_named(aligned: lvlm_va.AlignmentResult, tmp_path: Path) -> None:
    table = aligned.path / "verdicts.csv"
    verdicts = read_verdicts(table)
    content = table.read_bytes()
    first = next(n for n, v in enumerate(verdicts) if v.spurious)
    verdicts[first] = replace(verdicts[first], spurious=False, author=f"Ann | {SCRIPT}", reason="a *stroke*")
    table.write_bytes(verdicts_file(verdicts))
    metrics = (aligned.path / "metrics.json").read_text()
    try:
        with pytest.raises(RunError, match=r"verdicts\.csv was edited after this model was aligned"):
            lvlm_va.export(aligned.path, model=small.untrained())
        changed = json.loads(metrics)
        v = verdicts[first]
        changed["verdicts"]["overruled"] = [
            {"image_id": v.image_id, "segment": v.segment, "critic": True, "person": False}
            | {"author": v.author, "reason": v.reason}
        ]
        (aligned.path / "metrics.json").write_text(json.dumps(changed))
        card = lvlm_va.export(aligned.path, model=small.untrained(), out=tmp_path / "out").card
    finally:
        table.write_bytes(content)
        (aligned.path / "metrics.json").write_text(metrics)
    text = card.read_text(encoding="utf-8")
    assert "An expert overruled 1 verdict: Ann \\| &lt;script&gt;" in text
    assert "a \\*stroke\\*" in text
    assert "<script>" not in text


@given(
    st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Zl", "Zp"]), max_size=40)
)
def test_markdown_shows_any_text_as_it_is(text: str) -> None:
    """Another implementation, a Markdown reader, gives the text back, and no element."""
    reader = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True})
    rendered = reader.renderInline(markdown(text))
    assert not re.search(r"<(?!br)", rendered)
    shown = html.unescape(rendered)
    assert " ".join(shown.split()) == " ".join("".join(c if c.isprintable() else "�" for c in text).split())


def refused(kind: type[LvlmVaError], told: str, *arguments: Any, **named: Any) -> None:
    with pytest.raises(kind, match=told) as caught:
        lvlm_va.export(*arguments, **named)
    assert "\n" not in str(caught.value).strip()


def test_mistakes_are_told(aligned: lvlm_va.AlignmentResult, tmp_path: Path) -> None:
    model = small.untrained()
    refused(ConfigError, "unknown choice 'onx'; did you mean 'onnx'", aligned.path, format="onx")
    refused(ConfigError, "unknown choice 'before'", aligned.path, which="before")
    refused(ConfigError, r"made from Python with a MLP.*lvlm_va\.export\(.*model=", aligned.path)
    refused(RunError, "no run here", tmp_path)
    refused(ConfigError, "is the run itself", aligned.path, out=aligned.path, model=model)
    other = nn.Sequential(nn.Flatten(), nn.Linear(small.SIDE**2, 3))
    refused(ModelError, "does not fit Sequential", aligned.path, model=other)
    (tmp_path / "model.safetensors").write_text("mine")
    refused(ConfigError, "model.safetensors is there already", aligned.path, out=tmp_path, model=model)
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    assert (tmp_path / "model.safetensors").read_text() == "mine"


def test_a_run_from_a_project_file_needs_no_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lvlm_va.project.project import Project

    monkeypatch.setattr(project, "load_splits", lambda config, *, log: small.splits())
    changes = {"model__epochs": 2, "model__batch": 32, "explain__num_images": 6, "align__epochs": 1}
    file = small.project_file(tmp_path, **changes)
    with pytest.raises(RunError, match="no run here"):
        lvlm_va.export(tmp_path / "run")
    Project.from_yaml(file).diagnose()
    with pytest.raises(RunError, match=r"metrics\.json is missing, the run is not finished"):
        lvlm_va.export(tmp_path / "run")
    finished = Project.from_yaml(file).align()
    done = lvlm_va.export(finished.path)
    found = run_snippet(done.card, monkeypatch)
    assert capsys.readouterr().out.strip() in small.CLASSES
    assert done.path == tmp_path / "run/export/aligned-safetensors/model.safetensors"
    assert found["model"].training is False
    assert lvlm_va.export(finished.path).path == done.path, "inside the run it is written again"
