"""The whole method on the small data set: it learns, resumes, obeys the expert, and refuses clearly."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lvlm_va
import small
from lvlm_va.config.loading import override, parse_config
from lvlm_va.critique.specification import load_specifications
from lvlm_va.data.imageset import ArrayImageSet, Groups, ImageSet
from lvlm_va.data.splits import Splits
from lvlm_va.errors import (
    ConfigError,
    CriticError,
    DataError,
    LvlmVaError,
    ModelError,
    RunError,
    SpecificationError,
)
from lvlm_va.evaluate.accuracy import accuracy
from lvlm_va.io.console import QuietConsole
from lvlm_va.models.predict import logits
from lvlm_va.project.critics import make_critic_judge
from lvlm_va.project.inputs import Inputs
from lvlm_va.project.pipeline import run_pipeline
from lvlm_va.project.stages.context import Context
from lvlm_va.run.artefacts import read_tensors
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.metrics import RunMetrics
from lvlm_va.run.verdict_table import read_verdicts, verdicts_file
from patience import PATIENCE


class Recorder(QuietConsole):
    """Keeps what a person would have been told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        self.stages.append(title.partition(" ")[0] if not title.startswith("Explaining t") else title[:14])
        yield


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return small.trained()


@pytest.fixture(scope="module")
def parts() -> Splits:
    return small.splits()


def go(
    path: Path, model: nn.Module, parts: Splits, *, specifications: Any = small.SPECIFICATIONS, **changes: Any
) -> tuple[dict[str, Any], Recorder]:
    """One call of the pipeline: its metrics, and the stages that were computed."""
    config = parse_config(override({"run": str(path)}, small.settings(**changes)))
    known = load_specifications(specifications, parts.class_names)
    project = Inputs(config, parts, model, trained=True, specifications=known)
    console = Recorder()
    with RunDirectory.open(path, config.model_dump(mode="json", by_alias=True)) as run:
        _, metrics = run_pipeline(Context(project, run, console), make_critic_judge(config.critique, known))
    text = (path / "metrics.json").read_text()
    assert RunMetrics.model_validate_json(text) == metrics
    return json.loads(text), console


@pytest.fixture(scope="module")
def first(
    tmp_path_factory: pytest.TempPathFactory, model: nn.Module, parts: Splits
) -> tuple[Path, dict[str, Any], Recorder]:
    """A finished run of the settings as they are: where it is, its metrics, and what it computed."""
    path = tmp_path_factory.mktemp("first") / "run"
    return path, *go(path, model, parts)


@pytest.fixture
def finished(tmp_path: Path, first: tuple[Path, dict[str, Any], Recorder]) -> dict[str, Any]:
    """A copy of it in `tmp_path`, to go on from; its metrics."""
    shutil.copytree(first[0], tmp_path, dirs_exist_ok=True)
    return first[1]


ALL = [
    "Selecting",
    "Explaining the",
    "Segmenting",
    "Critique",
    "Scoring",
    "Aligning",
    "Evaluating",
    "Evaluating",
    "Explaining tes",
]
LATER = ["Scoring", "Aligning", "Evaluating", "Explaining tes"]


def test_from_a_model_to_an_aligned_model(tmp_path: Path, model: nn.Module, parts: Splits) -> None:
    before = [p.detach().clone() for p in model.parameters()]
    run = lvlm_va.align(
        model,
        parts,
        small.SPECIFICATIONS,
        critic="ground-truth",
        run=tmp_path / "run",
        settings=small.settings(
            explain__num_images=96, align__mask="objects", align__epochs=16, evaluate__bounds=True
        ),
        quiet=True,
    )
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert run.model is not None
    assert not run.model.training
    test = parts.tests["test"]
    models = run.metrics.models
    for candidate, name in ((model, "original"), (run.model, "aligned")):
        assert accuracy(logits(candidate, test), test.labels) == models[name].accuracy["test"], name
    assert models["original"].accuracy["test"] < 0.65
    assert models["aligned"].accuracy["test"] > models["original"].accuracy["test"] + 0.15
    assert models["aligned"].mu_align.mean > models["original"].mu_align.mean
    assert models["ground-truth masks (oracle)"].accuracy["test"] > 0.85
    quality = run.metrics.verdicts.quality
    assert quality.accuracy == quality.recall == 1, "the oracle is right by construction"
    assert run.metrics.verdicts.critic_kind == "oracle"
    assert run.report.read_text(encoding="utf-8").count("oracle") > 0
    condemned = sum(v.spurious is True for v in run.verdicts)
    assert condemned == run.metrics.verdicts.spurious > 0
    assert run.metrics.lam.how.startswith("given; compared with the original model")


