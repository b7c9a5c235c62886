"""`lvlm-va judge check`: what the expert's examples change in a judge, on critiques that it was not shown."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from scipy.stats import beta

import small
from critique_helpers import SEVEN, Scripted, critic_judge, explained
from lvlm_va.critique.backends.batch import BatchBackend
from lvlm_va.critique.backends.builtin import BuiltinCritic
from lvlm_va.critique.backends.file import FileBackend
from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.examples import load_examples
from lvlm_va.critique.judge import judge_question
from lvlm_va.critique.question import Backend, Question, Reply
from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import ConfigError, CriticError, RunError
from lvlm_va.evaluate.statistics import exact_interval
from lvlm_va.project import judging
from lvlm_va.project.judging import JudgeChecking
from lvlm_va.project.project import Project
from lvlm_va.report.critiques import Critique
from lvlm_va.report.record import Judged
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import open_store
from lvlm_va.run.judge_check import Compared, JudgeCheck, ignored_examples, keep_judge_check
from lvlm_va.run.verdict_table import Overruled

IMAGES = {it.image_id: it for it in (explained(number) for number in range(6))}


def text(image_id: str) -> str:
    """Haze is called valid; the expert of these tests knows better. Of each critique a line leaves doubt."""
    return (
        f"Step 5. All of it may be right, says the critic of {image_id}.\n"
        "SEGMENT 1: VALID — haze\nSEGMENT 2: VALID — perhaps the bar\nSEGMENT 3: SPURIOUS — a patch"
    )


def judge(heeds: bool) -> Scripted:
    """One that repeats the lines, and learns from an example that haze is spurious, or does not."""

    def answer(question: Question) -> Reply:
        taught = heeds and '"spurious":true,"reason":"haze"' in question.system
        said = [
            {"segment": j, "spurious": j == 3 or (taught and j == 1), "reason": "so said"} for j in (1, 2, 3)
        ]
        return Reply(json.dumps({"verdicts": said}), "m", usd=0.01)

    return Scripted(answer, name="openai:m", kind="lvlm")


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    def made(backend: Backend, overruled: int = 6, **critique: object) -> Path:
        """A run of six critiques; the expert overruled segment 1 of the first ones."""
        path = tmp_path / "run"
        values = {1: False, 2: False, 3: True}
        said = [Verdict(i, j, r, "so said", "openai:m") for i in IMAGES for j, r in values.items()]
        persons = {i: Verdict(i, 1, True, "haze", "ann") for i in list(IMAGES)[:overruled]}
        in_force = [persons.get(v.image_id, v) if v.segment == 1 else v for v in said]
        changed = [
            Overruled(v, persons[v.image_id]) for v in said if v.segment == 1 and v.image_id in persons
        ]
        settings = {"critic": "openai:m", **critique}
        with RunDirectory.open(path, {"project": "p", "critique": settings}) as run, open_store(run) as store:
            for it in IMAGES.values():
                question = critic_question(it, SEVEN, ())
                store.record(question, "openai:m", Reply(text(it.image_id), "m", usd=1.0))
                asked = judge_question(question, text(it.image_id), load_examples())
                store.record(asked, "openai:m", judge(False).script(asked))  # type: ignore[arg-type]
        found = {i: Critique(text(i), "openai:m", SEVEN.version, SEVEN.text, shown=True) for i in IMAGES}

        def read(run: RunDirectory, _: Judged) -> dict[str, Critique]:
            with open_store(run):  # as the true one does: one process, one at a time
                return found

        monkeypatch.setattr(judging, "read_judged", lambda _: Judged(said, in_force, changed))
        monkeypatch.setattr(judging, "read_critiques", read)
        monkeypatch.setattr(judging, "read_images", lambda _: SimpleNamespace(explained_images=IMAGES))
        monkeypatch.setattr(judging, "make_critic_judge", lambda *_, **__: critic_judge(backend))
        return path

    return made


def test_a_judge_that_heeds_examples_moves_on_critiques_that_it_was_not_shown(
    make: Callable[..., Path],
) -> None:
    backend = judge(heeds=True)
    checking = JudgeChecking(make(backend))
    assert checking.cost().judge_calls == 6, "what the run's judge was asked without examples is there"
    assert not backend.asked
    found = checking.check()
    assert len(backend.asked) == 6
    assert found == JudgeCheck(
        judge="openai:m",
        examples=3,
        held_back=3,
        corrected=Compared(3, 0, 3),
        kept=Compared(6, 6, 6),
        shown=Compared(9, 6, 9),
    )
    assert found.ignores == ""
    assert found.few.startswith("9 of your verdicts were held back: fewer than 10")
    assert "0 of 3 (0% to 71%) without your examples, 3 of 3 (29% to 100%) with them" in str(found)
    assert checking.check() == found
    assert len(backend.asked) == 6, "nothing is asked twice"
    shown = {q.explained.image_id for q in backend.asked if text(q.explained.image_id) in q.system}
    assert len(shown) == 3


def test_a_judge_that_ignores_examples_is_told_of_wherever_its_verdicts_are(
    make: Callable[..., Path],
) -> None:
    path = make(judge(heeds=False), judge_examples=None)
    found = JudgeChecking(path).check()
    assert (found.corrected, found.shown) == (Compared(3, 0, 0), Compared(9, 6, 6))
    warning = (
        "The judge openai:m ignores your examples: even of your verdicts on the examples themselves it gives "
        "6 of 9 with them in its prompt, and 6 without."
    )
    assert found.ignores == warning
    assert f"WARNING: {warning}" in str(found)
    assert ignored_examples(RunDirectory.read(path)) == "", "the run uses none"
    with RunDirectory.open(path, {"critique": {"judge_examples": "mine.yaml"}}) as run:
        assert ignored_examples(run) == warning
        examples = path.parent / "mine.yaml"
        examples.write_text(yaml.safe_dump([]))
        for used in (str(examples), None):
            project = Project(
                small.untrained(),
                small.splits(),
                small.SPECIFICATIONS,
                run=path,
                settings=small.settings(critique__judge_examples=used),
            )
            told = [finding.text for finding in project.check() if finding.outcome == "warning"]
            assert (warning in told) == (used is not None)
        keep_judge_check(run, JudgeCheck("m", 1, 1, Compared(2, 1, 2), Compared(0, 0, 0), Compared(1, 0, 1)))
        assert ignored_examples(run) == ""


def test_the_examples_of_a_file_are_shown_and_other_critiques_held_back(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    backend = judge(heeds=True)
    path, file = make(backend, overruled=3), tmp_path / "mine.yaml"
    haze = {"segment": 1, "spurious": True, "reason": "haze"}
    pairs = [
        {"critique": text("image-5").replace("\n", "  \n"), "verdicts": [haze]},
        {"critique": "SEGMENT 1: VALID — of another run", "verdicts": [haze]},
    ]
    file.write_text(yaml.safe_dump(pairs), "utf-8")
    found = JudgeChecking(path, examples=file).check()
    assert (found.examples, found.held_back) == (2, 3)
    assert (found.corrected, found.kept, found.shown) == (
        Compared(3, 0, 3),
        Compared(6, 6, 6),
        Compared(1, 0, 1),
    )


def test_clear_lines_are_left_out_where_no_judge_is_asked_about_them(make: Callable[..., Path]) -> None:
    found = JudgeChecking(make(judge(heeds=True), judge="lines")).check()
    assert found.clear == 12
    assert (found.corrected, found.kept) == (Compared(0, 0, 0), Compared(3, 3, 3))


def test_a_judge_that_is_asked_by_folder_or_batch(make: Callable[..., Path], tmp_path: Path) -> None:
    path = make(FileBackend("ann"))
    checking = JudgeChecking(path, judge="file:ann")
    with pytest.raises(CriticError, match="file:ann is asked by file: repeat the command with --export"):
        checking.check()
    assert checking.export_questions(tmp_path / "out").questions == 12, "another judge than the run's"
    for folder in (f for f in (tmp_path / "out").iterdir() if f.is_dir()):
        valid = [{"segment": j, "spurious": False, "reason": "x"} for j in (1, 2, 3)]
        (folder / "answer.txt").write_text(json.dumps({"verdicts": valid}), "utf-8")
    said = checking.import_answers([tmp_path / "out"], answered_by="Ann")
    assert said == "12 answers taken, 0 known before."
    assert checking.check().held_back_verdicts == Compared(9, 3, 3)
    make(BatchBackend("m"))
    batch = JudgeChecking(path).export_questions(tmp_path / "batch.jsonl")
    assert batch.questions == len((tmp_path / "batch.jsonl").read_text("utf-8").splitlines()) == 6


def test_refusals(make: Callable[..., Path]) -> None:
    with pytest.raises(RunError, match="you spoke on 1 of its critiques, and two are the least"):
        JudgeChecking(make(judge(heeds=True), overruled=1)).check()
    with pytest.raises(ConfigError, match="builtin reads the verdict lines and no examples"):
        JudgeChecking(make(BuiltinCritic())).check()


@pytest.mark.parametrize(("hits", "n"), [(0, 3), (3, 3), (2, 7), (9, 20)])
def test_the_interval_is_that_of_the_beta_quantiles(hits: int, n: int) -> None:
    low, high = exact_interval(hits, n)
    assert low == pytest.approx(beta.ppf(0.025, hits, n - hits + 1) if hits else 0)
    assert high == pytest.approx(beta.ppf(0.975, hits + 1, n - hits) if hits < n else 1)
    assert exact_interval(0, 0) == (0, 1)
