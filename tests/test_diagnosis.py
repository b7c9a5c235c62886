"""What the model relies on: shares that add up, a page that is true and harmless, and a run that goes on."""

import math
import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lvlm_va
import small
from lvlm_va.critique.backends.builtin import BuiltinCritic
from lvlm_va.critique.driver import critique
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.critique.store import Store
from lvlm_va.critique.verdict import Verdict
from lvlm_va.data.imageset import ArrayImageSet, Groups
from lvlm_va.data.leaks import Leak
from lvlm_va.evaluate.groups import group_accuracy
from lvlm_va.models.predict import logits
from lvlm_va.report import diagnosis
from lvlm_va.report.reliance import summarise_reliance
from lvlm_va.report.story import tell_diagnosis
from lvlm_va.report.summary import diagnosis_table
from lvlm_va.run.diagnosed import Diagnosed
from lvlm_va.run.metrics import GroupMetrics, Measured, Quality
from patience import PATIENCE
from report_run import ANSI, CLASSES, IDS, SCRIPT, encode, make_run, metrics
from test_report_page import Page
from test_report_words import explained

GROUPS = ("first half", "second half")
scored = st.tuples(
    st.floats(0.01, 1), st.sampled_from([True, False, None]), st.sampled_from(["patch", "tag"])
)


@given(st.lists(st.tuples(st.sampled_from(CLASSES), scored, scored), min_size=1, max_size=8))
def test_shares_of_the_evidence_add_up(table: list[Any]) -> None:
    """A conservation law: what the grounds hold and what is unscored make all, overall and in every class."""
    explained_images = [explained(str(n), (one[0], two[0]), name) for n, (name, one, two) in enumerate(table)]
    verdicts = [
        Verdict(str(n), j, spurious, reason, "x")
        for n, row in enumerate(table)
        for j, (_, spurious, reason) in enumerate(row[1:], start=1)
    ]
    result = summarise_reliance(explained_images, verdicts, CLASSES, encode)
    total = sum(g.evidence for g in result.grounds) + result.unscored_evidence
    assert total == pytest.approx(1)
    assert result.evidence(spurious=True) + result.evidence(spurious=False) == pytest.approx(
        1 - result.unscored_evidence
    )
    sizes = {row.name: row.images for row in result.classes}
    for ground in result.grounds:
        weighted = sum(sizes[name] * share for name, share in ground.by_class.items()) / len(table)
        assert weighted == pytest.approx(ground.evidence)
    ranked = [(not g.spurious, -g.evidence) for g in result.ranked]
    assert ranked == sorted(ranked)


def test_evidence_by_hand() -> None:
    explained_images = [
        explained("a", (0.9, 0.1)),
        explained("b", (0.4, 0.6)),
        explained("c", (1.0,), CLASSES[1]),
    ]
    verdicts = [
        Verdict("a", 1, True, "patch", "x"),
        Verdict("a", 2, True, "patch", "x"),
        Verdict("b", 2, True, "patch", "x"),
        Verdict("b", 1, None, "no answer", "x"),
        Verdict("c", 1, False, "stroke", "x"),
    ]
    patch, stroke = summarise_reliance(explained_images, verdicts, CLASSES, encode).ranked
    held = np.array([1.0, 0.6, 0.0])
    assert patch.evidence == pytest.approx(held.mean())
    assert patch.error == pytest.approx(held.std(ddof=1) / math.sqrt(3))
    assert patch.by_class == pytest.approx({CLASSES[0]: 0.8, CLASSES[1]: 0.0})
    assert patch.members == (("a", 1), ("b", 2), ("a", 2)), "those that hold most come first"
    assert stroke.evidence == pytest.approx(1 / 3)


def decoy(evidence_at: tuple[slice, slice]) -> ExplainedImage:
    """A grey patch in the corner and a stroke; segment 1 is the patch with much ground around it."""
    image = np.zeros((28, 28, 3), np.uint8)
    image[:4, :4] = 130
    image[6:24, 18:21] = 255
    segments = np.ones((28, 28), np.int16)
    segments[:, 14:] = 2
    values = np.full((28, 28), -0.1, np.float32)
    values[evidence_at] = 1
    values[8:20, 18:21] = 0.5
    held = [float(np.maximum(values, 0)[segments == j].sum()) for j in (1, 2)]
    return ExplainedImage(
        "a", image, segments, values, (held[0] / sum(held), held[1] / sum(held)), "one", "one"
    )


