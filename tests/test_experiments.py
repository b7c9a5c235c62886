"""Results of experiments: lines that survive whatever interrupts, tables that say what the lines say."""

import errno
import json
import multiprocessing
import os
import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import engine_tasks
from experiments.pages.numbers import mean_std, table
from experiments.results import Result
from experiments.store import TRIALS, TrialStore, read_lines
from experiments.trial import Trial
from experiments.workspace import Workspace
from lvlm_va.config.loading import load_config
from lvlm_va.errors import RunError
from lvlm_va.project.presets import preset


def line(name: str, inputs: str = "i", **more: Any) -> dict[str, Any]:
    return {"trial": name, "inputs": inputs, **more}


def test_lines_are_appended_and_the_last_about_a_trial_wins(tmp_path: Path) -> None:
    store = TrialStore(tmp_path, "terms")
    store.add(line("b", value=1))
    store.add(line("a", "j", failed="no images"))
    assert store.find(line("a", "j")) is None, "what failed is tried again"
    store.add(line("a", "j", value=2))
    store.add(line("a", "j", value=2))
    path = tmp_path / "terms" / TRIALS
    assert len(path.read_text().splitlines()) == 3, "what is there already is not written again"
    assert read_lines(path.parent) == [line("a", "j", value=2), line("b", value=1)], "by name"
    later = TrialStore(tmp_path, "terms")
    assert later.find(line("a", "j")) == line("a", "j", value=2)
    assert later.find(line("a", "other inputs")) is None
    assert TrialStore(tmp_path, "baselines").find(line("another name", "j")) == line(
        "another name", "j", value=2
    )


def test_the_original_model_of_another_training_is_not_taken_over(tmp_path: Path) -> None:
    trial = Trial(Workspace(tmp_path, "decoy-mnist", "quick", 0), "original")
    trial.workspace.model.mkdir(parents=True)
    weights = trial.workspace.model / "model.safetensors"
    ours = {**trial.to_dict(), "record": {"original": {"weights": sha256(b"ours").hexdigest()[:24]}}}
    assert not trial.began_elsewhere(ours), "no model lies here"
    weights.write_bytes(b"ours")
    assert not trial.began_elsewhere(ours)
    weights.write_bytes(b"trained again")
    assert trial.began_elsewhere(ours)
    assert trial.began_elsewhere({**ours, "record": {}}), "not known which"
    assert not replace(trial, method="control").began_elsewhere(ours), "it carries its original model with it"
    TrialStore(tmp_path, "terms").add(ours)
    assert TrialStore(tmp_path, "terms").holds(ours)
    assert not TrialStore(tmp_path, "baselines").holds(ours), "found there, but not its own"


@given(st.integers(0, 200))
def test_a_torn_last_line_is_left_out_and_then_removed(cut: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = TrialStore(Path(folder), "terms")
        store.add(line("a", value="é" * 10))
        path = Path(folder) / "terms" / TRIALS
        whole = path.read_bytes()
        store.add(line("b", value="ö" * 40))
        torn = path.read_bytes()[: len(whole) + cut]
        path.write_bytes(torn)
        kept = ["a", "b"] if b'"}' in torn[len(whole) :] else ["a"]
        assert [trial["trial"] for trial in read_lines(path.parent)] == kept
        TrialStore(Path(folder), "terms").add(line("c"))
        assert [trial["trial"] for trial in read_lines(path.parent)] == [*kept, "c"]
        assert all(json.loads(text) for text in path.read_text().splitlines())


def test_no_number_is_null_not_nan(tmp_path: Path) -> None:
    TrialStore(tmp_path, "terms").add(
        line("a", verdicts={"accuracy": float("nan")}, values=[float("inf"), 1])
    )
    assert read_lines(tmp_path / "terms") == [line("a", verdicts={"accuracy": None}, values=[None, 1])]


def test_several_processes_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=engine_tasks.add_lines, args=(str(tmp_path), who)) for who in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(read_lines(tmp_path / "terms")) == 40


@pytest.mark.parametrize("content", ["\n", "[]\n", "{}\n", '{"trial": "a"}\n', "\x00\n"])
def test_results_that_cannot_be_read_are_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "terms" / TRIALS
    path.parent.mkdir()
    path.write_text('{"trial": "a", "inputs": ""}\n' + content)
    with pytest.raises(RunError, match=r"trials\.jsonl, line 2: not a trial .*remove the line"):
        TrialStore(tmp_path, "terms")
    assert path.read_text().endswith(content)


@pytest.mark.parametrize("full", ["os.fsync", "os.write"])
def test_a_full_disk_keeps_the_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str) -> None:
    store = TrialStore(tmp_path, "terms")
    store.add(line("a"))
    before = (tmp_path / "terms" / TRIALS).read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(full, refuse)
    with pytest.raises(RunError, match="the disk is full"):
        store.add(line("b"))
    assert (tmp_path / "terms" / TRIALS).read_bytes() == before
    monkeypatch.undo()
    store.add(line("b"))
    assert len(read_lines(tmp_path / "terms")) == 2


def test_what_was_not_measured_is_none() -> None:
    bare = Result.model_validate(line("a", dataset="knee", seed=0, method="original"))
    assert (bare.measures.validation, bare.groups.worst, bare.verdicts.quality.recall) == (None, None, None)
    null = {"mu_align": None, "sensitivity": None, "accuracy": {"test": None}}
    some = Result.model_validate({**bare.model_dump(), "measures": null, "verdicts": None, "record": None})
    assert (some.main_test, some.measures.accuracy["test"]) == ("test", None)
    assert some.measures.sensitivity.added.rate is None


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_mean_and_standard_deviation_over_n_minus_1(values: list[float]) -> None:
    n = len(values)
    average = sum(values) / n
    deviation = (sum((v - average) ** 2 for v in values) / (n - 1)) ** 0.5
    match = re.fullmatch(r"(\S+) ± (\S+) \(n = (\d+)\)", mean_std(values))
    assert match is not None
    assert float(match[1]) == pytest.approx(average, abs=5.1e-4)
    assert float(match[2]) == pytest.approx(deviation, abs=5.1e-4)
    assert int(match[3]) == n


def test_mean_std_in_numbers() -> None:
    assert mean_std([0.9, 0.95, 1.0]) == "0.950 ± 0.050 (n = 3)"
    assert mean_std([0.5]) == "0.500 (n = 1)", "one seed has no deviation"
    assert mean_std([]) == "–"


def test_tables_are_markdown() -> None:
    assert table(["a", "b"], [["1", "2"]]) == ["| a | b |", "| --- | --- |", "| 1 | 2 |"]


def test_the_committed_project_is_a_project() -> None:
    config = load_config(preset("decoy-mnist"))
    assert config.critique.critic == "builtin"
    assert len(config.align.lam) >= 7, "up to the collapse"
    assert list(config.align.lam) == sorted(config.align.lam)
