"""Experiments: cells that resume, tables that say what the JSON says, a choice that never sees the test."""

import errno
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.cells import Cells, header
from experiments.pages.numbers import mean_std
from experiments.tables import table
from lvlm_va.config.loading import load_config
from lvlm_va.errors import DataError, Interrupted, RunError
from lvlm_va.project.presets import preset

HEADER = header("a test", "lvlm-va reproduce test")


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


def test_tables_are_markdown() -> None:
    assert table(["a", "b"], [["1", "2"]]) == ["| a | b |", "| --- | --- |", "| 1 | 2 |"]


def test_the_committed_project_is_a_project() -> None:
    config = load_config(preset("decoy-mnist"))
    assert config.critique.critic == "builtin"
    assert len(config.align.lam) >= 7, "up to the collapse"
    assert list(config.align.lam) == sorted(config.align.lam)