def criticised(explained: ExplainedImage) -> list[Verdict]:
    """What the built-in critic says of it."""
    specification = ClassSpecification(
        "one", "A stroke.", ("the stroke of the digit",), ("a flat grey patch in a corner",)
    )
    critic_judge = CriticJudge(
        BuiltinCritic(), BuiltinCritic(), {"one": specification}, lambda _: (), examples=()
    )
    with Store.open(":memory:") as store:
        return list(critique([explained], critic_judge, store))


@pytest.mark.parametrize(
    ("at", "on_patch"),
    [
        ((slice(15, 20), slice(3, 8)), 0.0),
        ((slice(0, 4), slice(0, 4)), 1.0),
        ((slice(0, 8), slice(0, 4)), 0.5),
    ],
)
def test_a_thing_is_credited_only_with_the_evidence_on_it(at: tuple[slice, slice], on_patch: float) -> None:
    """The fault: "59 % of the evidence lies on a flat grey patch", while none of it was on the patch."""
    one = decoy(at)
    verdicts = criticised(one)
    assert [v.spurious for v in verdicts] == [True, False]
    result = summarise_reliance([one], verdicts, ["one"], encode, diagnosis._locate)
    patch, stroke = result.ranked
    assert patch.evidence == pytest.approx(one.shares[0]), "what lies in the segment stays what it was"
    assert patch.on_thing == pytest.approx(on_patch * one.shares[0])
    assert stroke.on_thing == pytest.approx(one.shares[1]), "all of it lies on the stroke"
    assert result.evidence(spurious=True) == pytest.approx(one.shares[0])


def test_a_thing_that_is_not_located_is_credited_with_nothing_but_its_segments() -> None:
    one = decoy((slice(0, 4), slice(0, 4)))
    said = criticised(one)
    for verdicts in (
        [replace(v, author="openai:gpt-4o", reason="the grey patch") for v in said],
        [replace(v, author="builtin, propagated from image b, segment 1") for v in said],
        [replace(v, author="Dr. Who") for v in said],
        [replace(v, reason='it covers all of the red disc, which matches "patches"') for v in said],
    ):
        result = summarise_reliance([one], verdicts, ["one"], encode, diagnosis._locate)
        assert [g.on_thing for g in result.grounds] == [None] * len(result.grounds)
    assert all(g.on_thing is None for g in summarise_reliance([one], said, ["one"], encode).grounds)


def test_what_lies_on_the_thing_ranks_before_what_lies_beside_it() -> None:
    explained_images = [explained("a", (0.6, 0.4))]
    explained_images[0].attribution[:] = 1
    verdicts = [Verdict("a", 1, True, "patch", "x"), Verdict("a", 2, True, "tag", "x")]
    tag_only = np.array([[False, True]])
    result = summarise_reliance(
        explained_images, verdicts, CLASSES, encode, lambda _, found: [tag_only] * len(found)
    )
    assert [(g.reason, g.evidence, g.on_thing) for g in result.ranked] == [
        ("tag", 0.4, 0.4),
        ("patch", 0.6, 0),
    ]


@pytest.mark.parametrize("on_thing", [None, 0.0])
def test_no_sentence_puts_a_segments_share_on_a_thing(
    hostile: tuple[Diagnosed, Path], on_thing: float | None
) -> None:
    findings, _ = hostile
    grounds = tuple(g.model_copy(update={"on_thing": on_thing}) for g in findings.grounds)
    told = tell_diagnosis(findings.model_copy(update={"grounds": grounds}))
    assert " of the evidence for the classifier's decisions lies in segments that the critic " in told
    assert "lies on" not in told
    assert told.count("0\u202f% on the thing itself") == (0 if on_thing is None else 2)


