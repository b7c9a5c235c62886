"""Experiments: cells that resume, tables that say what the JSON says, a choice that never sees the test."""

import errno
import json
import random
import re
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import small
from lvlm_va import project
from lvlm_va.config import load_config
from lvlm_va.console import QuietConsole
from lvlm_va.errors import DataError, Interrupted, RunError
from lvlm_va.experiments.cells import Cells, header
from lvlm_va.experiments.decoy_mnist import ARMS, DECOY_MNIST, reproduce_decoy_mnist
from lvlm_va.experiments.figure5 import figure5
from lvlm_va.experiments.tables import best_by_validation, headline, markdown, mean_std, table
from lvlm_va.stages import alignment

HEADER = header("a test", "lvlm-va reproduce test", arms=ARMS)
TESTS = ("DecoyMNIST test", "clean MNIST test")


def cell(arm: str, seed: int, lam: float, chance: random.Random) -> dict[str, Any]:
    """One result with values of full precision."""
    return {
        "cell": f"seed {seed}, {arm}, λ = {lam:g}",
        "inputs": "x",
        "seed": seed,
        "arm": arm,
        "lambda": lam,
        "validation": chance.random(),
        "accuracy": {test: chance.random() for test in TESTS},
        "mu_align": {"mean": chance.random(), "std": 0.1, "n": 10, "undefined": 0},
    }


def sweep(
    seed: int = 0, seeds: int = 3, lambdas: tuple[float, ...] = (0.001, 0.01, 0.1)
) -> list[dict[str, Any]]:
    """A whole experiment, made up."""
    chance = random.Random(seed)
    results = [cell("unaligned", s, 0.0, chance) for s in range(seeds)]
    for s in range(seeds):
        results += [cell(arm, s, lam, chance) for arm in ARMS if arm != "unaligned" for lam in lambdas]
        for arm in ("builtin", "oracle-verdicts"):
            quality = {"accuracy": chance.random(), "recall": chance.random()}
            report = {"segments": 700 + s, "spurious": 300, "unscored": s, "quality": quality}
            results.append(
                {"cell": f"seed {s}, verdicts of {arm}", "seed": s, "verdicts_of": arm, "verdicts": report}
            )
    return results


def test_cells_resume(tmp_path: Path) -> None:
    path, calls = tmp_path / "results.json", []

    def compute(name: str) -> dict[str, Any]:
        calls.append(name)
        return {"value": len(calls)}

    first = Cells(path, HEADER)
    assert first.cell("b", "i", lambda: compute("b"))["value"] == 1
    assert first.cell("b", "i", lambda: compute("b"))["value"] == 1
    later = Cells(path, HEADER)
    assert later.cell("b", "i", lambda: compute("b"))["value"] == 1
    assert later.cell("a", "i", lambda: compute("a")) == {"cell": "a", "inputs": "i", "value": 2}
    assert later.cell("b", "other inputs", lambda: compute("b"))["value"] == 3
    assert calls == ["b", "a", "b"]
    document = json.loads(path.read_text())
    assert [c["cell"] for c in document["cells"]] == ["a", "b"], "the same order whatever came first"
    assert {key: value for key, value in document.items() if key != "cells"} == HEADER


def test_a_failed_cell_is_a_row_and_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "results.json"

    def fail() -> dict[str, Any]:
        raise DataError("the pictures are gone")

    assert Cells(path, HEADER).cell("a", "i", fail)["failed"] == "the pictures are gone"
    assert json.loads(path.read_text())["cells"] == [
        {"cell": "a", "inputs": "i", "failed": "the pictures are gone"}
    ]
    assert "| a | the pictures are gone |" in markdown(HEADER, json.loads(path.read_text())["cells"])
    assert Cells(path, HEADER).cell("a", "i", lambda: {"value": 1}) == {
        "cell": "a",
        "inputs": "i",
        "value": 1,
    }
    assert "failed" not in path.read_text()


