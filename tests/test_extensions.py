"""Strangers' critics, attributions, segmentations and data sets: given as objects, and named by packages."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

import lvlm_va
import small
from critique_helpers import SEVEN, critic_judge, explained
from lvlm_va.config import names
from lvlm_va.config.loading import override, parse_config
from lvlm_va.config.names import ATTRIBUTIONS, CRITICS, DATA_SETS, SEGMENTATIONS
from lvlm_va.critique.backends import make_backend
from lvlm_va.critique.backends.ground_truth import GroundTruthBackend
from lvlm_va.critique.backends.own import OwnCritic
from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.driver import critique
from lvlm_va.critique.question import Question
from lvlm_va.critique.store import Store
from lvlm_va.critique.verdict import Verdict
from lvlm_va.data import sources
from lvlm_va.errors import AttributionError, ConfigError, DataError, ExtensionError, Interrupted, ModelError
from lvlm_va.explain.attribution import METHODS, attribute
from lvlm_va.explain.own_segments import own_segments
from lvlm_va.models.mlp import MLP
from lvlm_va.project import project
from lvlm_va.project.stages.regions import REGION_FINDERS

ROOT = Path(__file__).parents[1]
PAGES = {
    name: (ROOT / "docs" / "how-to" / f"{name}.md").read_text(encoding="utf-8")
    for name in ("critic", "attribution", "segmentation", "dataset")
}
FEW = {"explain.num_images": 24, "align.epochs": 2, "evaluate.num_images": 20}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return small.trained()


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)


def settings(**changes: Any) -> dict[str, Any]:
    kept = {key: value for key, value in small.settings(**changes).items() if key != "critique.critic"}
    return kept | {key: value for key, value in FEW.items() if key.replace(".", "__") not in changes}


# A stranger's critic


class Patches:
    """What a person could write who has never heard of this package: it imports nothing of it."""

    name = "patches"
    kind = "measurement"

    def __init__(self) -> None:
        self.asked = 0

    def critique(self, question: Any) -> Any:
        self.asked += 1
        it = question.explained
        bright = it.image.mean(2) > 60
        corner = np.zeros_like(bright)
        for rows in (slice(0, 3), slice(-3, None)):
            for columns in (slice(0, 3), slice(-3, None)):
                corner[rows, columns] = bright[rows, columns].all()
        # numpy's own truth values and numbers, as measuring code has them
        return {j: ((corner & (it.segments == j)).any(), "a grey patch") for j in np.unique(it.segments)}


class Texts(Patches):
    name = "texts"

    def critique(self, question: Any) -> str:
        found = super().critique(question)
        lines = [f"SEGMENT {j}: {'SPURIOUS' if bad else 'VALID'} — {why}" for j, (bad, why) in found.items()]
        return "\n".join(["I looked at the corners.", *lines])


class Coroutines(Patches):
    name = "coroutines"

    def __init__(self) -> None:
        super().__init__()
        self.under_way = self.at_once = 0

    async def critique(self, question: Any) -> Any:  # type: ignore[override]
        self.under_way += 1
        self.at_once = max(self.at_once, self.under_way)
        await asyncio.sleep(0.001)
        self.under_way -= 1
        return super().critique(question)


@pytest.mark.parametrize("kind", [Texts, Coroutines])
def test_a_stranger_may_answer_in_words_or_later(
    kind: type[Patches], tmp_path: Path, model: nn.Module
) -> None:
    critic = kind()
    project = lvlm_va.Project(
        *(model, small.splits(), small.SPECIFICATIONS),
        critic=critic,
        run=tmp_path / "run",
        settings=settings(explain__num_images=6),
    )
    found = project.critique()
    assert critic.asked == 6
    assert {v.author for v in found.verdicts} == {critic.name}
    by_hand = {(v.image_id, v.segment): v.spurious for v in found.verdicts}
    assert set(by_hand.values()) == {True, False}
    plain = lvlm_va.Project(
        *(model, small.splits(), small.SPECIFICATIONS),
        critic=Patches(),
        run=tmp_path / "plain",
        settings=settings(explain__num_images=6),
    ).critique()
    assert {(v.image_id, v.segment): v.spurious for v in plain.verdicts} == by_hand
    assert getattr(critic, "at_once", 2) > 1


def test_a_strangers_critic_aligns(tmp_path: Path, model: nn.Module) -> None:
    critic = Patches()
    arguments: tuple[Any, ...] = (model, small.splits(), small.SPECIFICATIONS)
    run = lvlm_va.align(*arguments, critic=critic, run=tmp_path / "run", settings=settings(), quiet=True)
    assert critic.asked == 24 - len(run.metrics.selection.set_aside)
    assert run.metrics.verdicts.critic == run.metrics.verdicts.judge == critic.name
    assert run.metrics.verdicts.critic_kind == "measurement"
    assert run.metrics.verdicts.unscored == 0
    assert run.metrics.verdicts.spurious > 0
    assert run.metrics.verdicts.quality.recall == 1
    assert {v.author for v in run.verdicts} == {critic.name}
    assert critic.name in run.report.read_text(encoding="utf-8")
    config = json.loads((run.path / "run.json").read_text())["config"]
    assert config["critique"]["critic"] == critic.name
    assert lvlm_va.export(run.path, model=model, out=tmp_path / "m").path.is_file()
    again = Patches()
    project = lvlm_va.Project(*arguments, critic=again, run=tmp_path / "run", settings=settings())
    assert list(project.critique().verdicts) == run.verdicts
    assert again.asked == 0, "the run resumes"
    again.version = "2"  # type: ignore[attr-defined]
    project = lvlm_va.Project(*arguments, critic=again, run=tmp_path / "run", settings=settings())
    newer = project.critique()
    assert again.asked == critic.asked, "another version is asked anew"
    assert {v.author for v in newer.verdicts} == {f"{critic.name} 2"}


def test_protocols_are_public() -> None:
    assert isinstance(Patches(), lvlm_va.Critic)
    assert isinstance(Halves(), lvlm_va.SegmentationMethod)
    assert isinstance(Gradient(), lvlm_va.AttributionMethod)
    assert isinstance(small.splits().train, lvlm_va.ImageSet)


def said(answer: Callable[[Any], Any], **attributes: Any) -> list[Verdict]:
    """The verdicts of a critic that answers so, about one image of three segments."""
    critic = type("Anybody", (), {"name": "anybody", "critique": staticmethod(answer), **attributes})()
    with Store.open(":memory:") as store:
        return list(critique([explained()], critic_judge(OwnCritic(critic)), store))


def test_a_segment_without_a_verdict_is_unscored() -> None:
    first, second, third = said(
        lambda q: {1: (True, " two\nlines "), 2: (None, "who knows"), 7: (True, "no")}
    )
    assert (first.spurious, first.reason) == (True, "two lines")
    assert second.spurious is third.spurious is None
    assert [v.reason for v in said(lambda q: {j: (False, "") for j in q.segment_ids})] == [
        "no reason given"
    ] * 3


async def broken(question: Any) -> Any:
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda q: 1 / 0, "anybody raised ZeroDivisionError: division by zero"),
        (broken, "anybody raised KeyError: 'lost'"),
        (lambda q: None, "anybody returned NoneType, which is neither a text nor"),
        (lambda q: [1, 2, 3], "anybody returned list"),
        (lambda q: {1: True}, r"anybody said True of segment 1; it must say \(spurious, reason\)"),
        (lambda q: {1: ("yes", "so")}, r"anybody said \('yes', 'so'\) of segment 1"),
        (lambda q: {1: (True, 5)}, r"anybody said \(True, 5\) of segment 1"),
    ],
)
def test_what_went_wrong_is_the_reason(answer: Callable[[Any], Any], told: str) -> None:
    verdicts = said(answer)
    assert [v.spurious for v in verdicts] == [None] * 3
    assert all(re.search(told, v.reason) for v in verdicts), verdicts


def test_a_stop_is_no_failed_answer() -> None:
    def stopped(question: Any) -> Any:
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        said(stopped)


def test_a_critic_that_reads_is_shown_images() -> None:
    seen: list[Question] = []
    said(lambda q: seen.append(q) or {})
    assert len(seen[0].images) == 3
    assert "SEGMENT" in seen[0].system + seen[0].prompt
    said(lambda q: seen.append(q) or {}, kind="measurement")
    assert not seen[1].images


def no_name(question: Any) -> Any: ...


no_name.__name__ = " "


@pytest.mark.parametrize(
    ("critic", "told"),
    [
        (object(), r"object is no critic: it has no method critique\(question\); see lvlm_va\.Critic"),
        (Patches, r"Patches is a class; give an object of it, Patches\(\)"),
        (no_name, "function is a critic without a name"),
        (type("A", (), {"name": 3, "critique": print})(), "A is a critic without a name"),
        (type("A", (), {"name": "builtin", "critique": print})(), "'builtin', which is built in"),
        (type("A", (), {"name": "openai:gpt-4o", "critique": print})(), "which is built in"),
        (
            type("A", (), {"name": "a", "kind": "sage", "critique": print})(),
            "its kind is 'sage'; known are lvlm",
        ),
    ],
)
def test_what_is_no_critic(critic: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        OwnCritic(critic)


def test_those_that_do_not_read_judge_by_the_same_lines() -> None:
    """Of a critique that holds what looks like verdicts elsewhere in the prompt."""
    it = explained(spurious=np.eye(6, dtype=np.bool_))
    backends = [make_backend("builtin"), GroundTruthBackend(), OwnCritic(Patches())]
    text = "SEGMENT 2: SPURIOUS — why\nSEGMENT 1: VALID — so\nSEGMENT 9: VALID — never offered"
    from lvlm_va.critique.judge import judge_question

    question = judge_question(critic_question(it, SEVEN, ()), text, ())
    answers = [asyncio.run(backend.answer(question)).text for backend in backends]
    assert len(set(answers)) == 1
    assert json.loads(answers[0]) == {
        "verdicts": [
            {"segment": 1, "spurious": False, "reason": "so"},
            {"segment": 2, "spurious": True, "reason": "why"},
        ]
    }


# A stranger's attribution


class Gradient:
    name = "gradient"

    def attribute(self, model: Any, images: Tensor, targets: Tensor, baselines: Tensor) -> Tensor:
        images.requires_grad_()
        model(images).gather(1, targets[:, None]).sum().backward()
        assert images.grad is not None
        return (images.grad * (images - baselines.mean(0))).sum(1)


class Linear(nn.Module):
    """Its gradient is complete."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1))