@pytest.fixture(scope="module")
def diagnosed(tmp_path_factory: pytest.TempPathFactory) -> lvlm_va.Diagnosis:
    """The small model with an oracle for a critic, on a test set whose groups are known."""
    parts = small.splits()
    test = parts.tests["test"]
    assert isinstance(test, ArrayImageSet)
    groups = Groups(GROUPS, (torch.arange(len(test)) >= 100).long())
    given_settings = {k: v for k, v in small.settings(explain__num_images=24).items() if "critic" not in k}
    return lvlm_va.diagnose(
        small.trained(),
        replace(
            parts,
            tests={"test": replace(test, groups=groups)},
            set_aside={"broken.png": "is not an image"},
            leaks=(Leak(("train", "test"), 2, (("a", "b"),)),),
        ),
        small.SPECIFICATIONS,
        critic="ground-truth",
        run=tmp_path_factory.mktemp("small") / "run",
        settings=given_settings,
        quiet=True,
    )


def test_files_set_aside_and_leaks_are_told_first(diagnosed: lvlm_va.Diagnosis) -> None:
    text = diagnosed.page.read_text(encoding="utf-8")
    notice = "1 file could not be used and was set aside. 2 images of test are also in train."
    assert text.index(notice) < text.index("What it relies on, the most important first")
    assert "broken.png" in text[text.index('id="images"') :]


def test_from_a_model_to_a_ranked_list(diagnosed: lvlm_va.Diagnosis) -> None:
    findings = diagnosed.findings
    assert Diagnosed.model_validate_json((diagnosed.path / "diagnosis.json").read_bytes()) == findings
    assert not (diagnosed.path / "aligned.safetensors").exists(), "it stops before alignment"
    assert not (diagnosed.path / "metrics.json").exists()
    condemned, accepted = findings.grounds
    assert [condemned.verdict, accepted.verdict] == ["spurious", "valid"]
    assert condemned.segments == sum(v.spurious is True for v in diagnosed.verdicts)
    assert condemned.with_planted_feature == condemned.segments, "the oracle is right by construction"
    assert accepted.with_planted_feature == 0
    assert findings.evidence.condemned == pytest.approx(condemned.evidence)
    assert condemned.evidence > 0.2, "it was trained to decide by the patch"
    assert findings.verdicts.quality.accuracy == 1
    for ground in findings.grounds:
        examples = ground.examples
        assert 3 <= len(examples) <= 6
        assert len({e.image_id for e in examples}) == len(examples)
        assert {e.class_name for e in examples} == set(small.CLASSES), "one of each class comes first"
    assert {row.name for row in findings.classes} == set(small.CLASSES)


def test_accuracy_by_group_is_that_of_the_model(diagnosed: lvlm_va.Diagnosis) -> None:
    test = small.splits().tests["test"]
    groups = Groups(GROUPS, (torch.arange(len(test)) >= 100).long())
    expected = group_accuracy(logits(small.trained(), test), test.labels, groups)
    assert diagnosed.findings.models["original"].groups == {"test": GroupMetrics.model_validate(expected)}
    page = Page(diagnosed.page.read_text(encoding="utf-8"))
    assert page.row("test: first half")[1:] == [
        "100",
        f"{100 * expected.accuracy['first half']:.1f}\u202f%",
    ]
    assert page.row("test: worst group (WGA)")[2] == f"{100 * expected.worst:.1f}\u202f%"
    assert "An oracle, which knows where the planted feature" in page.text


def test_the_terminal_says_the_same(diagnosed: lvlm_va.Diagnosis) -> None:
    text = str(diagnosed)
    for ground in diagnosed.findings.grounds:
        assert f"{100 * ground.evidence:.1f} ± " in text
        assert ground.examples[0].image_id in text
    assert tell_diagnosis(diagnosed.findings) in text


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Diagnosed, Path]:
    """The diagnosis of a run whose critic tries to break out of the page and of the terminal."""
    monkeypatch.setattr(diagnosis, "encode", encode)
    measured = {name: part for name, part in metrics().items() if name != "lambda"}
    measured["models"] = {"original": measured["models"]["original"] | {"groups": {}}}
    findings, page = diagnosis.write_diagnosis(make_run(tmp_path), Measured.model_validate(measured))
    quality = Quality(
        flagged=0, flagged_right=0, spurious=0, scored=0, unscored=0, accuracy=float("nan"), recall=1
    )
    assert quality.accuracy is None, "JSON knows no NaN"
    return findings, page


