"""The medical experiments on drawn radiographs with a small perceptron: cells, resumption, tables, figure."""

import json
from pathlib import Path
from typing import Any

import pytest

from lvlm_va.console import QuietConsole
from lvlm_va.errors import ConfigError
from lvlm_va.experiments import medical
from lvlm_va.experiments.medical import ARMS, Arm, reproduce_medical
from lvlm_va.experiments.medical_tables import figure8, gains, headline, markdown
from medical_folder import knee_folder

SMALL = [
    "data.size=16", "model.name=mlp", "model.pretrained=null", "model.normalise=none", "model.epochs=1",
    "explain.pictures=8", "explain.segments=2", "explain.baselines=2", "align.epochs=1",
    "evaluate.pictures=6",
]  # fmt: skip
CHOSEN = (Arm("control", "oracle-verdicts"), Arm("both", "ground-truth-masks"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return knee_folder(tmp_path_factory.mktemp("data") / "knee")


def run(folder: Path, place: Path, *more: str, arms: tuple[Arm, ...] = CHOSEN) -> dict[str, Any]:
    settings = [*SMALL, f"data.path={folder}", *more]
    reproduce_medical(
        "knee", "reduced", place, place / "runs", 1, settings, QuietConsole(), "lvlm-va reproduce knee", arms
    )
    return json.loads((place / "knee-reduced" / "results.json").read_text())


def test_every_cell_is_there_once_and_is_computed_once(folder: Path, tmp_path: Path, monkeypatch) -> None:
    first = run(folder, tmp_path)
    names = [cell["cell"] for cell in first["cells"]]
    assert names == sorted(names)
    assert set(names) == {
        "seed 0, original", "seed 0, control", "seed 0, both, ground-truth-masks",
        "seed 0, verdicts of builtin", "seed 0, verdicts of oracle-verdicts",
    }  # fmt: skip
    cells = {cell["cell"]: cell for cell in first["cells"]}
    aligned = cells["seed 0, both, ground-truth-masks"]
    assert aligned["lambda"] > 0
    assert cells["seed 0, control"]["lambda"] == 0
    assert len(aligned["epochs"]) == 1
    assert set(aligned["groups"]["knee test"]["pictures"].values()) == {100}
    quality = cells["seed 0, verdicts of oracle-verdicts"]["verdicts"]["quality"]
    assert quality["flagged"] == quality["flagged_right"] == quality["spurious"], "the oracle is never wrong"
    assert "random" in cells["seed 0, original"]["weights"]
    page = (tmp_path / "knee-reduced" / "README.md").read_text()
    assert "reduced size" in page.lower()
    assert "ground-truth masks (oracle)" in page
    assert (tmp_path / "knee-reduced" / "fig8.svg").read_bytes().startswith(b"<?xml")

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("computed again")

    monkeypatch.setattr(medical, "align_with", never)
    monkeypatch.setattr(medical, "measure", never)
    assert run(folder, tmp_path) == first


def test_names_are_checked() -> None:
    def ask(what: str, size: str) -> None:
        reproduce_medical(what, size, Path(), Path(), 1, [], QuietConsole(), "")

    with pytest.raises(ConfigError, match="unknown experiment 'elbow'; known are knee, skin"):
        ask("elbow", "full")
    with pytest.raises(ConfigError, match="did you mean 'reduced'"):
        ask("knee", "reducd")


def test_the_arms_compare_terms_at_equal_verdicts() -> None:
    by_source: dict[str, set[str]] = {}
    for arm in ARMS:
        by_source.setdefault(arm.source, set()).add(arm.term)
    assert by_source["oracle-verdicts"] == {"control", "right reasons", "counterfactual", "both"}
    assert len({arm.name for arm in ARMS}) == len(ARMS)


def made(seed: int, arm: str, average: float, worst: float) -> dict[str, Any]:
    groups = {"average": average, "worst": worst, "accuracy": {"a": worst}, "pictures": {"a": 4}}
    standing = {"accuracy": 0.5, "verdicts": None, "groups": None}
    return {
        "cell": f"{seed} {arm}", "seed": seed, "arm": arm, "term": arm, "source": "", "seconds": 2.0,
        "groups": {"test": groups}, "accuracy": {"test": average, "other": 0.25}, "mu_align": None,
        "standing": standing,
    }  # fmt: skip


def test_gains_are_paired_by_seed() -> None:
    cells = [
        made(0, "original", 0.8, 0.5), made(1, "original", 0.6, 0.1),
        made(1, "control", 0.7, 0.4), made(0, "control", 0.8, 0.6), made(2, "control", 0.9, 0.9),
    ]  # fmt: skip
    assert gains(cells, "control", "worst") == [pytest.approx(0.3), pytest.approx(0.1)], (
        "seed 2 has no partner"
    )
    header = {
        "experiment": "Knee", "command": "c", "versions": {}, "machine": "m", "reduced": [], "sources": {},
    }  # fmt: skip
    page = markdown(header, [*cells, {"cell": "lost", "failed": "no memory"}])
    assert "+0.200 ± 0.141 (n = 2)" in page
    assert "no memory" in page
    assert "| control | 0.250 ± 0.000 (n = 3) |" in page
    assert figure8(header, cells) == figure8(header, cells[::-1])
    order = [line.split(" | ")[0] for line in headline(header, cells[::-1])[2:]]
    assert order == ["| original", "| control"], "in whatever order they were computed"
