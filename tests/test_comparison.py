"""The table of what accuracy does not say, and its place in the pages."""

import json
from pathlib import Path
from typing import Any

from lvlm_va.evaluate.sensitivity import Flips, Sensitivity
from lvlm_va.report import write
from lvlm_va.report.comparison import dependence_table
from lvlm_va.run.metrics import SensitivityMetrics
from report_run import make_run, metrics, record

TEST = "decoy $test$"


def flips(n: int, flipped: int) -> Flips:
    return Flips(images=n, flipped=flipped, probability=0.0, absolute=0.0, classes={})


def measured() -> dict[str, Any]:
    """A run of three models, of which all of it was measured."""
    content = metrics()
    amounts = ((0.2501, 0.9203, 300, 150), (0.1202, 0.9404, 45, 12), (0.0503, 0.9505, 6, 3))
    for model, (ece, weighted, added, removed) in zip(content["models"].values(), amounts, strict=True):
        model["ece"] = dict.fromkeys(content["data"]["tests"], ece)
        model["training_weighted"] = {TEST: weighted}
        known = Sensitivity(flips(600, added), flips(300, removed), cannot_add=0, cannot_remove=66)
        model["sensitivity"] = SensitivityMetrics.model_validate(known).model_dump(mode="json")
    return content


def test_every_measure_before_and_after() -> None:
    table = dependence_table(record(measured()))
    assert table is not None
    assert table.head == (
        "measure", "images", "before", "after", "Δ, points",
        "after, ground-truth masks (oracle)", "Δ, points",
    )  # fmt: skip
    cells = {row[0]: [cell.replace("\u202f%", "") for cell in row[1:]] for row in table.rows}
    assert cells == {
        "calibration error (ECE)": ["666", "25.0", "12.0", "−13.0", "5.0", "−20.0"],
        "accuracy, groups weighted as in training": ["666", "92.0", "94.0", "+2.0", "95.0", "+3.0"],
        "predictions that flip when the planted feature is put in": [
            "600", "50.0", "7.5", "−42.5", "1.0", "−49.0",
        ],
        "predictions that flip when the planted feature is taken out": [
            "300", "50.0", "4.0", "−46.0", "1.0", "−49.0",
        ],
    }  # fmt: skip
    assert "Planted feature: a grey patch; from 66 images it cannot be taken out exactly." in table.caption


def test_what_was_not_measured_has_no_row() -> None:
    content = measured()
    for model in content["models"].values():
        model["training_weighted"] = {}
        model["sensitivity"] = None
    table = dependence_table(record(content))
    assert table is not None
    assert [row[0] for row in table.rows] == ["calibration error (ECE)"]
    assert table.caption == f"{TEST}: what accuracy does not say."
    only = content | {"models": {"original": content["models"]["original"]}}
    alone = dependence_table(record(only))
    assert alone is not None
    assert alone.head == ("measure", "images", "share")
    assert dependence_table(record(content | {"data": content["data"] | {"tests": {}}})) is None


def test_the_page_has_it_where_it_was_measured(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    said = ("what accuracy does not say", "Expected calibration error", "Confounder sensitivity")
    run.write("metrics.json", json.dumps(measured()).encode())
    page = write.write_report(run).read_text(encoding="utf-8")
    assert all(words in page for words in said)