def pixels() -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(7, 3, 4, 4, generator=g)
    return x, torch.arange(7) % 4, torch.randn(2, 3, 4, 4, generator=g)


def answering(answer: Any, **attributes: Any) -> Any:
    def method(*_: Any) -> Any:
        return answer(*_) if callable(answer) else answer

    return type("Anybody", (), {"name": "anybody", "attribute": staticmethod(method), **attributes})()


def test_a_strangers_attribution() -> None:
    images, targets, baselines = pixels()
    copies = [t.clone() for t in (images, targets, baselines)]
    exact = attribute(Linear(), images, targets, baselines)
    with torch.no_grad():
        found = attribute(
            Linear(), images, targets, baselines, method=Gradient(), batch_size=3, tolerance=1e-9
        )
    torch.testing.assert_close(found.values, exact.values)
    assert found.method == "gradient"
    assert found.completeness_error.isnan().all(), "it does not say that it is complete"
    claims = type("Complete", (Gradient,), {"complete": True})()
    claimed = attribute(Linear(), images, targets, baselines, method=claims)
    assert float(claimed.completeness_error.max()) < 1e-5
    assert all(torch.equal(a, b) for a, b in zip(copies, (images, targets, baselines), strict=True))
    function = attribute(Linear(), images, targets, baselines, method=Gradient().attribute)
    assert function.method == "attribute"
    torch.testing.assert_close(function.values, exact.values)


