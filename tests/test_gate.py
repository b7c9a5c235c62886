"""The gate of `diagnose --fail-above`: what passes, what is written, and how the command leaves."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.main import get_command
from typer.testing import CliRunner

from lvlm_va.cli.main import app
from lvlm_va.config.loading import Config
from lvlm_va.errors import ConfigError, GateRefused
from lvlm_va.evaluate.statistics import exact_interval, mean_interval, mean_share_interval
from lvlm_va.project.project import Project
from lvlm_va.project.results import Diagnosis
from lvlm_va.report import diagnosis
from lvlm_va.report.gate import Gate, gate, gate_json, gate_junit
from lvlm_va.run.diagnosed import Diagnosed
from lvlm_va.run.metrics import Measured
from report_run import encode, make_run, metrics


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Diagnosed:
    """Three images: strongest segments condemned, unscored and condemned; reasons that break out of XML."""
    measured = {name: part for name, part in metrics().items() if name != "lambda"}
    measured["models"] = {"original": measured["models"]["original"] | {"groups": {}}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnosis, "encode", encode)
        run = make_run(tmp_path_factory.mktemp("gate"))
        return diagnosis.write_diagnosis(run, Measured.model_validate(measured))[0]


def with_evidence(
    found: Diagnosed, condemned: float, low: float, high: float, unscored: float = 0.0, images: int = 100
) -> Diagnosed:
    evidence = {"condemned": condemned, "unscored": unscored, "accepted": 1 - condemned - unscored}
    strongest = {"images": images, "condemned": 0, "accepted": images, "unscored": 0}
    return found.model_copy(
        update={
            "evidence": found.evidence.model_copy(update=evidence | {"condemned_interval": (low, high)}),
            "strongest_segment": found.strongest_segment.model_copy(update=strongest),
        }
    )


def test_the_upper_end_decides_and_what_has_no_verdict_does_not_pass(found: Diagnosed) -> None:
    for evidence, outcome, told in (
        ((0.04, 0.02, 0.07), "passed", "4.0% of the evidence lies on condemned segments"),
        ((0.10, 0.05, 0.10), "passed", "at most"),
        ((0.04, 0.02, 0.12), "above", "is not shown: critique more images"),
        ((0.30, 0.25, 0.35), "above", "30.0%"),
        ((0.0, 0.0, 0.05, 0.2), "unscored", "20.0% of the evidence got no verdict and may be anything"),
        ((0.04, 0.0, 0.2, 0.5), "unscored", "got no verdict"),
        ((0.3, 0.2, 0.4, 0.5), "above", "got no verdict"),
        ((0.0, 0.0, 1.0, 0.0, 0), "unscored", "0 images"),
        ((0.0, 0.0, 0.31, 0.0, 10), "above", "10 images can show no less than 30.8%"),
    ):
        decided = gate(with_evidence(found, *evidence), fail_above=0.1, allow_unscored=0.1)
        assert (decided.outcome, decided.passed) == (outcome, outcome == "passed"), evidence
        assert told in decided.why, (evidence, decided.why)
        if decided.passed:
            decided.require()
        else:
            with pytest.raises(GateRefused, match="of the evidence") as caught:
                decided.require()
            assert caught.value.exit_code == 4


def test_the_share_and_its_interval_are_those_of_the_images(found: Diagnosed) -> None:
    """Images a and c are condemned in segment 1, b has no verdict there; counted by the grounds, too."""
    evidence = found.evidence
    assert evidence.condemned + evidence.accepted + evidence.unscored == pytest.approx(1)
    assert evidence.condemned_interval is not None
    low, high = evidence.condemned_interval
    assert 0 <= low <= evidence.condemned <= high <= 1
    shares = [g.evidence for g in found.grounds if g.verdict == "spurious"]
    assert evidence.condemned == pytest.approx(sum(shares))


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1), max_size=30))
def test_an_interval_holds_the_mean_and_is_never_surer_than_counting(shares: list[float]) -> None:
    low, high = mean_share_interval(shares)
    n = len(shares)
    if n < 3:
        assert (low, high) == (0, 1)
        return
    assert 0 <= low <= np.mean(shares) + 1e-9
    assert np.mean(shares) - 1e-9 <= high <= 1
    assert high >= 1 - 0.025 ** (1 / n) - 1e-12, "Clopper and Pearson of 0 of n, in closed form"
    assert low <= 0.025 ** (1 / n) + 1e-12
    assert (boot := mean_interval(shares)) is not None
    assert (low, high) == (min(boot[0], exact_interval(n, n)[0]), max(boot[1], exact_interval(0, n)[1]))


def test_the_upper_end_covers_rare_shares() -> None:
    """A shortcut in 2 images of 100: the upper end misses it in few of 40 draws, the bootstrap more often."""
    rng, truth = np.random.default_rng(0), 0.02 * 4 / 6
    there, sizes = rng.random((40, 100)) < 0.02, rng.beta(4, 2, (40, 100))
    draws = np.where(there, sizes, 0.0)
    assert sum(mean_share_interval(list(shares))[1] < truth for shares in draws) <= 2
    alone = [mean_interval(list(shares)) for shares in draws]
    assert sum(one is not None and one[1] < truth for one in alone) > 2


@pytest.mark.parametrize("limits", [(0.0, 0.1), (1.1, 0.1), (float("nan"), 0.1), (0.1, -0.1)])
def test_limits_that_mean_nothing(found: Diagnosed, limits: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="give a "):
        gate(found, fail_above=limits[0], allow_unscored=limits[1])


def test_junit_and_json_say_the_same(found: Diagnosed) -> None:
    hostile = found.grounds[0].model_copy(update={"reason": "a \x1b[2J patch ]]> & <b>\x00\ud800"})
    named = found.model_copy(update={"grounds": (hostile, *found.grounds[1:])})
    for evidence, failures in (
        ((0.04, 0.02, 0.07), []),
        ((0.3, 0.2, 0.4), ["evidence on condemned segments"]),
        ((0.0, 0.0, 0.05, 0.2), ["evidence without a verdict"]),
        ((0.3, 0.2, 0.4, 0.5), ["evidence on condemned segments", "evidence without a verdict"]),
    ):
        decided = gate(with_evidence(named, *evidence), fail_above=0.1)
        suites = ElementTree.fromstring(gate_junit(decided))
        cases = suites.findall("testsuite/testcase")
        assert [c.get("name") for c in cases if c.find("failure") is not None] == failures
        assert [s.get("failures") for s in suites.iter() if s.get("failures")] == [str(len(failures))] * 2
        assert len(cases) == int(suites.get("tests") or 0) == 2
        for failure in suites.iter("failure"):
            assert failure.get("message") == decided.why
            assert "patch ]]> & <b>" in (failure.text or "")
        document = json.loads(gate_json(decided))
        assert document["passed"] is (not failures)
        assert (document["share"], tuple(document["interval"])) == (decided.share, decided.interval)
        assert document["grounds"][0]["evidence"] == decided.grounds[0].evidence


@pytest.fixture
def command(found: Diagnosed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `lvlm-va diagnose` on a diagnosis that is there already."""
    (tmp_path / "p.yaml").write_text("project: p")
    asked: list[Config] = []

    def run(evidence: tuple[float, ...], *words: str) -> Any:
        def diagnose(project: Project) -> Diagnosis:
            asked.append(project.config)
            return Diagnosis(tmp_path, with_evidence(found, *evidence), tmp_path / "page.html")

        monkeypatch.setattr(Project, "diagnose", diagnose)
        return CliRunner().invoke(app, ["diagnose", str(tmp_path / "p.yaml"), *words])

    run.asked = asked  # type: ignore[attr-defined]
    return run


