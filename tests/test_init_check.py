"""`lvlm-va init` and `lvlm-va check`, and the way of a newcomer from a folder of images to a report."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from lvlm_va.config.loading import Config, load_config, parse_config
from lvlm_va.config.reference import project_keys
from lvlm_va.critique.backends.openai import OpenAIBackend
from lvlm_va.critique.specification import load_specifications, specification_template
from lvlm_va.data.reading import read_image
from lvlm_va.data.splits import Splits
from lvlm_va.errors import ConfigError, CriticError, DataError, Interrupted, SpecificationError
from lvlm_va.project import check as checks
from lvlm_va.project.check import Finding, check_project, findings_table
from lvlm_va.project.init import init_project, project_file
from lvlm_va.project.inputs import load_inputs
from parts import CLASSES, SIDE, class_folders
from servers import chat_server

ROOT = Path(__file__).parents[1]
WORDS = {
    "bolt": {"description": "A filled bright block.", "spurious": ["a bright square in the corner"]},
    "nut": {"description": "A bright ring with a dark hole.", "spurious": ["a bright square in the corner"]},
}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVLM_VA_CACHE", str(tmp_path_factory.mktemp("cache")))


def project(tmp_path: Path, **changes: Any) -> Config:
    """A project on class folders in `tmp_path`/d; double underscores stand for dots."""
    (tmp_path / "words.yaml").write_text(yaml.safe_dump({"classes": WORDS}))
    document: dict[str, Any] = {
        "specifications": str(tmp_path / "words.yaml"),
        "run": str(tmp_path / "run"),
        "data": {"name": "folder", "path": str(tmp_path / "d"), "size": SIDE},
        "explain": {"num_images": 8, "baselines": 4},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            document.setdefault(section, {})[name] = value
        else:
            document[section] = value
    return parse_config(document)


def problems(findings: list[Finding]) -> dict[str, str]:
    return {f.subject: f.text for f in findings if f.outcome == "problem"}


def test_the_written_file_says_what_is_in_force_anyway() -> None:
    text = project_file({})
    assert parse_config(yaml.safe_load(text)) == Config()
    for key in project_keys():
        assert key.meaning
        assert f"# {key.meaning} ({key.kind})\n" in text
        assert f"{key.name}:" in text
    given = yaml.safe_load(project_file({"model.weights": "w.pt", "data.groups": ["a", "b"], "run": "x"}))
    assert (given["model"]["weights"], given["data"]["groups"], given["run"]) == ("w.pt", ["a", "b"], "x")
    assert "device" in given


def test_the_reference_is_current() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "project_file.py"))
    page = (ROOT / "docs" / "project-file.md").read_text(encoding="utf-8")
    assert page == script["page"](), "run: python docs/project_file.py"
    for key in project_keys():
        assert f"| `{key.name}` |" in page


def test_init_from_a_folder(tmp_path: Path) -> None:
    class_folders(tmp_path / "images", 10)
    written = init_project(tmp_path / "my project", data=tmp_path / "images", model="resnet18")
    assert [p.name for p in written] == ["project.yaml", "specifications.yaml"]
    config = load_config(written[0])
    assert config.project == "my-project"
    assert (config.data.name, config.data.path) == ("folder", tmp_path / "my project" / ".." / "images")
    assert (config.model.name, config.explain.num_images) == ("resnet18", 13)
    align = config.align
    assert (align.lam, align.counterfactual, align.keep) == ((0.003,), 1.0, "best"), "see test_suited"
    assert config.specifications == written[1]
    document = yaml.safe_load(written[1].read_text())
    assert list(document["classes"]) == list(CLASSES)
    with pytest.raises(SpecificationError, match="class 'bolt': 'description' is ''; write text there"):
        load_specifications(written[1], CLASSES)
    for name in ("project.yaml", "specifications.yaml"):
        before = written[0].read_bytes(), written[1].read_bytes()
        with pytest.raises(ConfigError, match="is there already, and is not overwritten"):
            init_project(tmp_path / "my project")
        assert (written[0].read_bytes(), written[1].read_bytes()) == before
        (tmp_path / "my project" / name).rename(tmp_path / name)
        with pytest.raises(ConfigError, match="is there already"):
            init_project(tmp_path / "my project")
        (tmp_path / name).rename(tmp_path / "my project" / name)


def test_init_from_a_manifest_or_nothing(tmp_path: Path) -> None:
    class_folders(tmp_path, 6)
    lines = [f"{f.relative_to(tmp_path)},{f.parent.name}" for f in sorted(tmp_path.rglob("*.png"))]
    (tmp_path / "m.csv").write_text("\n".join(["file,label", *lines]))
    written = init_project(tmp_path / "p", data=tmp_path / "m.csv")
    assert load_config(written[0]).data.name == "manifest"
    written = init_project(tmp_path / "q")
    assert load_config(written[0]).data.path is None
    with pytest.raises(DataError, match="no such folder or manifest"):
        init_project(tmp_path / "r", data=tmp_path / "none")
    with pytest.raises(DataError, match="neither a folder nor a manifest"):
        init_project(tmp_path / "r", data=written[0])
    assert not (tmp_path / "r").exists()


def test_a_sound_project(tmp_path: Path) -> None:
    class_folders(tmp_path / "d" / "train", 8)
    class_folders(tmp_path / "d" / "test", 4, first=7)
    (tmp_path / "d" / "train" / "nut" / "broken.png").write_text("x")
    findings = check_project(project(tmp_path, device="cpu", data__validation=4))
    assert not problems(findings)
    text = findings_table(findings)
    assert "train: 12 images (bolt: 6; nut: 6)" in text
    assert "validation: 4 images (bolt: 2; nut: 2)" in text
    assert "16×16, grey" in text
    assert "WARNING      data" in text
    assert "train/nut/broken.png: not an image" in text
    assert "leak: " in text  # 007 of both classes is also in the test
    assert "outputs fit the classes" in text
    assert "builtin (measures; not an LVLM)" in text
    assert not (tmp_path / "run").exists(), "nothing was started"


def test_all_problems_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    class_folders(tmp_path / "d", 4)
    torch.save({"wrong": torch.zeros(3)}, tmp_path / "weights.pt")
    config = project(
        tmp_path,
        device="tpu",
        critique__critic="openai:gpt-4o",
        model__weights=str(tmp_path / "weights.pt"),
        explain__num_images=100,
        explain__segments=999,
        data__validation=0,
        align__lambda=[0.1, 1],
    )
    (tmp_path / "words.yaml").write_text("classes: {bolt: A bolt., nutt: A nut.}")
    found = check_project(config)
    texts = [f"{f.subject}: {f.text}" for f in found if f.outcome == "problem"]
    for told in (
        "device: device 'tpu'",
        "critic: no key for",
        "class 'nutt'; did you mean 'nut'",
        "numbers: explain.num_images asks for 100 images",
        "numbers: explain.segments asks for 999 segments of 256 pixels",
        "numbers: align.lambda has several values",
    ):
        assert any(told in text for text in texts), (told, texts)
    assert (
        "weights.pt does not fit"
        in problems(check_project(config.model_copy(update={"device": "cpu"})))["model"]
    )
    missing = check_project(project(tmp_path, data__path=str(tmp_path / "none"), model__name="resnet19"))
    assert "no such folder" in problems(missing)["data"]
    assert {f.subject for f in missing if f.outcome == "skipped"} == {"model", "specifications", "numbers"}


def test_dark_images_are_noticed(tmp_path: Path) -> None:
    for name in CLASSES:
        (tmp_path / "d" / name).mkdir(parents=True)
    for n in range(12):
        levels = torch.arange(256).reshape(16, 16).add(n).mul(15).clamp(max=4095).to(torch.uint16)
        Image.fromarray(levels.numpy()).save(tmp_path / "d" / CLASSES[n % 2] / f"{n}.png")
    (dark,) = [f for f in check_project(project(tmp_path)) if "black" in f.text]
    assert dark.outcome == "warning"
    assert "data.bits: 12" in dark.text
    assert not [f for f in check_project(project(tmp_path, data__bits=12)) if "black" in f.text]


def test_an_endpoint_is_looked_for_and_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with chat_server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert "does not list its models (HTTP 404)" in OpenAIBackend("m").reach()
        server.models = ["m", "n"]
        assert "answers and has the model" in OpenAIBackend("m").reach()
        assert "does not list 'mm'; did you mean 'm'?" in OpenAIBackend("mm").reach()
        server.models = None
        assert not server.bodies, "no question was asked"
    with pytest.raises(CriticError, match="cannot reach") as caught:
        OpenAIBackend("m").reach()
    assert "secret" not in str(caught.value)


def test_a_signal_is_no_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> Splits:
        raise Interrupted("stopped")

    monkeypatch.setattr(checks, "load_splits", stopped)
    with pytest.raises(Interrupted):
        check_project(project(tmp_path))
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "open", stopped)
    with pytest.raises(Interrupted):
        read_image(tmp_path / "a.png")


def test_specifications_are_asked_for_with_a_template(tmp_path: Path) -> None:
    class_folders(tmp_path / "d", 6)
    with pytest.raises(SpecificationError, match="one paragraph per class") as caught:
        load_inputs(project(tmp_path, specifications=None))
    assert specification_template(CLASSES) in str(caught.value)


def test_keys_that_cannot_be() -> None:
    def refused(told: str, document: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=told):
            parse_config(document)

    refused("unknown data set 'foldr'; did you mean 'folder'", {"data": {"name": "foldr"}})
    refused("written in format 2, for a newer lvlm-va.*upgrade", {"format": 2, "from_the_future": 1})
    refused(r"data\.test: give a share below 1 or a whole number", {"data": {"test": 2.5}})
    refused(r"data\.columns", {"data": {"columns": {"flie": "x"}}})
    assert parse_config({"data": {"classes": [0, 3]}}).data.classes == ("0", "3")


@pytest.mark.slow
def test_a_newcomers_folder(tmp_path: Path) -> None:
    """Real processes: init, check (refused until the classes are described), ten lines of YAML, a report."""
    class_folders(tmp_path / "images" / "train", 20, sticker_on="nut")
    class_folders(tmp_path / "images" / "test", 6, first=50)
    (tmp_path / "images" / "train" / "nut" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "200"}

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lvlm_va.cli.main", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    made = command("init", "--data", "images")
    assert made.returncode == 0, made.stderr
    assert "then lvlm-va check project.yaml" in made.stdout
    elsewhere = command("init", "mine")
    assert "in mine/specifications.yaml, then lvlm-va check mine/project.yaml" in elsewhere.stdout
    checked = command("check", "project.yaml", "--set", f"data.size={SIDE}")
    assert checked.returncode == 2
    assert "lvlm-va: project.yaml: 1 problem, see above" in checked.stderr
    assert "'description' is ''; write text there" in checked.stdout
    (tmp_path / "specifications.yaml").write_text(yaml.safe_dump({"classes": WORDS}))

    short = f"""\
project: parts
specifications: specifications.yaml
data: {{name: folder, path: images, size: {SIDE}}}
model: {{name: mlp, epochs: 3}}
explain: {{num_images: 6, baselines: 4, n_init: 1}}
align: {{lambda: 0.1, epochs: 2}}
"""
    assert len(short.splitlines()) <= 10
    (tmp_path / "short.yaml").write_text(short)
    assert not problems(check_project(load_config(tmp_path / "short.yaml")))
    aligned = command("align", "short.yaml")
    assert aligned.returncode == 0, aligned.stderr
    assert "Traceback" not in aligned.stderr
    assert "broken.jpg" in aligned.stderr
    assert (tmp_path / "runs" / "parts" / "report.html").is_file()
    metrics = json.loads((tmp_path / "runs" / "parts" / "metrics.json").read_text())
    assert list(metrics["data"]["set_aside"]) == ["train/nut/broken.jpg"]
    assert metrics["data"]["leaks"] == []
    assert metrics["verdicts"]["segments"] > 0
    assert metrics["models"]["aligned"]["accuracy"]["test"] >= 0