def test_a_claim_of_completeness_is_checked() -> None:
    half = answering(lambda *a: 0.5 * Gradient().attribute(*a), complete=True)
    with pytest.raises(AttributionError, match=r"misses f\(x\) − E f\(b\).*anybody says that it is complete"):
        attribute(Linear(), *pixels(), method=half)
    attribute(Linear(), *pixels(), method=half, tolerance=9.0)
    with pytest.raises(ModelError, match="NaN or infinite for baselines 0, 1"):
        attribute(nn.Sequential(Linear(), nn.Threshold(99.0, torch.inf)), *pixels(), method=half)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda *_: 1 / 0, "anybody, a Anybody: attribute raised ZeroDivisionError"),
        (None, r"must return a floating-point tensor of shape \(n, H, W\) = \(6, 4, 4\), not NoneType"),
        (np.zeros((6, 4, 4)), "not ndarray"),
        (torch.zeros(6, 3, 4, 4), r"not torch\.float32 of shape \(6, 3, 4, 4\)"),
        (torch.zeros(6, 4, 4, dtype=torch.int64), r"not torch\.int64 of shape"),
        (torch.full((6, 4, 4), torch.nan), "returned NaN or infinite values"),
    ],
)
def test_what_is_no_attribution(answer: Any, told: str) -> None:
    with pytest.raises(ExtensionError, match=told):
        attribute(Linear(), *pixels(), method=answering(answer))