def test_the_command_writes_both_files_and_then_refuses(command: Any, tmp_path: Path) -> None:
    words = ("--junit", str(tmp_path / "new" / "j.xml"), "--json", str(tmp_path / "j.json"))
    done = command((0.3, 0.2, 0.4), "--fail-above", "0.1", *words)
    assert isinstance(done.exception, GateRefused), done.exception
    assert json.loads((tmp_path / "j.json").read_text())["outcome"] == "above"
    assert ElementTree.parse(tmp_path / "new" / "j.xml").getroot().get("failures") == "1"
    done = command((0.03, 0.02, 0.04), "--fail-above", "0.1", *words)
    assert (done.exit_code, done.exception) == (0, None)
    assert "Gate: passed." in done.output
    assert json.loads((tmp_path / "j.json").read_text())["passed"] is True
    assert command((0.9, 0.8, 1.0)).exit_code == 0, "without a limit there is no gate"
    assert command((0.01, 0.0, 0.05, 0.3), "--fail-above", "0.1").exit_code == 1
    assert command((0.01, 0.0, 0.05, 0.3), "--fail-above", "0.1", "--allow-unscored", "0.4").exit_code == 0


def test_limits_are_refused_before_anything_is_asked(command: Any, tmp_path: Path) -> None:
    for words in (("--fail-above", "2"), ("--fail-above", "nan"), ("--junit", "x.xml"), ("--json", "x.json")):
        done = command((0.0, 0.0, 0.0), *words)
        assert isinstance(done.exception, ConfigError), words
    assert command.asked == []
    (tmp_path / "file").write_text("x")
    done = command((0.0, 0.0, 0.0), "--fail-above", "0.1", "--json", str(tmp_path / "file" / "x.json"))
    assert isinstance(done.exception, ConfigError)
    assert "cannot be written" in str(done.exception)


def test_the_decision_in_python(found: Diagnosed, tmp_path: Path) -> None:
    result = Diagnosis(tmp_path, with_evidence(found, 0.04, 0.02, 0.07), tmp_path / "page.html")
    decided = result.gate(0.1)
    assert isinstance(decided, Gate)
    assert decided.passed
    assert not result.gate(0.05).passed
    assert replace(decided, outcome="above").passed is False


def test_the_page_says_what_the_command_knows() -> None:
    page = (Path(__file__).parents[1] / "docs/how-to/gate.md").read_text(encoding="utf-8")
    command = get_command(app).commands["diagnose"]  # type: ignore[attr-defined]
    known = {name for parameter in command.params for name in parameter.opts}
    lines = re.findall(r"lvlm-va diagnose (.*)", page)
    assert len(lines) == 3
    for line in lines:
        assert set(re.findall(r"--[a-z-]+", line)) <= known, line
    assert set(re.findall(r"`(--[a-z-]+)", page)) <= known
    github, gitlab = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", page, re.DOTALL))
    assert [step["run"] for step in github["jobs"]["gate"]["steps"] if "run" in step][1].startswith("lvlm-va")
    assert gitlab["shortcuts"]["artifacts"]["reports"] == {"junit": "gate.xml"}
