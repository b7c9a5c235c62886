"""The command line: one clear sentence and an exit code for every mistake, never a traceback."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import small
from lvlm_va._version import __version__
from lvlm_va.cli import main as cli
from lvlm_va.data.splits import Splits
from lvlm_va.project import check
from lvlm_va.project import inputs as project
from lvlm_va.run.verdict_table import read_verdicts
from patience import PATIENCE, wait_until
from servers import Asked, answer

WORKER = [sys.executable, str(Path(__file__).with_name("cli_worker.py"))]


class Outcome(NamedTuple):
    code: Any
    out: str
    err: str


class Command:
    """Runs `lvlm-va` in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments: object) -> Outcome:
        self.monkeypatch.setattr(sys, "argv", ["lvlm-va", *map(str, arguments)])
        self.monkeypatch.setenv("PYTHONSAFEPATH", "")  # undone with what main sets
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self.capsys.readouterr()
        try:
            with pytest.raises(SystemExit) as left:
                cli.main()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        out, err = self.capsys.readouterr()
        return Outcome(left.value.code, out, err)

    def refused(self, told: str, *arguments: object, code: int = 1) -> None:
        """The command leaves with `code` and one message on standard error."""
        outcome = self(*arguments)
        assert outcome.code == code, outcome
        assert re.search(told, outcome.err), outcome.err
        assert "Traceback" not in outcome.out + outcome.err
        assert outcome.err.startswith("lvlm-va: "), "nothing else was said before"
        assert outcome.out == ""


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for data in such a test has done so too early."""

    def load(*_: object, **__: object) -> Splits:
        raise AssertionError("data were fetched before the mistake was told")

    monkeypatch.setattr(project, "load_splits", load)


@pytest.fixture
def small_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "load_splits", lambda config, *, log: small.splits())


@pytest.fixture
def project_file(tmp_path: Path) -> Path:
    """A project on the small data set, complete and quick."""
    return small.project_file(tmp_path, model__epochs=10, model__batch=32, explain__num_images=12)


def test_version(command: Command) -> None:
    assert command("--version") == Outcome(0, f"lvlm-va {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (
            "",
            [
                "demo",
                "init",
                "check",
                "align",
                "critique",
                "report",
                "show",
                "data",
                "critic",
                "--version",
            ],
        ),
        ("demo", ["--critic", "--run", "--data", "--set", "--max-usd", "--dry-run"]),
        ("align", ["PROJECT", "--critic", "--run", "--set", "--max-usd", "--dry-run"]),
        (
            "critique",
            ["PROJECT", "--critic", "--run", "--set", "--max-usd", "--dry-run", "--export", "--import"],
        ),
        ("init", ["DIR", "--data", "--model"]),
        ("check", ["PROJECT", "--critic", "--set"]),
        ("diagnose", ["PROJECT", "--critic", "--run", "--set", "--max-usd", "--dry-run"]),
        ("report", ["RUN"]),
        ("export", ["RUN", "--format", "--out", "--which", "safetensors", "state-dict", "onnx"]),
        ("show", ["RUN", "IMAGE_ID"]),
        ("data fetch", ["NAME", "--data", "mnist"]),
        ("critic check", ["--critic", "--judge", "--threshold", "--images", "--dry-run"]),
    ],
)
def test_help_mentions_every_option(
    command: Command, monkeypatch: pytest.MonkeyPatch, words: str, options: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    outcome = command(*words.split(), "--help")
    assert outcome.code == 0
    assert outcome.err == ""
    missing = [option for option in options if option.lower() not in outcome.out.lower()]
    assert not missing, outcome.out
    assert "--critic" not in options or "openai:<model>" in outcome.out, (
        "markup swallows what looks like a tag"
    )


@pytest.mark.usefixtures("no_data")
def test_mistakes_that_are_told_before_any_data(
    command: Command, tmp_path: Path, project_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    command.refused("none.yaml: no such project file", "align", "none.yaml", code=2)
    command.refused("no such project file", "critique", "none.yaml", code=2)
    file = project_file
    command.refused(
        r"unknown key 'align\.lamda'; did you mean 'lambda'\?",
        "align",
        file,
        "--set",
        "align.lamda=1",
        code=2,
    )
    command.refused("write key=value", "align", file, "--set", "align.lambda", code=2)
    command.refused("did you mean 'epochs'", "demo", "--set", "align.epoch=1", code=2)
    command.refused("greater than or equal to 0", "align", file, "--max-usd", "-1", code=2)
    for name in ("align", "critique"):
        command.refused(
            "unknown critic 'buitlin'; did you mean 'builtin'", name, file, "--critic", "buitlin", code=2
        )
        command.refused("needs a model", name, file, "--critic", "openai:", code=2)
        command.refused("OPENAI_API_KEY", name, file, "--critic", "openai:gpt-4o")
    command.refused("OPENAI_API_KEY", "demo", "--critic", "openai:gpt-4o")
    command.refused("OPENAI_API_KEY", "critic", "check", "--critic", "openai:gpt-4o")
    command.refused("unknown critic", "critic", "check", "--critic", "nobody", code=2)
    command.refused("mnist", "data", "fetch", "imagenet", code=2)
    assert sorted(tmp_path.iterdir()) == before, "no run was started"


def test_usage_errors(command: Command) -> None:
    for words in (
        ["algin"],
        ["align"],
        ["align", "--lambda", "3"],
    ):
        outcome = command(*words)
        assert outcome.code == 2
        assert "Traceback" not in outcome.err
        assert outcome.err


def test_folders_that_are_no_runs(command: Command, tmp_path: Path) -> None:
    for words in (
        ["report", tmp_path],
        ["show", tmp_path, "a"],
        ["report", tmp_path / "none"],
        ["export", tmp_path],
    ):
        command.refused("no run here", *words)
    (tmp_path / "run.json").write_text('{"format": 99, "lvlm_va": "9.9"}')
    command.refused("written by version 9.9 in format 99", "report", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.usefixtures("small_data")
def test_mistakes_in_a_project(command: Command, project_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(told: str, *settings: str, code: int = 1) -> None:
        command.refused(
            told, "align", project_file, *(word for s in settings for word in ("--set", s)), code=code
        )

    refused("no such file; write the class specifications there", "specifications=none.yaml")
    refused("no such checkpoint", "model.weights=none.safetensors")
    refused("unknown model 'resnet19'; did you mean 'resnet18'", "model.name=resnet19", code=2)
    refused("device 'tpu'", "device=tpu", code=2)
    refused(r"device 'gpu' cannot be used here \(known are auto, cpu, cuda", "device=gpu", code=2)
    (project_file.parent / "classes.yaml").write_text("classes: {bar: A bar., post: A post.}")
    refused("no specification for class 'slash'")


FACTORY = """
import sys
class Own(BaseException): pass
def leaves(): sys.exit(0)
def raises(): raise Own("no")
def generator(): raise GeneratorExit
"""


@pytest.mark.usefixtures("small_data")
def test_whatever_a_factory_raises(
    command: Command, project_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "load_splits", lambda config, *, log: small.splits())
    monkeypatch.chdir(project_file.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    project_file.with_name("users_own.py").write_text(FACTORY)
    try:
        for factory in ("leaves", "raises", "generator"):
            setting = ("--set", f"model.name=users_own:{factory}")
            command.refused("the factory raised", "align", project_file, *setting)
            looked = command("check", project_file, *setting)
            assert looked.code == 2, looked.err
            assert "the factory raised" in looked.out
            assert f"model.name runs users_own:{factory} with your rights" in looked.out
            assert "Traceback" not in looked.out + looked.err
    finally:
        sys.modules.pop("users_own", None)


@pytest.mark.usefixtures("small_data")
def test_align_report_show_and_overrule(command: Command, project_file: Path) -> None:
    done = command("align", project_file)
    assert done.code == 0, done.err
    run = project_file.parent / "run"
    assert f"Report: {run / 'report.html'}" in done.out
    assert "ORACLE" in done.out.upper()
    assert "Training mlp" in done.err
    again = command("align", project_file)
    assert again.code == 0
    assert "Training" not in again.err
    page = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    assert command("report", run).out.strip() == str(run / "report.html")
    assert (run / "report.html").read_bytes() == page
    image_id = (run / "selection.csv").read_text().splitlines()[1].split(",")[0]
    shown = command("show", run, image_id)
    assert shown.code == 0
    assert image_id in shown.out
    command.refused("no image 'nobody'", "show", run, "nobody")
    said = command("critique", project_file)
    assert said.code == 0
    assert re.search(
        r"\d+ segments: \d+ spurious, \d+ valid, 0 unscored, by ground-truth \(an oracle", said.out
    )
    other = run.parent / "other"
    dry = command("critique", project_file, "--dry-run", "--critic", "openai:gpt-4o", "--run", other)
    assert dry.code == 0, dry.err
    assert re.search(r"12 critiques \(openai:gpt-4o\).* USD", dry.out), "an estimate needs no key"
    requests = run.parent / "requests.jsonl"
    exported = command(
        "critique", project_file, "--export", requests, "--critic", "openai:gpt-4o", "--run", other
    )
    assert exported.out.startswith("12 questions written")
    assert len(requests.read_text().splitlines()) == 12


@pytest.mark.usefixtures("small_data")
def test_who_answers_by_file_needs_no_key(
    command: Command, project_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    critique = ("critique", project_file, "--critic", "openai:stranger", "--set", "explain.num_images=4")

    def answered(questions: Path, *, refused: int) -> Path:
        lines = []
        for number, line in enumerate(questions.read_text("utf-8").splitlines()):
            request = json.loads(line)
            message = {"content": answer(Asked(request["body"], 0))}
            message = {"refusal": "No."} if number < refused else message
            body = {"choices": [{"message": message, "finish_reason": "stop"}]}
            response = {"custom_id": request["custom_id"], "response": {"status_code": 200, "body": body}}
            lines.append(json.dumps(response))
        path = questions.with_name(f"answers-to-{questions.name}")
        path.write_text("\n".join(lines), "utf-8")
        return path

    first, second = tmp_path / "critiques.jsonl", tmp_path / "judgements.jsonl"
    exported = command(*critique, "--export", first)
    assert "4 questions written" in exported.out
    assert "with --import ANSWERS in place of --export" in exported.out
    assert "set OPENAI_API_KEY" in command(*critique).err, "as long as nothing was answered"

    both = command(*critique, "--import", answered(first, refused=1), "--export", second)
    assert both.code == 0, both.err
    assert "4 answers taken" in both.out
    assert re.search(r"of no use, though answered: \w{12}: the model refused to answer", both.out)
    # Equal critiques of different images are judged once.
    still = re.search(r"Still open: 0 critiques and ([123]) judgements?\. Repeat the command with", both.out)
    assert still is not None, both.out
    assert re.search(rf"^{still[1]} questions? written", both.out, re.MULTILINE)
    early = command(*critique)
    assert early.code == 1
    assert "openai:stranger has open questions and is asked by file" in early.err

    assert "Nothing is open" in command(*critique, "--import", answered(second, refused=0)).out
    done = command(*critique)
    assert done.code == 0, done.err
    unscored = [v for v in read_verdicts(project_file.parent / "run" / "verdicts.csv") if v.spurious is None]
    assert {v.reason for v in unscored} == {"no usable critique: the model refused to answer"}
    assert f"{len(unscored)} unscored, by openai:stranger" in done.out


@pytest.mark.usefixtures("small_data")
def test_a_batch_may_be_judged_here_and_what_answers_here_by_a_batch(
    command: Command, project_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)

    def answered(questions: Path) -> Path:
        lines = []
        for line in questions.read_text("utf-8").splitlines():
            request = json.loads(line)
            asked = Asked(request["body"], 0)
            valid = [{"segment": j, "spurious": False, "reason": "a stroke"} for j in asked.segment_ids]
            message = {"content": json.dumps({"verdicts": valid}) if asked.is_judge else answer(asked)}
            body = {"choices": [{"message": message, "finish_reason": "stop"}]}
            response = {"custom_id": request["custom_id"], "response": {"status_code": 200, "body": body}}
            lines.append(json.dumps(response))
        path = questions.with_name(f"answers-to-{questions.name}")
        path.write_text("\n".join(lines), "utf-8")
        return path

    few = ("critique", project_file, "--set", "explain.num_images=4")
    batch = (*few, "--critic", "openai:stranger", "--set", "critique.judge=builtin")
    assert "4 questions written" in command(*batch, "--export", tmp_path / "a.jsonl").out
    taken = command(*batch, "--import", answered(tmp_path / "a.jsonl"))
    assert "Nothing is open." in taken.out, "what is judged here waits for nobody"
    done = command(*batch)
    assert done.code == 0, done.err
    assert "by openai:stranger" in done.out

    here = (*few, "--critic", "builtin", "--set", "critique.judge=openai:stranger")
    exported = command(*here, "--export", tmp_path / "b.jsonl")
    assert re.match(r"[1-4] questions? written", exported.out), (exported.out, exported.err)
    assert "Nothing is open." in command(*here, "--import", answered(tmp_path / "b.jsonl")).out
    assert command(*here).code == 0
    command.refused("ground-truth cannot be asked by file", *few, "--export", tmp_path / "c.jsonl", code=2)


@pytest.mark.usefixtures("small_data")
@pytest.mark.slow
def test_a_person_answers_by_folder_a_few_at_a_time(
    command: Command, project_file: Path, tmp_path: Path
) -> None:
    critique = ("critique", project_file, "--critic", "file", "--set", "explain.num_images=4")
    critique = (*critique, "--set", "critique.judge=lines")
    questions = tmp_path / "questions"
    exported = command(*critique, "--export", questions)
    assert exported.code == 0, exported.err
    assert f"--import {questions} --answered-by NAME" in exported.out
    folders = sorted(folder for folder in questions.iterdir() if folder.is_dir())
    assert len(folders) == 4
    command.refused("say who answered", *critique, "--import", questions, code=2)
    command.refused("is not empty, and may hold answers", *critique, "--export", questions, code=2)
    about_a_batch = ("--import", project_file, "--note", "how")
    command.refused("belong to answers in a folder", *critique, *about_a_batch, code=2)
    early = command(*critique)
    assert early.code == 1
    assert "file has open questions and is asked by file" in early.err

    def fill_in(some: list[Path], hedged: bool = False) -> None:
        for folder in some:
            prompt = (folder / "prompt.txt").read_text("utf-8")
            (offered,) = re.findall(r"for each of the segments ([\d, ]+), in this form", prompt)
            lines = [f"SEGMENT {j}: VALID — {'perhaps ' * hedged}a stroke" for j in offered.split(", ")]
            (folder / "answer.txt").write_text("\n".join(lines).replace("VALID", "SPURIOUS", 1), "utf-8")

    fill_in(folders[:1])
    who = ("--answered-by", "Dr. No", "--note", "at the screen")
    some = command(*critique, "--import", questions, *who)
    assert "1 answer taken, 0 known before, 3 left empty." in some.out
    assert "Still open: 3 critiques and 0 judgements." in some.out
    fill_in(folders[1:3])
    fill_in(folders[3:], hedged=True)
    doubtful = tmp_path / "doubtful"
    rest = command(*critique, "--import", questions, *who, "--export", doubtful)
    assert "3 answers taken, 1 known before." in rest.out
    assert "Still open: 0 critiques and 1 judgement." in rest.out
    (judgement,) = (folder for folder in doubtful.iterdir() if folder.is_dir())
    assert sorted(file.name for file in judgement.iterdir()) == ["answer.txt", "prompt.txt"]
    (judgement / "answer.txt").write_text("I cannot say.", "utf-8")
    command(*critique, "--import", doubtful, *who, "--export", tmp_path / "repair")
    (repair,) = (folder for folder in (tmp_path / "repair").iterdir() if folder.is_dir())
    (repair / "answer.txt").write_text("I still cannot.", "utf-8")
    assert "Nothing is open." in command(*critique, "--import", repair, *who).out
    done = command(*critique)
    assert done.code == 0, done.err
    verdicts = read_verdicts(project_file.parent / "run" / "verdicts.csv")
    assert {v.author for v in verdicts} == {"file judged by lines"}
    assert sum(v.spurious is True for v in verdicts) == 3
    assert {v.spurious for v in verdicts if v.image_id == verdicts[-1].image_id} <= {True, False, None}
    assert any(v.spurious is None for v in verdicts), "what was hedged and never judged"


@pytest.mark.usefixtures("small_data")
def test_an_endpoint_that_is_not_there(
    command: Command, project_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
    outcome = command("align", project_file, "--critic", "openai:gpt-4o", "--set", "explain.num_images=4")
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    last = outcome.err.strip().splitlines()[-1]
    assert last.startswith("lvlm-va: ")
    assert f"127.0.0.1:{port}" in last


def test_a_run_is_of_one_process_and_ends_by_ctrl_c(
    command: Command, project_file: Path, small_data: None
) -> None:
    process = subprocess.Popen(
        [*WORKER, "align", str(project_file), "--set", "model.epochs=100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        run = project_file.parent / "run"
        wait_until((run / "run.json").exists, process)
        command.refused("another process is working on this run", "align", project_file)
        command.refused("another process is working on this run", "report", run)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    assert err.strip().splitlines()[-1] == "lvlm-va: stopped; what is done is kept, the same command resumes"
    assert "Traceback" not in out + err


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lvlm_va.cli.main", "no-such-command"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lvlm-va: No such command 'no-such-command'")


@pytest.mark.slow
@pytest.mark.skipif("LVLM_VA_DATA" not in os.environ, reason="LVLM_VA_DATA names no folder with MNIST")
def test_a_very_small_demo(tmp_path: Path) -> None:
    settings = [
        "model.epochs=1",
        "explain.num_images=24",
        "align.epochs=1",
        "align.lambda=0.01",
        "evaluate.num_images=50",
        "evaluate.bounds=false",
    ]
    words = ["demo", "--run", str(tmp_path / "run"), *(word for s in settings for word in ("--set", s))]
    done = subprocess.run(
        [sys.executable, "-m", "lvlm_va.cli.main", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "DecoyMNIST test" in done.stdout
    assert (tmp_path / "run" / "report.html").exists()