def test_an_interruption_is_no_failure(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for kind in (Interrupted, KeyboardInterrupt, ZeroDivisionError):

        def stop(kind: type[BaseException] = kind) -> dict[str, Any]:
            raise kind("stop")

        with pytest.raises(kind):
            Cells(path, HEADER).cell("a", "i", stop)
    assert not path.exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"cells": [{}]}', '{"cells": 3}', "\x00"])
def test_results_that_cannot_be_read_are_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(RunError, match=r"results\.json: cannot be read.*move it away"):
        Cells(path, HEADER)
    assert path.read_text() == content


def test_a_full_disk_keeps_the_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    cells = Cells(path, HEADER)
    cells.cell("a", "i", lambda: {"value": 1})
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="the disk is full"):
        cells.cell("b", "i", lambda: {"value": 1})
    assert path.read_bytes() == before


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


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), shuffle=st.integers(0, 100))
def test_the_choice_never_looks_at_the_test(seed: int, shuffle: int) -> None:
    results = sweep(seed)
    chance = random.Random(shuffle)
    blinded = [dict(result) for result in results]
    for result in blinded:
        if "arm" in result:
            result["accuracy"] = {test: chance.random() for test in TESTS}
            result["mu_align"] = {"mean": chance.random()}
    chance.shuffle(blinded)
    for arm in ARMS:
        chosen = {c["seed"]: c["lambda"] for c in best_by_validation(results, arm)}
        assert chosen == {c["seed"]: c["lambda"] for c in best_by_validation(blinded, arm)}
        for s, lam in chosen.items():
            of_seed = [c for c in results if c.get("arm") == arm and c["seed"] == s]
            assert max(of_seed, key=lambda c: c["validation"])["lambda"] == lam


def test_of_equals_the_smaller_lambda() -> None:
    chance = random.Random(0)
    cells = [{**cell("builtin", 0, lam, chance), "validation": 0.9} for lam in (0.1, 0.001, 0.01)]
    (best,) = best_by_validation(cells, "builtin")
    assert best["lambda"] == 0.001