def test_again_computes_nothing(
    first: tuple[Path, dict[str, Any], Recorder], model: nn.Module, parts: Splits
) -> None:
    path, metrics, console = first
    assert console.stages == ALL
    stages = (path / "run.json").read_bytes()
    again, console = go(path, model, parts)
    assert console.stages == []
    assert (path / "run.json").read_bytes() == stages
    assert again == metrics


def test_an_edited_verdict_is_obeyed_and_named(
    tmp_path: Path, finished: dict[str, Any], model: nn.Module, parts: Splits
) -> None:
    table = tmp_path / "verdicts.csv"
    verdicts = read_verdicts(table)
    edited = next(n for n, v in enumerate(verdicts) if v.spurious)
    verdicts[edited] = replace(verdicts[edited], spurious=False, reason="that is the stroke", author="Ann")
    table.write_bytes(verdicts_file(verdicts))
    second, console = go(tmp_path, model, parts)
    assert console.stages == LATER
    assert second["verdicts"]["spurious"] == finished["verdicts"]["spurious"] - 1
    (named,) = second["verdicts"]["overruled"]
    assert named == {
        "image_id": verdicts[edited].image_id,
        "segment": verdicts[edited].segment,
        "critic": True,
        "person": False,
        "author": "Ann",
        "reason": "that is the stroke",
    }
    # Another specification: the critic is asked again, the expert's word stays.
    classes = {name: f"A {name}." for name in small.CLASSES}
    third, console = go(tmp_path, model, parts, specifications={"classes": classes})
    assert console.stages == ["Critique"], "the same verdicts, so nothing else changes"
    assert third["verdicts"]["overruled"] == [named]
    assert read_verdicts(table) == verdicts
    # Other segments: it no longer fits, is kept beside, and that is said.
    fourth, console = go(tmp_path, model, parts, explain__segments=2)
    assert fourth["verdicts"]["overruled"] == []
    assert any("1 verdicts edited by hand no longer fit" in note for note in console.notes)
    assert read_verdicts(tmp_path / "verdicts.before-1.csv") == verdicts
    # The deleted table comes back.
    table.unlink()
    go(tmp_path, model, parts, explain__segments=2)
    assert len(read_verdicts(table)) == fourth["verdicts"]["segments"]


def test_killed_between_the_two_tables(
    tmp_path: Path, finished: dict[str, Any], model: nn.Module, parts: Splits
) -> None:
    """The new verdicts.csv is there, the critic's table and run.json are still the old ones."""
    old = {name: (tmp_path / name).read_bytes() for name in ("critic_verdicts.csv", "run.json")}
    expected, _ = go(tmp_path, model, parts, explain__segments=2)
    for name, content in old.items():
        (tmp_path / name).write_bytes(content)
    resumed, _ = go(tmp_path, model, parts, explain__segments=2)
    assert resumed["verdicts"] == expected["verdicts"]
    assert resumed["verdicts"]["overruled"] == []
    assert not list(tmp_path.glob("verdicts.before*")), "nobody edited anything"