def test_a_stranger_may_run_out_of_memory() -> None:
    def small_machine(model: Any, images: Tensor, *rest: Any) -> Tensor:
        if len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return Gradient().attribute(model, images, *rest)

    notes: list[str] = []
    found = attribute(Linear(), *pixels(), method=answering(small_machine), note=notes.append)
    torch.testing.assert_close(found.values, attribute(Linear(), *pixels()).values)
    assert notes


# A stranger's segmentation


class Halves:
    name = "halves"

    def segment(self, image: Any, attribution: Any, J: int) -> Any:
        return np.repeat([[1, 2]], image.shape[0], 0).repeat(image.shape[1] // 2, 1)


def segmented(labels: Any, J: int = 3) -> Any:
    attribution = torch.tensor([[[1.0, 5, 3], [-1, 1, 1]], [[-1.0, -1, -1], [-1, -1, -1]]])
    method = type("Anybody", (), {"name": "anybody", "segment": lambda self, *_: labels})()
    return own_segments(
        SEGMENTATIONS.given(method), torch.zeros(2, 2, 3, 3, dtype=torch.uint8), attribution, J
    )


@pytest.mark.parametrize("kind", [np.array, torch.tensor, lambda x: np.array(x, np.uint8), list])
def test_a_strangers_segments_are_numbered_by_share(kind: Any) -> None:
    found = segmented(kind([[1, 3, 0], [1, 3, 0]]))
    assert found.labels[0].tolist() == [[2, 1, 0], [2, 1, 0]]
    assert found.labels.dtype == torch.int16
    torch.testing.assert_close(found.pi[0], torch.tensor([6, 1, 0]).double() / 11)
    torch.testing.assert_close(found.mu[0, 0], torch.tensor([1, 1 / 6]).double())
    assert found.method == "anybody"
    assert found.set_aside == {1: "no pixel has positive attribution"}
    assert not found.responsibilities(0)[:, :, 2].any()
    aside = segmented(kind([[0, 0, 0], [1, 0, 0]]))
    assert aside.set_aside[0] == "no segment holds positive attribution"
    assert not aside.labels.any()


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (np.ones((3, 2), int), r"integers of shape \(H, W\) = \(2, 3\), not int64 of shape \(3, 2\)"),
        (np.ones((2, 3)), "not float64 of shape"),
        (np.ones((2, 3), bool), "not bool of shape"),
        (None, "not object of shape"),
        (np.full((2, 3), 4), r"labels from 4 to 4; they must be in 0\.\.3"),
        (np.full((2, 3), -1), "labels from -1 to -1"),
        ([[1], [1, 2]], "segment raised ValueError"),
    ],
)
def test_what_is_no_segmentation(labels: Any, told: str) -> None:
    with pytest.raises(ExtensionError, match=f"anybody, a Anybody: .*{told}"):
        segmented(labels)


