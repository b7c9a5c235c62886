"""Examples for the judge, out of a run: overruled ones first, readable by whoever reads examples."""

from pathlib import Path

import pytest
import yaml

import report_run
from lvlm_va.critique.examples import load_examples
from lvlm_va.errors import ConfigError, RunError
from lvlm_va.report import judge_examples
from lvlm_va.report.judge_examples import write_judge_examples
from lvlm_va.run.directory import RunDirectory


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(judge_examples, "encode", report_run.encode)
    return report_run.make_run(tmp_path / "run").path


def test_examples_with_the_verdicts_in_force(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "examples.yaml"
    with RunDirectory.open(run) as directory:
        number = write_judge_examples(directory, out)
    pairs = yaml.safe_load(out.read_text("utf-8"))
    assert len(pairs) == number == len(load_examples(out))
    comments = [line for line in out.read_text("utf-8").splitlines() if line.startswith("# ")][3:]
    assert comments[0] == "# c: a person overruled a verdict"
    said, table = report_run.verdicts()
    in_force = {(v.image_id, v.segment): v.spurious for v in table}
    overruled = {v.segment: v.spurious for v in said if v.image_id == "c"}
    first = {entry["segment"]: entry["spurious"] for entry in pairs[0]["verdicts"]}
    assert first == {j: in_force["c", j] for j in first}
    assert first != {j: overruled[j] for j in first}, "the person's verdict, not the critic's"
    unscored = [key for key, spurious in in_force.items() if spurious is None]
    assert out.read_text("utf-8").count("  # - {segment: ") == len(unscored) > 0


def test_not_more_than_asked_for_and_nothing_is_overwritten(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "examples.yaml"
    with RunDirectory.open(run) as directory:
        assert write_judge_examples(directory, out, number=1) == 1
        before = out.read_bytes()
        with pytest.raises(ConfigError, match="exists already, and may hold corrected verdicts"):
            write_judge_examples(directory, out)
        assert out.read_bytes() == before
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match="cannot be written there"):
            write_judge_examples(directory, tmp_path / "file" / "examples.yaml")


def test_a_run_without_verdicts(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_examples, "read_critiques", lambda *_: {})
    with RunDirectory.open(run) as directory, pytest.raises(RunError, match="no critique with a verdict"):
        write_judge_examples(directory, tmp_path / "examples.yaml")