def test_what_a_critic_wrote_is_shown_and_does_nothing(hostile: tuple[Diagnosed, Path]) -> None:
    findings, path = hostile
    page = Page(path.read_text(encoding="utf-8"))
    assert "<img src=x onerror=" in page.text
    for tag, attributes in page.elements:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form", "i", "b", "u"}
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in {"src", "href"}:
                assert (value or "").startswith(("data:", "#")), (tag, name)
        if tag == "img":
            assert attributes["alt"]
    assert SCRIPT in page.text
    first = findings.grounds[0].model_copy(update={"reason": f"[bold]{ANSI}patch[/bold]"})
    text = diagnosis_table(findings.model_copy(update={"grounds": (first, *findings.grounds[1:])}))
    assert "\x1b" not in text
    assert "[bold]" in text


def test_unscored_and_unknown_are_said(hostile: tuple[Diagnosed, Path]) -> None:
    findings, path = hostile
    page = Page(path.read_text(encoding="utf-8"))
    unscored = findings.evidence.unscored
    assert unscored > 0
    assert page.row("—")[1:4] == ["no verdict", "unscored", f"{100 * unscored:.1f}\u202f%"]
    assert f"{IDS[1]}, segment 1" in page.text
    assert "NaN" not in (path.parent / "diagnosis.json").read_text()


def test_nothing_condemned_nothing_judged_nothing_segmented(hostile: tuple[Diagnosed, Path]) -> None:
    findings, _ = hostile
    valid = tuple(g for g in findings.grounds if g.verdict == "valid")
    told = tell_diagnosis(findings.model_copy(update={"grounds": valid}))
    assert "condemned none of 6 segments in 3 images" in told
    assert tell_diagnosis(findings.model_copy(update={"grounds": ()})).startswith(
        "None of 6 segments got a verdict"
    )
    empty = findings.model_copy(update={"verdicts": findings.verdicts.model_copy(update={"segments": 0})})
    assert tell_diagnosis(empty).startswith("No image could be segmented")


@pytest.mark.browser
def test_in_a_browser_on_a_small_screen(hostile: tuple[Diagnosed, Path], browser: Any) -> None:
    _, path = hostile
    page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme="dark")
    page.set_default_timeout(1000 * PATIENCE)
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(path.as_uri())
    assert page.title() == "tiny: what the classifier relies on"
    assert page.evaluate("document.documentElement.scrollWidth") <= 400, "nothing sticks out"
    widths = page.locator("img").evaluate_all("images => images.map(image => image.naturalWidth)")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "A"
    page.close()
    assert widths
    assert min(widths) > 0
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    assert complaints == []


@pytest.mark.slow
def test_align_goes_on_from_a_diagnosis_and_asks_nothing_again(tmp_path: Path) -> None:
    """Two real processes on one run."""
    file = small.project_file(tmp_path, model__epochs=8, model__batch=32, explain__num_images=9)

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        worker = str(Path(__file__).with_name("cli_worker.py"))
        done = subprocess.run(
            [sys.executable, worker, words[0], str(file), *words[1:]],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return done

    def asked() -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(tmp_path / "run/critiques.sqlite")
        try:
            return connection.execute("SELECT * FROM answers ORDER BY key").fetchall()
        finally:
            connection.close()

    first = command("diagnose")
    assert "AN ORACLE" in first.stdout
    assert f"With images: {tmp_path / 'run/diagnosis.html'}" in first.stdout
    assert "Critique of 9 images" in first.stderr
    answers = asked()
    assert answers
    then = command("align")
    for stage in (
        "Training",
        "Selecting",
        "Explaining them",
        "Segmenting",
        "Critique",
        "Evaluating original",
    ):
        assert stage not in then.stderr, "done already"
    assert "Aligning" in then.stderr
    assert asked() == answers
    assert (tmp_path / "run/report.html").exists()