@pytest.mark.slow
def test_objects_for_attribution_and_segmentation_align_and_resume(tmp_path: Path, model: nn.Module) -> None:
    calls: list[str] = []

    class Counted(Gradient):
        def attribute(self, *arguments: Any) -> Tensor:
            calls.append("attribute")
            return super().attribute(*arguments)

    class Cut(Halves):
        def segment(self, *arguments: Any) -> Any:
            calls.append("segment")
            return super().segment(*arguments)

    def align(one: Any, other: Any, **changes: Any) -> Any:
        calls.clear()
        return lvlm_va.align(
            *(model, small.splits(), small.SPECIFICATIONS),
            critic=Patches(),
            attribution=one,
            segmentation=other,
            run=tmp_path / "run",
            settings=settings(**changes),
            quiet=True,
        )

    run = align(Counted(), Cut())
    assert set(calls) == {"attribute", "segment"}
    assert run.metrics.attribution.method == "gradient"
    assert run.metrics.attribution.completeness_error is None
    page = run.report.read_text(encoding="utf-8")
    assert "gradient of the predicted class" in page
    assert "divided into segments by halves" in page
    assert "not said to add up" in page
    assert "NaN" not in (run.path / "run.json").read_text()
    config = json.loads((run.path / "run.json").read_text())["config"]
    assert (config["explain"]["attribution"], config["explain"]["segmentation"]) == ("gradient", "halves")
    again = align(Counted(), Cut())
    assert calls == []
    assert again.metrics == run.metrics
    align(Counted(), Cut(), explain__steps=7, explain__superpixels=9)
    assert calls == [], "keys that they do not read"
    newer = Cut()
    newer.version = 2  # type: ignore[attr-defined]
    align(Counted(), newer)
    assert set(calls) == {"segment"}
    newer = Counted()
    newer.version = 2  # type: ignore[attr-defined,assignment]
    align(newer, Cut())
    assert "attribute" in calls
    with pytest.raises(ConfigError, match=r"align\.mask: component is an ellipse"):
        align(Counted(), Cut(), align__mask="component")
    with pytest.raises(ConfigError, match="unknown segmentation 'halves'"):
        parse_config(config)
    assert lvlm_va.export(run.path, model=model, out=tmp_path / "m.safetensors").path.is_file()


def test_a_project_from_a_file_takes_objects_and_check_looks_at_them(
    tmp_path: Path, model: nn.Module
) -> None:
    (tmp_path / "project.yaml").write_text("explain: {attribution: gradient-shap, segments: 4}\n")
    objects: dict[str, Any] = {"critic": Patches(), "attribution": Gradient(), "segmentation": Halves()}
    project = lvlm_va.Project.from_yaml(tmp_path / "project.yaml", **objects)
    explain = project.config.explain
    assert (explain.attribution, explain.segmentation, explain.segments) == ("gradient", "halves", 4)
    assert project.config.critique.critic == "patches"
    named = lvlm_va.Project.from_yaml(tmp_path / "project.yaml", critic="ground-truth", segmentation="slic")
    assert (named.config.critique.critic, named.config.explain.segmentation) == ("ground-truth", "slic")

    class Away(Patches):
        def reach(self) -> str:
            raise OSError("the line is dead")

    def checked(**changes: Any) -> dict[str, tuple[str, str]]:
        project = lvlm_va.Project(
            *(model, small.splits(), small.SPECIFICATIONS), settings=settings(), **(objects | changes)
        )
        return {finding.subject: (finding.outcome, finding.text) for finding in project.check()}

    found = checked()
    assert {outcome for outcome, _ in found.values()} == {"ok"}, found
    assert found["attribution"] == ("ok", "gradient")
    assert found["segmentation"] == ("ok", "halves")
    assert "a Patches" in found["critic"][1]
    outcome, text = checked(critic=Away())["critic"]
    assert outcome == "problem"
    assert re.search(r"cannot be reached \(OSError: the line is dead \(.*, line \d+, in reach\)\)", text)


def test_data_that_are_no_images() -> None:
    with pytest.raises(
        DataError, match="train is no set of images: list has no ids, labels, class_names, images"
    ):
        lvlm_va.Project(Linear(), [1, 2])  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["train", "validation", "tests"])