def rows(text: str, heading: str) -> dict[str, list[str]]:
    """First column → the other columns of the table under a heading."""
    section = text.partition(f"{heading}\n")[2].partition("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][2:]
    return {
        cells[0]: cells[1:] for cells in ([c.strip() for c in line.strip("|").split("|")] for line in lines)
    }


def said(values: list[float]) -> str:
    """`mean_std` from the standard library's words."""
    return f"{mean(values):.3f} ± {stdev(values):.3f} (n = {len(values)})"


def test_the_page_says_what_the_json_says(tmp_path: Path) -> None:
    results = sweep(4)
    text = markdown(HEADER, json.loads(json.dumps(results)))
    top = rows(text, "## At the λ that the validation set chooses, seed by seed")
    assert list(top) == list(ARMS.values())
    for arm, name in ARMS.items():
        chosen = [
            max((c for c in results if c.get("arm") == arm and c["seed"] == s), key=lambda c: c["validation"])
            for s in range(3)
        ]
        expected = [said([c["accuracy"][test] for c in chosen]) for test in TESTS]
        expected.append(said([c["mu_align"]["mean"] for c in chosen]))
        assert top[name][:3] == expected
        if arm != "unaligned":
            assert sorted(top[name][3].split(", ")) == sorted(f"{c['lambda']:g}" for c in chosen)
            every = rows(text, f"### {name}")
            assert list(every) == ["0.001", "0.01", "0.1"]
            swept = [c for c in results if c.get("arm") == arm and c["lambda"] == 0.01]
            assert every["0.01"][1] == said([c["accuracy"][TESTS[1]] for c in swept])
    verdicts = rows(text, "## Verdicts")
    reports = [r["verdicts"] for r in results if r.get("verdicts_of") == "builtin"]
    assert verdicts[ARMS["builtin"]] == [
        "2103",
        "900",
        "3",
        said([r["quality"]["accuracy"] for r in reports]),
        said([r["quality"]["recall"] for r in reports]),
    ]
    assert f"`{HEADER['command']}`" in text
    assert "Failed cells" not in text
    assert headline(HEADER, results) == [
        line for line in text.partition("## Verdicts")[0].splitlines() if line.startswith("|")
    ]


def test_what_reads_the_ground_truth_is_called_an_oracle() -> None:
    for arm, name in ARMS.items():
        assert ("oracle" in name) == (arm in ("oracle-verdicts", "ground-truth-masks"))
    assert "not an LVLM" in ARMS["builtin"]


def test_nothing_but_failures_still_makes_a_page() -> None:
    text = markdown(HEADER, [{"cell": "a", "inputs": "i", "failed": "no"}])
    assert "| a | no |" in text


def test_tables_are_markdown() -> None:
    assert table(["a", "b"], [["1", "2"]]) == ["| a | b |", "| --- | --- |", "| 1 | 2 |"]


def test_figure_5_is_deterministic_and_complete() -> None:
    results = sweep(1)
    svg = figure5(results)
    assert svg == figure5(results)
    assert svg == figure5([*results, {"cell": "a", "inputs": "i", "failed": "no"}]), "failures are not drawn"
    text = svg.decode()
    for label in (
        "built-in critic (not an LVLM)",
        "oracle verdicts",
        "ground-truth masks (oracle)",
        "unaligned",
    ):
        assert label in text
    assert "μ_align" in text
    assert "<dc:date>" not in text, "no time stamp"
    moved = [dict(r) for r in results]
    first = next(r for r in moved if r.get("arm") == "builtin")
    first["accuracy"] = {test: 0.01 for test in TESTS}
    assert figure5(moved) != svg


def test_the_committed_project_is_a_project() -> None:
    config = load_config(DECOY_MNIST)
    assert config.critique.critic == "builtin"
    assert len(config.align.lam) >= 7, "up to the collapse"
    assert list(config.align.lam) == sorted(config.align.lam)


def test_the_sweep_resumes_on_the_small_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "load_splits", lambda config, *, log: small.splits())
    (tmp_path / "classes.yaml").write_text(yaml.safe_dump(small.SPECIFICATIONS))
    given = small.settings(model__epochs=2, explain__pictures=12, align__epochs=1, critique__critic="builtin")
    given |= {"align.lambda": [0.01, 0.1], "specifications": str(tmp_path / "classes.yaml")}
    texts = [f"{key}={value}" for key, value in given.items()]

    def reproduce(*more: str) -> tuple[dict[str, Any], Path]:
        page = reproduce_decoy_mnist(tmp_path, tmp_path / "runs", 1, [*texts, *more], QuietConsole(), "again")
        return json.loads((page.parent / "results.json").read_text()), page

    document, page = reproduce()
    names = [c["cell"] for c in document["cells"]]
    arms = [arm for arm in ARMS if arm != "unaligned"]
    swept = {f"seed 0, {arm}, λ = {lam:g}" for arm in arms for lam in (0.01, 0.1)}
    assert set(names) == swept | {
        f"seed 0, {x}" for x in ("unaligned", "verdicts of builtin", "verdicts of oracle-verdicts")
    }
    assert not [c for c in document["cells"] if "failed" in c]
    files = {name: (page.parent / name).read_bytes() for name in ("results.json", "README.md", "fig5.svg")}

    fitted: list[float] = []
    fine_tune = alignment.fine_tune

    def watched(*arguments: Any, **more: Any) -> Any:
        fitted.append(arguments[3].lam)
        return fine_tune(*arguments, **more)

    monkeypatch.setattr(alignment, "fine_tune", watched)
    reproduce()
    assert fitted == []
    assert files == {name: (page.parent / name).read_bytes() for name in files}
    reproduce("align.lambda=[0.01, 0.1, 1]")
    assert fitted == [1.0] * 3, "only what is missing"
