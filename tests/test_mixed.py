"""Mixed segments (`critique.split`): divided without loss, asked about again, never condemned unasked."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import small
from critique_helpers import SEVEN, Scripted, critic_judge, explained, render
from lvlm_va.critique.backends.file import FileBackend
from lvlm_va.critique.backends.ground_truth import GroundTruthBackend
from lvlm_va.critique.backends.line_judge import judge_by_lines
from lvlm_va.critique.backends.own import OwnCritic
from lvlm_va.critique.clear_lines import clear_lines
from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.driver import critique
from lvlm_va.critique.estimate import known_verdicts
from lvlm_va.critique.examples import load_examples
from lvlm_va.critique.folder_export import export_folder
from lvlm_va.critique.folder_import import import_folders
from lvlm_va.critique.judge import judge_question
from lvlm_va.critique.prompts import fill
from lvlm_va.critique.question import ExplainedImage, Question
from lvlm_va.critique.store import Store
from lvlm_va.critique.verdict import Verdict
from lvlm_va.critique.verdict_answer import read_judgement
from lvlm_va.critique.verdict_lines import format_line, parse_lines
from lvlm_va.errors import DataError
from lvlm_va.explain.parts import divide, number_parts, with_parts
from lvlm_va.explain.segmentation import ppeps_wgm
from lvlm_va.report.record import read_critiques, read_images, read_judged
from lvlm_va.run import artefacts
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import MASKS, PARTS
from lvlm_va.run.verdict_table import read_verdicts, verdicts_file
from lvlm_va.studio.subject import open_subject
from test_pipeline import go

J = 3


def blobs(seed: int, side: int = 10) -> torch.Tensor:
    """(side, side) float: a few Gaussian bumps of both signs."""
    random = np.random.default_rng(seed)
    rows, columns = np.indices((side, side))
    phi = random.normal(0, 0.02, (side, side))
    for _ in range(6):
        row, column = random.uniform(0, side, 2)
        bump = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 2 / random.uniform(1, 3) ** 2)
        phi += random.uniform(-0.5, 1) * bump
    return torch.from_numpy(phi.astype(np.float32))


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**16), chosen=st.sets(st.integers(1, J), min_size=1), again=st.booleans())
def test_parts_are_disjoint_and_together_the_segment(seed: int, chosen: set[int], again: bool) -> None:
    phi = blobs(seed)[None]
    segmentation = ppeps_wgm(phi, J, n_init=1)
    if segmentation.set_aside:
        return
    labels, shares = segmentation.labels[0], tuple(segmentation.pi[0].tolist())
    leaves = set(labels.unique().tolist())
    for _ in range(1 + again):
        parts = divide(labels, phi[0], chosen & leaves)
        before, before_shares = labels, shares
        labels, shares = number_parts(before, before_shares, parts)
        numbers = iter(range(len(before_shares) + 1, len(shares) + 1))
        for segment, halves in parts.items():
            first, second = labels == next(numbers), labels == (last := next(numbers))
            assert bool(first.any()), "a part is not empty"
            assert bool(second.any())
            assert not bool((first & second).any())
            assert torch.equal(first | second, before == segment)
            assert torch.equal(torch.stack([first, second]), halves.masks)
            assert shares[last - 2] + shares[last - 1] == pytest.approx(before_shares[segment - 1])
            assert shares[segment - 1] == 0
            leaves = leaves - {segment} | {last - 1, last}
        kept = ~torch.isin(before, torch.tensor([*parts], dtype=before.dtype))
        assert torch.equal(labels[kept], before[kept])
        assert sum(shares) == pytest.approx(1)
        chosen = set(range(len(before_shares) + 1, len(shares) + 1))  # asked about again
    found = with_parts(segmentation, phi, {0: leaves})
    assert torch.equal(found.labels[0], labels), "the numbers that are left tell what was divided"
    assert found.pi[0, : len(shares)].tolist() == pytest.approx(shares)
    assert float(found.pi.sum()) == pytest.approx(1)


def test_numbers_of_other_segments_are_refused() -> None:
    phi = torch.zeros(1, 8, 8)
    phi[0, 1, 1], phi[0, 6, 6] = 1, 0.5
    segmentation = ppeps_wgm(phi, 2)
    assert with_parts(segmentation, phi, {0: (1, 2)}) is segmentation
    with pytest.raises(DataError, match="other segments"):
        with_parts(segmentation, phi, {0: (1, 3, 4)})


KEYS = ("5fb1817ae7abb4fd", "44bf02e1a1b4b19c")
"""Of a critic's and a judge's question before a segment could be mixed: stored answers are found by them."""


def test_without_it_nothing_is_said_of_it_and_no_key_changes() -> None:
    shown = render(explained())
    plain, more = (
        critic_question(explained(), SEVEN, shown, background="spurious", mixed=m) for m in (False, True)
    )
    assert more.prompt == plain.prompt + "\n" + fill("critic_mixed")
    assert (more.system, more.images) == (plain.system, plain.images)
    core = critic_question(explained(), SEVEN, shown, intervene="core")
    judged = [
        judge_question(core, "SEGMENT 1: VALID — x", load_examples(), background="spurious", mixed=m)
        for m in (False, True)
    ]
    assert judged[1].system == judged[0].system.replace(
        "covers something relevant.", "covers something relevant.\n" + fill("judge_mixed")
    ).replace("<true or false>", '<true, false or "mixed">')
    for text in (
        plain.system,
        plain.prompt,
        judged[0].system,
        judged[0].prompt,
        json.dumps(judged[0].schema),
    ):
        assert "mixed" not in text.lower()
        assert "$" not in text
    assert (plain.key("openai:m")[:16], judged[0].key("openai:m")[:16]) == KEYS


MIXED = format_line(2, None, "a tag at the left, bone to its right")
LINES = f"{format_line(1, True, 'a tag')}\n{MIXED}\n{format_line(3, False, 'bone')}"


def test_lines_are_read_where_the_word_was_offered_and_nowhere_else() -> None:
    assert MIXED == "SEGMENT 2: MIXED — a tag at the left, bone to its right"
    for read in (parse_lines, clear_lines):
        assert {j: s for j, (s, _) in read(LINES, (1, 2, 3), mixed=True).items()} == {
            1: True,
            2: None,
            3: False,
        }
        assert read(LINES, (1, 2, 3)).keys() == {1, 3}
        for said in ("Segment 2 is valid.", "SEGMENT 2: SPURIOUS — a tag", "**Segment 2: spurious**"):
            assert 2 not in read(f"{said}\n{LINES}", (1, 2, 3), mixed=True), said
        assert 3 not in read(f"Segments 2 and 3 are mixed.\n{LINES}", (1, 2, 3), mixed=True)
    assert 3 in parse_lines(f"Segment 3 is not mixed.\n{LINES}", (1, 2, 3), mixed=True)
    hedged = "Step 5. Segment 2 is half relevant, half a tag.\nStep 6.\n" + LINES
    assert clear_lines(hedged, (1, 2, 3), mixed=True)[2][0] is None, "both sides are what a mixed segment has"


def test_a_judges_answer_is_read_where_the_word_was_offered_and_nowhere_else() -> None:
    def answer(verdict: Any) -> str:
        line = {"segment": 1, "spurious": verdict, "reason": "both"}
        return json.dumps({"verdicts": [line]})

    for word in ("mixed", "MIXED"):
        assert read_judgement(answer(word), (1,), mixed=True).verdicts == {1: (None, "both")}
        (problem,) = read_judgement(answer(word), (1,)).problems.values()
        assert "wrong form at verdicts.0.spurious: Input should be a valid boolean" in problem
    for other in (None, "", "both", 2, "unsure"):
        assert read_judgement(answer(other), (1,), mixed=True).verdicts == {}
    assert read_judgement(answer(True), (1,), mixed=True).verdicts == {1: (True, "both")}
    disagreeing = answer("mixed") + "\n\nSegment 1 is spurious."
    assert read_judgement(disagreeing, (1,), mixed=True).verdicts == {}


def scene(number: int = 0) -> ExplainedImage:
    """16 × 16: segment 1 above, 2 below; in each, evidence at the left and at the right."""
    attribution = np.full((16, 16), 0.01, np.float32)
    for row in (3, 12):
        attribution[row - 1 : row + 2, 2:5] = 1
        attribution[row - 1 : row + 2, 11:14] = 0.8
    spurious = np.zeros((16, 16), np.bool_)
    spurious[11:14, 2:5] = True
    return replace(
        explained(number),
        image=np.full((16, 16, 3), number, np.uint8),
        segments=np.repeat(np.int16([1, 2]), 8)[:, None].repeat(16, 1),
        attribution=attribution,
        shares=(0.6, 0.4),
        spurious=spurious,
    )


def by_word(**words: bool | None) -> Any:
    """Answers a critic's question with these verdicts ("s2": of segment 2), a judge's from its lines."""

    def script(question: Question) -> str:
        if question.stage == "judge":
            return judge_by_lines(question)
        return "\n".join(format_line(j, words[f"s{j}"], f"word on {j}") for j in question.segment_ids)

    return script


@pytest.mark.parametrize("lines_first", [True, False])
def test_a_mixed_segment_is_divided_and_its_parts_alone_are_asked_about(lines_first: bool) -> None:
    backend = Scripted(by_word(s1=False, s2=None, s3=True, s4=False), kind="lvlm")
    asked = critic_judge(backend, split=1, lines_first=lines_first)
    with Store.open(":memory:") as store:
        verdicts = critique([scene()], asked, store)
        assert [(v.segment, v.spurious, v.reason) for v in verdicts] == [
            (1, False, "word on 1"),
            (3, True, "word on 3"),
            (4, False, "word on 4"),
        ]
        critics = [q for q in backend.asked if q.stage == "critic"]
        assert [q.segment_ids for q in critics] == [(1, 2), (3, 4)]
        assert [q.mixed for q in critics] == [True, False], "in the end it must decide"
        assert critics[1].prompt.count("MIXED") == 0
        parts = critics[1].explained.segments
        assert np.array_equal(parts > 0, scene().segments == 2)
        assert (parts[12, 3], parts[12, 12]) == (3, 4), "the part with more evidence comes first"
        assert critics[1].explained.shares[2] + critics[1].explained.shares[3] == pytest.approx(0.4)
        backend.asked.clear()
        assert critique([scene()], asked, store) == verdicts
        assert backend.asked == [], "nothing is paid twice"
        if not lines_first:
            judged = [e.verdicts for e in store.exchanges() if e.stage == "judge"]
            assert judged[0] == {1: (False, "word on 1"), 2: (None, "word on 2")}


def test_what_is_divided_no_more_is_unscored() -> None:
    said = by_word(**{f"s{j}": None for j in range(1, 20)})
    for split, calls in ((1, 2), (2, 3)):
        backend = Scripted(said)
        with Store.open(":memory:") as store:
            verdicts = critique([scene()], critic_judge(backend, split=split, lines_first=True), store)
        assert [q.mixed for q in backend.asked if q.stage == "critic"] == [True] * split + [False]
        assert {v.spurious for v in verdicts} == {None}
        assert all(v.reason == f"mixed: word on {v.segment}" for v in verdicts)
        assert len({v.segment for v in verdicts}) == len(verdicts) == 2 ** (1 + split), calls


def test_what_cannot_be_divided_is_unscored() -> None:
    attribution = np.full((6, 6), -1.0, np.float32)
    attribution[:, :3], attribution[3, 5] = 1, 1
    it = explained(0, 2, attribution=attribution)
    backend = Scripted(by_word(s1=False, s2=None))
    with Store.open(":memory:") as store:
        verdicts = critique([it], critic_judge(backend, split=2, lines_first=True), store)
    assert [(v.segment, v.spurious) for v in verdicts] == [(1, False), (2, None)]
    assert len(backend.asked) == 1


def test_without_the_setting_the_word_gives_no_verdict() -> None:
    backend = Scripted(by_word(s1=False, s2=None))
    with Store.open(":memory:") as store:
        verdicts = critique([scene()], critic_judge(backend), store)
    assert [v.spurious for v in verdicts] == [False, None]
    assert {q.explained.segments.max() for q in backend.asked} == {2}


def test_by_file_the_second_round_asks_about_the_parts(tmp_path: Path) -> None:
    asked = critic_judge(FileBackend("chat"), split=1, lines_first=True)
    images = [scene(0), scene(1)]
    answers = [
        "SEGMENT 1: VALID — bone\nSEGMENT 2: MIXED — a tag at the left, bone at the right",
        "SEGMENT 3: SPURIOUS — a tag\nSEGMENT 4: VALID — bone",
    ]
    with Store.open(tmp_path / "critiques.sqlite") as store:
        for number, text in enumerate(answers):
            written = export_folder(images, asked, store, tmp_path / f"round-{number}")
            assert written.requests == 2
            for folder in (f for f in written.files[0].iterdir() if f.is_dir()):
                prompt = (folder / "prompt.txt").read_text("utf-8")
                assert ("MIXED" in prompt, "segments 3, 4" in prompt) == (number == 0, number == 1)
                (folder / "answer.txt").write_text(text, "utf-8")
            assert known_verdicts(images[0], asked, store) is None
            import_folders(written.files, store, answered_by="a person")
        assert not export_folder(images, asked, store, tmp_path / "none").requests
        verdicts = critique(images, asked, store)
    assert [(v.segment, v.spurious) for v in verdicts] == [(1, False), (3, True), (4, False)] * 2


def test_the_oracle_calls_mixed_what_the_feature_covers_in_part() -> None:
    with Store.open(":memory:") as store:
        found = [critique([scene()], critic_judge(GroundTruthBackend(), split=n), store) for n in (0, 1)]
    assert [(v.segment, v.spurious) for v in found[0]] == [(1, False), (2, True)]
    assert [(v.segment, v.spurious) for v in found[1]] == [(1, False), (3, True), (4, False)]


def test_anybodys_critic_may_say_so_where_it_may() -> None:
    class Halves:
        name = "halves"

        def critique(self, question: Question) -> dict[int, tuple[Any, str]]:
            return {j: ("mixed" if question.mixed else j == 3, "halves") for j in question.segment_ids}

    with Store.open(":memory:") as store:
        verdicts = critique([scene()], critic_judge(OwnCritic(Halves()), split=1), store)
    assert [(v.segment, v.spurious) for v in verdicts] == [(3, True), (4, False), (5, False), (6, False)]


FEW = {"explain__num_images": 16, "align__epochs": 1, "evaluate__num_images": 10}


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return small.trained()


def test_a_run_with_parts(tmp_path: Path, model: torch.nn.Module) -> None:
    """Masks, tables, reports, resumption and a person's word on a part."""
    splits = small.splits()
    plain, _ = go(tmp_path / "plain", model, splits, critique__split=0, **FEW)
    first, _ = go(tmp_path / "run", model, splits, critique__split=1, **FEW)
    _, console = go(tmp_path / "run", model, splits, critique__split=1, **FEW)
    assert console.stages == [], "again computes nothing"
    assert first["verdicts"]["unscored"] == 0
    assert first["verdicts"]["segments"] > plain["verdicts"]["segments"] == 16 * J
    assert first["verdicts"]["quality"]["recall"] == 1

    run = RunDirectory.read(tmp_path / "run")
    assert not RunDirectory.read(tmp_path / "plain").file(PARTS).exists()
    images = read_images(run)
    verdicts = read_verdicts(tmp_path / "run" / "verdicts.csv")
    masks, notes = artefacts.read_tensors(run.file(MASKS))
    wide, _ = artefacts.read_tensors(RunDirectory.read(tmp_path / "plain").file(MASKS))
    for image_id, mask, before in zip(notes["ids"], masks["masks"], wide["masks"], strict=True):
        one = images.explained_images[image_id]
        assert one.segment_ids == tuple(v.segment for v in verdicts if v.image_id == image_id)
        assert sum(one.shares) == pytest.approx(1)
        condemned = [v.segment for v in verdicts if v.image_id == image_id and v.spurious]
        assert np.array_equal(mask.numpy(), np.isin(one.segments, condemned))
        assert one.spurious is not None
        assert (one.spurious <= mask.numpy()).all(), "the oracle loses nothing of the feature"
        assert bool((mask <= before).all()), "parts are within what was condemned as a whole"
    assert masks["masks"].sum() < 0.8 * wide["masks"].sum()

    studio = open_subject(1, tmp_path / "run")
    assert studio.images().segmentation.pi.shape[1] == max(v.segment for v in verdicts)

    part = next(v for v in verdicts if v.segment > J and v.spurious is False)
    text = read_critiques(run, read_judged(run))[part.image_id].text
    assert text.count("ORACLE.") == 2, "both critiques are shown"
    assert f"SEGMENT {part.segment}: VALID" in text
    changed = [Verdict(v.image_id, v.segment, True, "", "Ada") if v == part else v for v in verdicts]
    (tmp_path / "run" / "verdicts.csv").write_bytes(verdicts_file(changed))
    again, console = go(tmp_path / "run", model, splits, critique__split=1, **FEW)
    (overruled,) = again["verdicts"]["overruled"]
    assert (overruled["segment"], overruled["author"]) == (part.segment, "Ada")
    assert "Critique" not in console.stages

    # Whole segments again: what a person said of a part no longer fits, and is kept.
    _, console = go(tmp_path / "run", model, splits, critique__split=0, **FEW)
    assert (tmp_path / "run" / "verdicts.before-1.csv").exists()
    assert max(read_images(run).explained_images[part.image_id].segment_ids) <= J
    assert studio.images().segmentation.pi.shape[1] == J


def test_fewer_questions_and_parts(tmp_path: Path, model: torch.nn.Module) -> None:
    metrics, _ = go(
        tmp_path / "run",
        model,
        small.splits(),
        critique__split=2,
        critique__fraction=8,
        critique__agreement=0,
        **FEW,
    )
    propagation = metrics["verdicts"]["propagation"]
    verdicts = read_verdicts(tmp_path / "run" / "verdicts.csv")
    asked = {v.image_id for v in verdicts if "propagated" not in v.author and "not asked" not in v.author}
    assert len(asked) == propagation["asked"] == 8
    assert {v.image_id for v in verdicts if v.segment > J} <= asked
    images = read_images(RunDirectory.read(tmp_path / "run"))
    for image_id, one in images.explained_images.items():
        assert one.segment_ids == tuple(v.segment for v in verdicts if v.image_id == image_id)