def test_a_part_without_an_image(part: str) -> None:
    some, none = small.shapes(6, seed=1, betrayed=True), small.shapes(0, seed=1, betrayed=True)
    parts: dict[str, Any] = {"train": some, "validation": some, "tests": {"test": some}}
    parts[part] = {"test": none} if part == "tests" else none
    with pytest.raises(DataError, match=rf"small: {part.removesuffix('s')} holds no image; leave it out"):
        lvlm_va.Splits(name="small", **parts)


# Names


def test_every_name_of_ours_has_something_behind_it() -> None:
    assert ATTRIBUTIONS.ours == METHODS
    assert {"ppeps-wgm", *REGION_FINDERS} == set(SEGMENTATIONS.ours)
    assert sources._LOADERS.keys() == set(DATA_SETS.ours)
    assert [kind.group for kind in (CRITICS, ATTRIBUTIONS, SEGMENTATIONS, DATA_SETS)] == [
        f"lvlm_va.{word}" for word in ("critics", "attributions", "segmentations", "datasets")
    ]
    for kind in (CRITICS, ATTRIBUTIONS, SEGMENTATIONS, DATA_SETS):
        assert hasattr(lvlm_va, kind.protocol.removeprefix("lvlm_va."))


MODULE = {
    "good.py": (
        "class Critic:\n    def critique(self, question):\n        return 'SEGMENT 1: VALID — so'\n"
        "def gradient(model, images, targets, baselines): ...\n"
        "def quarters(image, attribution, J): ...\n"
        "def load(settings, log):\n    return [settings.seed]\n"
        "def lost(settings, log):\n    raise OSError('no such disk')\n"
        "number = 3\n"
    ),
    "broken.py": "import nowhere_to_be_found\n",
    "leaves.py": "raise SystemExit(3)\n",
    "loud.py": "raise AssertionError('loaded although it was not named')\n",
}


def wheel(folder: Path, name: str, entries: dict[str, dict[str, str]], modules: dict[str, str]) -> Path:
    """A folder as pip leaves it: modules and their .dist-info."""
    info = folder / f"{name}-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in group_entries.items())
            for group, group_entries in entries.items()
        )
    )
    for file, text in modules.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def other_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    entries = {
        "lvlm_va.critics": {
            "tags": "good:Critic",
            "broken": "broken:Critic",
            "gone": "good:Gone",
            "leaves": "leaves:Critic",
            "loud": "loud:Critic",
            "number": "good:number",
            "two": "good:Critic",
        },
        "lvlm_va.attributions": {"saliency": "good:gradient", "loud": "loud:x"},
        "lvlm_va.segmentations": {"quarters": "good:quarters", "loud": "loud:x"},
        "lvlm_va.datasets": {"mine": "good:load", "lost": "good:lost", "loud": "loud:x"},
    }
    monkeypatch.syspath_prepend(wheel(tmp_path / "site", "stranger", entries, MODULE))
    monkeypatch.syspath_prepend(
        wheel(tmp_path / "site2", "rival", {"lvlm_va.critics": {"two": "rival:Critic"}}, {})
    )
    yield
    for file in MODULE:
        sys.modules.pop(file.removesuffix(".py"), None)


@pytest.mark.usefixtures("other_packages")
def test_other_packages_are_loaded_only_when_named() -> None:
    critic = make_backend("tags")
    assert (critic.name, critic.kind) == ("tags 1.5", "lvlm")
    config = parse_config(
        {"data": {"name": "mine"}, "explain": {"attribution": "saliency", "segmentation": "quarters"}}
    )
    assert config.data.name == "mine"
    assert parse_config(config.model_dump(mode="json", by_alias=True)) == config
    assert "good" in sys.modules
    assert not {"broken", "loud", "leaves"} & sys.modules.keys()
    assert ATTRIBUTIONS.load("saliency").version == SEGMENTATIONS.load("quarters").version == "1.5"
    with pytest.raises(ConfigError, match="unknown option 'timeout'; known are none"):
        make_backend("tags", timeout=3)