def test_an_edit_before_the_log_was_written_is_not_lost_silently(
    tmp_path: Path, finished: dict[str, Any], model: nn.Module, parts: Splits
) -> None:
    """Killed before run.json knew of the critique; then a person edits; then the run resumes."""
    record = json.loads((tmp_path / "run.json").read_text())
    del record["stages"]["critique"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    verdicts = read_verdicts(tmp_path / "verdicts.csv")
    verdicts[0] = replace(verdicts[0], spurious=not verdicts[0].spurious, author="Ann")
    (tmp_path / "verdicts.csv").write_bytes(verdicts_file(verdicts))
    _, console = go(tmp_path, model, parts)
    assert any("verdicts.before-1.csv" in note for note in console.notes)
    assert read_verdicts(tmp_path / "verdicts.before-1.csv") == verdicts


def test_a_table_that_cannot_be_read_names_the_line(
    tmp_path: Path, finished: dict[str, Any], model: nn.Module, parts: Splits
) -> None:
    with (tmp_path / "verdicts.csv").open("a") as file:
        file.write("train-000,1,perhaps,,me\n")
    with pytest.raises(RunError, match=r"verdicts\.csv, line \d+: spurious is 'perhaps'"):
        go(tmp_path, model, parts)


def same_content(one: Path, other: Path) -> None:
    if one.suffix != ".safetensors":
        assert one.read_bytes() == other.read_bytes()
        return
    (tensors, notes), (others, other_notes) = read_tensors(one), read_tensors(other)
    assert notes == other_notes
    assert tensors.keys() == others.keys()
    for key, tensor in tensors.items():
        torch.testing.assert_close(tensor, others[key], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "computed"),
    [
        ("model.safetensors", []),
        ("selection.csv", ["Selecting"]),
        ("segments/attribution.safetensors", ["Explaining the"]),
        ("segments/images.safetensors", ["Explaining the"]),
        ("segments/segments.safetensors", ["Segmenting"]),
        ("critic_verdicts.csv", ["Critique"]),
        ("fits/aligned-lambda-0.03.safetensors", ["Aligning"]),
        ("aligned.safetensors", []),
        ("explanations.safetensors", ["Explaining tes"]),
    ],
)
def test_a_damaged_or_missing_file_is_made_again(
    tmp_path: Path, finished: dict[str, Any], model: nn.Module, parts: Splits, name: str, computed: list[str]
) -> None:
    content = (tmp_path / name).read_bytes()
    damages = [None] if name == "critic_verdicts.csv" else [None, content[: len(content) // 2]]
    for damage in damages:
        (tmp_path / name).unlink()
        if damage is not None:
            (tmp_path / name).write_bytes(damage)
        again, console = go(tmp_path, model, parts)
        assert console.stages == computed
        (tmp_path / "before").write_bytes(content)
        same_content(tmp_path / name, tmp_path / "before")
        assert {k: v for k, v in again.items() if k != "costs"} == {
            k: v for k, v in finished.items() if k != "costs"
        }


def test_other_data_under_the_same_model_are_seen(
    tmp_path: Path, finished: dict[str, Any], model: nn.Module, parts: Splits
) -> None:
    assert isinstance(parts.train, ArrayImageSet)
    darker = replace(parts.train, pixels=0.9 * parts.train.pixels)
    _, console = go(tmp_path, model, replace(parts, train=darker))
    assert console.stages == ALL
    go(tmp_path, model, parts)
    chosen = {line.split(",")[1] for line in (tmp_path / "selection.csv").read_text().splitlines()[1:]}
    labels = parts.train.labels.clone()
    stranger = next(n for n in range(300) if str(n) not in chosen)
    labels[stranger] = (labels[stranger] + 1) % 3
    _, console = go(tmp_path, model, replace(parts, train=replace(parts.train, labels=labels)))
    assert "Aligning" in console.stages, "the same images and masks, another training set"
    go(tmp_path, model, parts)
    other = small.shapes(300, seed=9, betrayed=False, name="test")
    metrics, console = go(tmp_path, model, replace(parts, tests={"test": other}))
    assert "Critique" not in console.stages
    assert metrics["models"]["original"]["accuracy"]["test"] == accuracy(logits(model, other), other.labels)


def test_the_validation_set_chooses_lambda(tmp_path: Path, model: nn.Module, parts: Splits) -> None:
    by_validation = {"align__choose_by": "validation"}
    metrics, console = go(tmp_path, model, parts, align__lambda=[0.0, 0.03, 30.0], **by_validation)
    assert console.stages.count("Aligning") == 3
    curve = metrics["lambda"]["curves"]["aligned"]
    best = max(curve, key=lambda point: point["validation"]["accuracy"])
    assert metrics["lambda"]["chosen"] == best["lambda"] == 0.03
    assert metrics["models"]["aligned"] == best
    assert "validation" in metrics["lambda"]["how"]
    assert {s["stage"] for s in metrics["costs"]["stages"]} >= {"align: aligned, λ = 30", "critique"}
    fewer, console = go(tmp_path, model, parts, align__lambda=[0.0, 0.03], **by_validation)
    assert "Aligning" not in console.stages
    assert "align: aligned, λ = 30" not in {s["stage"] for s in fewer["costs"]["stages"]}, "no longer a cost"


@pytest.mark.parametrize("by", ["verdicts", "validation", "groups"])
def test_a_model_that_is_no_better_is_not_handed_back(
    tmp_path: Path, model: nn.Module, parts: Splits, by: str
) -> None:
    validation = parts.validation
    assert isinstance(validation, ArrayImageSet)
    of = validation.labels * 2 + validation.spurious_masks(torch.arange(len(validation))).flatten(1).any(1)
    groups = Groups(tuple(f"{k // 2}, {('no patch', 'patch')[k % 2]}" for k in range(6)), of)
    parts = replace(parts, validation=replace(validation, groups=groups))
    # One class whatever is seen.
    metrics, console = go(tmp_path, model, parts, align__lambda=[1e4, 1e5], align__choose_by=by)
    assert metrics["lambda"]["chosen"] == 0
    assert metrics["lambda"]["how"].endswith("nothing was better than the original model, which stays")
    assert any("original model stays" in note for note in console.notes)
    assert metrics["models"]["aligned"]["accuracy"] == metrics["models"]["original"]["accuracy"]
    assert (tmp_path / "aligned.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
    standing = metrics["models"]["original"]["validation"]
    assert standing["groups"]["worst"] <= standing["accuracy"] <= max(standing["groups"]["accuracy"].values())


def test_groups_cannot_choose_where_none_are_known(tmp_path: Path, model: nn.Module, parts: Splits) -> None:
    with pytest.raises(ConfigError, match="no groups of the validation set are known; choose verdicts"):
        go(tmp_path, model, parts, align__choose_by="groups")


def test_several_lambdas_and_nothing_to_choose_by(tmp_path: Path, model: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"align\.lambda has several values.*give one λ"):
        go(tmp_path, model, small.splits(validation=False), align__lambda=[0.1, 1])
    assert "train" not in json.loads((tmp_path / "run.json").read_text())["stages"], "told before any work"


def clean(parts: Splits) -> Splits:
    """The same without a patch: nothing to condemn."""

    def without(images: ImageSet) -> ArrayImageSet:
        assert isinstance(images, ArrayImageSet)
        assert images.spurious is not None
        pixels = torch.where(images.spurious[:, None], 0.1, images.pixels)
        return replace(images, pixels=pixels, spurious=torch.zeros_like(images.spurious))

    return replace(parts, train=without(parts.train), tests={"test": without(parts.tests["test"])})


def test_nothing_condemned_keeps_the_original(tmp_path: Path, model: nn.Module, parts: Splits) -> None:
    metrics, console = go(tmp_path, model, clean(parts))
    assert "Aligning" not in console.stages
    assert any("No segment was condemned" in note for note in console.notes)
    assert metrics["verdicts"]["spurious"] == 0
    assert metrics["lambda"]["chosen"] == 0
    assert "nothing was condemned" in metrics["lambda"]["how"]
    assert (tmp_path / "aligned.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()
    assert metrics["models"]["aligned"]["accuracy"] == metrics["models"]["original"]["accuracy"]
    assert metrics["models"]["aligned"]["mu_align"] is None, "no image carries the feature"


def test_training_images_are_enough(tmp_path: Path, model: nn.Module, parts: Splits) -> None:
    assert isinstance(parts.train, ArrayImageSet)
    run = lvlm_va.align(
        model,
        replace(parts.train, spurious=None),
        small.SPECIFICATIONS,
        critic="builtin",
        run=tmp_path / "a run & more",
        settings=small.settings(explain__num_images=6, critique__critic="builtin", align__epochs=1),
        quiet=True,
    )
    assert run.metrics.models["aligned"].accuracy == {}
    assert run.metrics.verdicts.quality is None
    assert run.report.exists()


class Logits(nn.Module):
    """Returns `outputs` numbers per image, or something else."""

    def __init__(self, outputs: int, fill: float = 0.0) -> None:
        super().__init__()
        self.fill = fill
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(small.SIDE**2, outputs))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x) + self.fill
        return logits


def refused(
    kind: type[LvlmVaError], told: str, path: Path, model: nn.Module, data: Any, **arguments: Any
) -> None:
    settings = arguments.pop("settings", small.SETTINGS)
    specifications = arguments.pop("specifications", small.SPECIFICATIONS)
    critic = arguments.pop("critic", "ground-truth")
    settings = {key: value for key, value in settings.items() if key != "critique.critic"}
    with pytest.raises(kind, match=told) as caught:
        lvlm_va.align(
            model, data, specifications, critic=critic, run=path, settings=settings, quiet=True, **arguments
        )
    assert "\n" not in str(caught.value).strip()


@pytest.mark.parametrize("trained", [True, False])
def test_models_that_do_not_fit(tmp_path: Path, parts: Splits, trained: bool) -> None:
    def refuse(told: str, candidate: nn.Module) -> None:
        refused(ModelError, told, tmp_path / "run", candidate, parts, trained=trained)

    refuse(r"one logit per class, \(8, 3\).*returns \(8, 2\)", Logits(2))
    refuse(r"returns \(8, 4\)", Logits(4))
    refuse("NaN or infinite for 8 of 8 images", Logits(3, float("nan")))
    refuse(r"fails on images of shape \(8, 1, 12, 12\)", nn.Linear(5, 3))


def test_logits_that_are_nan_for_one_image_only(tmp_path: Path, parts: Splits, model: nn.Module) -> None:
    assert isinstance(parts.train, ArrayImageSet)
    pixels = parts.train.pixels.clone()
    pixels[100, 0, 5, 5] = float("nan")
    refused(
        ModelError,
        r"1 of 300 images \(the first is number 100\)",
        tmp_path,
        model,
        replace(parts.train, pixels=pixels),
    )


def test_settings_that_do_not_fit_the_data(tmp_path: Path, model: nn.Module, parts: Splits) -> None:
    refused(
        DataError,
        r"asks for 301 images, but the training set has 300",
        tmp_path / "N",
        model,
        parts,
        settings=small.settings(explain__num_images=301),
    )
    refused(
        ConfigError, r"145|144", tmp_path / "J", model, parts, settings=small.settings(explain__segments=145)
    )
    refused(ConfigError, "device", tmp_path / "d", model, parts, settings=small.settings(device="tpu"))
    refused(
        ConfigError,
        "unknown key 'explain.image'",
        tmp_path / "k",
        model,
        parts,
        settings={"explain.image": 3},
    )


def test_specifications_and_critics_are_told_before_any_work(
    tmp_path: Path, model: nn.Module, parts: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = {"classes": {"bar": "A bar.", "post": "A post."}}
    refused(
        SpecificationError,
        "no specification for class 'slash'",
        tmp_path / "s",
        model,
        parts,
        specifications=lacking,
    )
    refused(ConfigError, "did you mean 'builtin'", tmp_path / "c", model, parts, critic="buitlin")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    refused(CriticError, "OPENAI_API_KEY", tmp_path / "o", model, parts, critic="openai:gpt-4o")
    assert list(tmp_path.iterdir()) == [], "no run was started"
    assert isinstance(parts.train, ArrayImageSet)
    refused(
        CriticError, "ground-truth critic needs", tmp_path / "g", model, replace(parts.train, spurious=None)
    )


def test_images_of_two_channels(tmp_path: Path, parts: Splits) -> None:
    assert isinstance(parts.train, ArrayImageSet)
    two = replace(parts.train, pixels=parts.train.pixels.expand(-1, 2, -1, -1).contiguous())
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * small.SIDE**2, 3))
    refused(DataError, "have 2 channels; a critic can be shown 1", tmp_path, model, two)


def test_images_without_evidence_are_set_aside(tmp_path: Path, parts: Splits) -> None:
    assert isinstance(parts.train, ArrayImageSet)
    pixels = parts.train.pixels.clone()
    pixels[::2] = 0.5  # half of the images are constant
    train = replace(parts.train, pixels=pixels)
    torch.manual_seed(0)
    model = small.trained()
    metrics, _ = go(
        tmp_path,
        model,
        replace(parts, train=train),
        explain__num_images=300,
        explain__baseline="black",
        explain__segments=140,
    )
    aside = metrics["selection"]["set_aside"]
    assert aside, "140 segments need 140 pixels that speak for the class"
    assert all(isinstance(reason, str) and reason for reason in aside.values())
    assert metrics["verdicts"]["images"] == 300 - len(aside)


class Deaf(nn.Module):
    """Says the same whatever it sees: no attribution anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([0.3, 0.2, 0.1]))

    def forward(self, x: Tensor) -> Tensor:
        return self.bias.expand(len(x), 3) + 0 * x.flatten(1).sum(1, keepdim=True)


def test_a_model_that_does_not_look(tmp_path: Path, parts: Splits) -> None:
    metrics, console = go(tmp_path, Deaf(), parts)
    assert len(metrics["selection"]["set_aside"]) == metrics["selection"]["images"]
    assert metrics["verdicts"]["segments"] == 0
    assert any("No segment was condemned" in note for note in console.notes)


@pytest.mark.slow
def test_killed_again_and_again_and_resumed(tmp_path: Path) -> None:
    """The same model and metrics as undisturbed, and no recorded question is asked again."""
    script = Path(__file__).with_name("pipeline_worker.py")

    def live(folder: Path, seed: int) -> dict[str, int]:
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, str(script), str(folder), str(seed)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outcome: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
        return outcome

    killed = live(tmp_path / "killed", 7)
    assert killed["kills"] >= 5
    assert killed["asked_again"] == 0
    calm = live(tmp_path / "calm", -1)
    assert calm == {"kills": 0, "asked_again": 0}
    one, other = (
        json.loads((tmp_path / name / "run/metrics.json").read_text()) for name in ("killed", "calm")
    )
    for metrics in (one, other):
        del metrics["costs"]
    assert one == other
    for name in ("model.safetensors", "aligned.safetensors", "verdicts.csv", "selection.csv"):
        assert (tmp_path / "killed/run" / name).read_bytes() == (tmp_path / "calm/run" / name).read_bytes()
