"""Long work that the studio starts: it says how far it is and how it ended, and there is never two of it."""

import json
import os

import pytest
from filelock import FileLock

from lvlm_va.errors import CriticError, RunError, SpecificationError
from lvlm_va.report.words import usd
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import open_store
from lvlm_va.run.judge_check import read_judge_check
from lvlm_va.studio import jobs
from lvlm_va.studio.jobs import CHECK, job_of, start, stop, work
from lvlm_va.studio.reviewing import Review
from lvlm_va.studio.specifying import words_of
from lvlm_va.studio.subject import open_subject
from report_run import CLASSES, IDS
from servers import chat_server, completion, failure
from studio_run import make_run


@pytest.fixture
def subject(tmp_path):
    subject = open_subject(1, make_run(tmp_path / "run"))
    subject.folder.mkdir()
    order = {"verb": "align", "project": None, "run": str(subject.path), "settings": []}
    (subject.folder / "order.json").write_text(json.dumps(order))
    return subject


class Project:
    """Stands in for the real one: does what it is told while its console is watched."""

    def __init__(self, do):
        self.do = do

    def __call__(self, order, console):
        self.console = console
        return self

    def align(self):
        self.do(self.console)


def test_work_says_how_far_it_is_and_that_it_is_done(subject, monkeypatch):
    seen = []

    def do(console):
        seen.append(job_of(subject))
        with console.stage("Critique of 4 images"):
            console._written = 0.0
            console.progress(1, 4)
            seen.append(job_of(subject))
            with pytest.raises(RunError, match="under way already"):
                start(subject, "align")
        console.note("A note.")
        seen.append(job_of(subject))

    monkeypatch.setattr(jobs, "_project", Project(do))
    work(subject.folder)
    first, middle, last = seen
    assert (first.running, first.stage) == (True, "")
    assert (middle.stage, middle.done, middle.total) == ("Critique of 4 images", 1, 4)
    assert middle.seconds_left >= 0
    assert [name for name, _ in last.stages] == ["Critique of 4 images"]
    assert list(last.notes) == ["A note."]
    over = job_of(subject)
    assert (over.running, over.outcome, over.seconds_left) == (False, "done", None)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (CriticError("no key: set OPENAI_API_KEY"), "no key: set OPENAI_API_KEY"),
        (KeyboardInterrupt(), "stopped"),
        (ZeroDivisionError("x"), "This is a mistake of lvlm-va, not yours (ZeroDivisionError: x)."),
    ],
)
def test_work_says_why_it_ended(subject, monkeypatch, error, told):
    def do(console):
        raise error

    monkeypatch.setattr(jobs, "_project", Project(do))
    with pytest.raises(type(error)):
        work(subject.folder)
    assert job_of(subject).outcome == told


def test_a_process_that_was_killed_is_not_taken_for_one_that_works(subject, monkeypatch):
    (subject.folder / "working.lock").touch()
    (subject.folder / "progress.json").write_text(json.dumps({"pid": os.getpid(), "stage": "Aligning"}))
    job = job_of(subject)
    assert not job.running
    assert "was it killed?" in job.outcome
    killed = []
    monkeypatch.setattr(jobs.os, "kill", lambda *args: killed.append(args))
    stop(subject)
    assert killed == [], "its number may be another process's by now"
    (subject.folder / "log.txt").write_text("lvlm-va: the disk is full\n")
    assert job_of(subject).outcome == "lvlm-va: the disk is full"
    with FileLock(subject.folder / "working.lock"):
        assert job_of(subject).running
        with pytest.raises(RunError, match="works on this run already"):
            work(subject.folder)


def test_words_that_cannot_be_used_are_not_written(subject):
    words = words_of(subject)
    before = words.file.read_bytes()
    one = words.read()[CLASSES[0]]
    empty = type(one)(one.name, " ")
    with pytest.raises(SpecificationError):
        words.save(empty, one.version, "Ann")
    assert words.file.read_bytes() == before
    assert words.history(one.name) == []


def test_a_run_whose_settings_name_files_beside_it_is_opened_from_elsewhere(tmp_path, monkeypatch):
    path = make_run(tmp_path / "run")
    record = json.loads((path / "run.json").read_text())
    record["config"] |= {"specifications": "run-specifications.yaml", "run": "run"}
    monkeypatch.chdir(tmp_path)
    with RunDirectory.open(path, record["config"]):  # as a command does that was started here
        pass
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    subject = open_subject(1, path)
    assert words_of(subject).read().keys() == set(CLASSES)
    assert subject.config().run == path
    order = {"verb": "align", "project": None, "run": str(path), "settings": ["align.epochs=3"]}
    assert jobs._project(order, None).config.specifications == tmp_path / "run-specifications.yaml"


def test_the_judge_is_asked_and_what_that_cost_is_said(subject, monkeypatch):
    file = subject.path / "run.json"
    record = json.loads(file.read_text())
    record["config"]["critique"] = {"prices": {"vlm": {"input": 2.5, "output": 10}}}
    file.write_text(json.dumps(record))
    Review(subject).set({(image_id, 1): False for image_id in IDS[:3]}, "Ann")
    arguments = {"judge": "openai:vlm", "max_usd": None, "examples": None}
    order = {"verb": CHECK, "project": None, "run": str(subject.path), "settings": [], "arguments": arguments}
    (subject.folder / "order.json").write_text(json.dumps(order))
    answers = False

    def judge(asked):
        if not answers:
            return failure(400, "the context is too long")
        said = [{"segment": j, "spurious": True, "reason": "a patch"} for j in asked.segment_ids]
        return completion(asked, json.dumps({"verdicts": said}))

    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with chat_server(judge) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        with pytest.raises(CriticError, match="6 judgements were not given"):
            work(subject.folder)
        assert "the context is too long" in job_of(subject).outcome
        assert read_judge_check(subject.read()) is None, "nothing is said of a judge that did not answer"
        answers = True
        server.bodies.clear()
        with RunDirectory.open(subject.path) as run, open_store(run) as store:
            before, unpriced = store.spent(), store.unpriced()
        work(subject.folder)
    job = job_of(subject)
    assert job.outcome == "done"
    assert len(server.bodies) == 6, "each critique without and with the examples"
    # 1,000 tokens in and 100 out, each call.
    assert job.spent == usd(before + 6 * (1000 * 2.5 + 100 * 10) / 1e6, unpriced)
    found = read_judge_check(subject.read())
    assert (found.judge, found.examples + found.held_back) == ("openai:vlm", 3)