@pytest.mark.usefixtures("other_packages")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("tag", "unknown critic 'tag'; did you mean 'tags'?"),
        ("zzz", "'builtin', 'ground-truth', 'openai:<model>', 'hf:<model>', 'file', 'person', 'broken'"),
        ("opnai:gpt-4o", "unknown critic 'opnai:gpt-4o'; did you mean 'openai:<model>'?"),
        (
            "broken",
            r"critic 'broken' of the package stranger 1\.5 \(broken:Critic\) cannot be loaded "
            r"\(ModuleNotFoundError: No module named 'nowhere_to_be_found'\); mend or reinstall the package",
        ),
        ("gone", r"critic 'gone' of the package stranger 1\.5 .*AttributeError"),
        ("leaves", r"critic 'leaves' of the package stranger 1\.5 .*SystemExit: 3"),
        ("number", r"critic 'number' of the package stranger 1\.5 \(good:number\) is no critic"),
        ("two", r"critic 'two' is offered by the package (rival|stranger) 1\.5 .* and by the package"),
    ],
)
def test_a_name_that_cannot_be_used(name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_backend(name)


@pytest.mark.usefixtures("other_packages")
def test_names_of_other_packages_are_among_those_meant() -> None:
    for key, wrong, meant in (
        ("explain.attribution", "salency", "saliency"),
        ("explain.segmentation", "quarter", "quarters"),
        ("data.name", "min", "mine"),
    ):
        with pytest.raises(ConfigError, match=f"{key}: unknown .* {wrong!r}; did you mean {meant!r}"):
            parse_config(override({}, {key: wrong}))


@pytest.mark.usefixtures("other_packages")
def test_a_data_set_of_another_package_that_is_none() -> None:
    with pytest.raises(
        ExtensionError, match=r"mine, a function: returned a list, neither lvlm_va\.Splits nor"
    ):
        sources.load(parse_config({"data": {"name": "mine"}}).data, print)
    with pytest.raises(ExtensionError, match="lost, a function: loading raised OSError: no such disk"):
        sources.load(parse_config({"data": {"name": "lost"}}).data, print)


def test_ours_are_not_looked_up_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def looked_up(**_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(names, "entry_points", looked_up)
    parse_config({"explain": {"segmentation": "slic", "attribution": "gradient-shap"}})
    make_backend("ground-truth")


# The pages


def test_a_critic_takes_twenty_lines() -> None:
    (code,) = (block for block in blocks("critic", "python") if "def critique" in block)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    assert "lvlm_va" not in code


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_the_pages_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("specifications.yaml").write_text(yaml.safe_dump(small.SPECIFICATIONS))
    few = settings(explain__num_images=12)  # the pages leave all settings as they are
    monkeypatch.setattr(project, "override", lambda given, values: override(given, few | dict(values)))
    given = small.untrained() if page != "dataset" else MLP((1, 12, 12), hidden=(8,), num_classes=2)
    known: dict[str, Any] = {"__name__": "page", "model": given, "data": small.splits()}
    for block in blocks(page, "python"):
        exec(block, known)
    for block in blocks(page, "toml"):
        ((group, entries),) = tomllib.loads(block)["project"]["entry-points"].items()
        (kind,) = (kind for kind in (CRITICS, ATTRIBUTIONS, SEGMENTATIONS, DATA_SETS) if kind.group == group)
        ((name, value),) = entries.items()
        assert value.partition(":")[2] in known
        for file in blocks(page, "yaml"):
            assert f": {name}}}" in file
        assert not kind.is_ours(name)
    if page == "critic":
        assert known["run"].metrics.verdicts.critic == "corners 1"
        assert known["run"].metrics.verdicts.spurious > 0
    elif page == "dataset":
        assert known["trained"].accuracy["test"].accuracy >= 0


@pytest.mark.slow
def test_a_run_of_nothing_but_other_peoples_parts(tmp_path: Path) -> None:
    """The code of all four pages as one wheel, named in a project file, from the command line."""
    entries: dict[str, dict[str, str]] = {}
    modules = {"hospital/__init__.py": ""}
    document: dict[str, Any] = {}
    for page in PAGES:
        code = [block for block in blocks(page, "python") if "(model, data" not in block]
        modules[f"hospital/{page}.py"] = "\n\n".join(code)
        for block in blocks(page, "toml"):
            entries |= tomllib.loads(block)["project"]["entry-points"]
        for block in blocks(page, "yaml"):
            for section, keys in yaml.safe_load(block).items():
                document.setdefault(section, {}).update(keys)
    site = wheel(tmp_path / "site", "hospital", entries, modules)
    document = override(
        document,
        settings(explain__num_images=20)
        | {"project": "strangers", "model.epochs": 3, "specifications": "specifications.yaml"},
    )
    assert document["critique"]["critic"] == "corners"
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(document))
    words = {
        name: {"description": f"{name} stripes", "spurious": ["a square in a corner"]}
        for name in ("lying", "standing")
    }
    (tmp_path / "specifications.yaml").write_text(yaml.safe_dump({"classes": words}))

    def command(*words: str, path: Path = site) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(path)]),
            "COLUMNS": "200",
        }
        return subprocess.run(
            [sys.executable, "-m", "lvlm_va.cli.main", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    aligned = command("align", "project.yaml")
    assert aligned.returncode == 0, aligned.stderr
    run = tmp_path / "runs" / "strangers"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["data"]["name"] == "stripes"
    assert metrics["attribution"] == {"method": "gradient-times-input", "completeness_error": None}
    assert metrics["verdicts"]["critic"] == "corners 1"
    assert metrics["verdicts"]["unscored"] == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "divided into segments by shades" in page
    checked = command("check", "project.yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    for told in ("corners 1", "gradient-times-input 1", "shades 1", "train: 120 images"):
        assert told in checked.stdout, checked.stdout
    missing = command("align", "project.yaml", path=tmp_path)
    assert missing.returncode == 2
    assert "unknown attribution method 'gradient-times-input'" in missing.stderr
    assert "Traceback" not in missing.stderr


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project of the pages' critic and data set, as two files beside the project file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    for page, file in (("critic", "corners"), ("dataset", "lines")):
        code = [block for block in blocks(page, "python") if "(model, data" not in block]
        Path(f"{file}.py").write_text("\n\n".join(code), encoding="utf-8")
    words = {
        name: {"description": name, "spurious": "a square in a corner"} for name in ("lying", "standing")
    }
    keys = {
        "project": "files",
        "data": {"name": "lines:load"},
        "model": {"epochs": 1},
        "critique": {"critic": "corners:Corners"},
        "specifications": "specifications.yaml",
    }
    Path("project.yaml").write_text(yaml.safe_dump(override(keys, settings(explain__num_images=12))))
    Path("specifications.yaml").write_text(yaml.safe_dump({"classes": words}))
    yield tmp_path
    for module in ("corners", "lines"):
        sys.modules.pop(module, None)


def test_a_project_file_names_classes_of_the_working_folder(working_folder: Path) -> None:
    verdicts = lvlm_va.Project.from_yaml("project.yaml").critique().verdicts
    assert {v.author for v in verdicts} == {"corners:Corners 1"}
    assert any(v.spurious for v in verdicts)
    assert all("of it lies in a corner" in v.reason for v in verdicts)
    assert (working_folder / "runs" / "files").is_dir()


@pytest.mark.usefixtures("working_folder")
@pytest.mark.parametrize(
    ("key", "name", "told"),
    [
        (
            "critique.critic",
            "cornres:Corners",
            "unknown critic 'cornres:Corners'; did you mean 'corners:Corners'",
        ),
        ("critique.critic", "corners:Corner", "corners has no 'Corner'; did you mean 'Corners'"),
        (
            "critique.critic",
            "zzz:Corners",
            "no module 'zzz': is it installed, in this folder, or on PYTHONPATH",
        ),
        ("data.name", "line:load", "data.name: unknown data set 'line:load'; did you mean 'lines:load'"),
        ("explain.segmentation", "zzz:Cut", "unknown segmentation 'zzz:Cut'; there is no module 'zzz'"),
        (
            "explain.attribution",
            "zzz",
            "known are 'deeplift-shap', .*, and module:attribute of a file of yours",
        ),
    ],
)
def test_a_misspelt_module_or_class(key: str, name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        lvlm_va.Project.from_yaml("project.yaml", settings={key: name}).critique()
