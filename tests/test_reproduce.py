"""Experiments of the catalogue on drawn radiographs with a small perceptron."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import experiments
from experiments import cell as cell_module
from experiments.cell import Cell, flipped
from experiments.description import SIZES, catalogue, read_experiment, scale
from experiments.plan import cells_of, tasks_of
from experiments.preparation import Place
from experiments.reproduce import reproduce, write_page
from lvlm_va.config.loading import load_config
from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import ConfigError, RunError
from lvlm_va.io.console import QuietConsole
from lvlm_va.project.presets import PRESETS, preset
from medical_folder import knee_folder
from servers import chat_server
from test_batch import respond, write

SMALL = (
    "data.size=16", "model.name=mlp", "model.pretrained=null", "model.normalise=none", "model.epochs=1",
    "explain.pictures=8", "explain.segments=2", "explain.baselines=2", "align.epochs=1",
    "evaluate.pictures=6",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return knee_folder(tmp_path_factory.mktemp("data") / "knee")


def run(
    folder: Path, place: Path, *more: str, experiment: str = "fig9", **options: Any
) -> list[dict[str, Any]]:
    options = {"size": "quick", "datasets": ["knee"], **options}
    settings = [*SMALL, f"data.path={folder}", *more]
    out = place / "results"
    reproduce(experiment, out, place / "runs", QuietConsole(), settings=settings, **options)
    return [json.loads(path.read_text()) for path in sorted((out / experiment / "cells").glob("*.json"))]


def test_every_cell_is_there_once_and_is_computed_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(folder, tmp_path)
    names = {cell["cell"] for cell in first}
    assert names == {
        f"knee quick, seed 0, {what}"
        for what in (
            "original", "control", "right reasons, builtin", "right reasons, oracle-verdicts",
            "right reasons, ground-truth-masks", "counterfactual, builtin", "counterfactual, oracle-verdicts",
            "subg", "dfr", "jtt",
        )
    }  # fmt: skip
    cells = {cell["cell"].rpartition("seed 0, ")[2]: cell for cell in first}
    assert cells["control"]["measures"]["lambda"] == 0
    assert cells["right reasons, builtin"]["measures"]["lambda"] > 0
    assert "oracle" in cells["right reasons, oracle-verdicts"]["reads"]
    assert cells["counterfactual, builtin"]["reads"] == cells["original"]["reads"] == ""
    assert "group labels of training" in cells["subg"]["reads"]
    quality = cells["right reasons, oracle-verdicts"]["verdicts"]["quality"]
    assert quality["flagged"] == quality["flagged_right"] == quality["spurious"], "the oracle is never wrong"
    assert cells["right reasons, ground-truth-masks"]["record"]["masks"]["iou"] == 1
    for cell in first:
        assert set(cell["measures"]["groups"]["knee test"]["pictures"].values()) == {100}
        assert str(tmp_path) not in json.dumps(cell), "no path of this machine"
    page = (tmp_path / "results" / "fig9" / "README.md").read_text()
    assert "quick size" in page
    assert not list((tmp_path / "runs").glob("*/cells/*")), "scratch is removed"

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("computed again")

    monkeypatch.setattr(cell_module, "measure", never)
    assert run(folder, tmp_path) == first
    # Another experiment takes over what is the same there.
    with pytest.raises(RunError, match="of 4 cells failed"):
        run(folder, tmp_path, experiment="fig8")
    shared = json.loads((tmp_path / "results/fig8/cells/knee-quick_seed-0_control.json").read_text())
    assert shared == cells["control"]


@pytest.mark.filterwarnings("ignore")  # Dask's own
def test_two_dask_workers_find_what_one_process_finds(folder: Path, tmp_path: Path) -> None:
    here = run(folder, tmp_path / "here", experiment="noise")
    there = run(folder, tmp_path / "there", experiment="noise", engine="dask", workers=2)
    assert len(here) == len(there) == 5
    for ours, theirs in zip(here, there, strict=True):
        assert ours["cell"] == theirs["cell"]
        assert ours["measures"]["groups"] == theirs["measures"]["groups"]
    half = next(cell for cell in here if cell["setting"] == {"flip": 0.5})
    assert half["verdicts"]["quality"]["accuracy"] < 1, (
        "the verdicts in force, not those before they were flipped"
    )


def test_a_failed_cell_is_a_row_and_is_tried_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ConfigError("no such luck")

    monkeypatch.setattr(cell_module.baselines, "dfr", broken)
    with pytest.raises(RunError, match=r"1 of 10 cells failed, the first because: no such luck"):
        run(folder, tmp_path)
    page = tmp_path / "results" / "fig9" / "README.md"
    assert "no such luck" in page.read_text()
    monkeypatch.undo()
    assert not [cell for cell in run(folder, tmp_path) if "failed" in cell]
    text = page.read_text()
    assert "no such luck" not in text
    assert write_page(page.parent).read_text() == text, "pages come from the JSON alone"


def test_missing_pictures_are_told_and_stop_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="10 of 10 cells failed"):
        run(tmp_path / "empty", tmp_path)
    text = (tmp_path / "results" / "fig9" / "README.md").read_text()
    assert "KneeKL224" in text, "what is missing"


def test_settings_and_names_are_checked_before_any_work(tmp_path: Path) -> None:
    def ask(experiment: str = "fig9", **options: Any) -> None:
        reproduce(
            experiment, tmp_path / "out", tmp_path / "runs", QuietConsole(), **{"size": "quick", **options}
        )

    with pytest.raises(ConfigError, match="unknown experiment 'fig99'"):
        ask("fig99")
    with pytest.raises(ConfigError, match="did you mean 'reduced'"):
        ask(size="reducd")
    with pytest.raises(ConfigError, match="--dataset 'elbow'"):
        ask(datasets=["elbow"])
    with pytest.raises(ConfigError, match=r"unknown key 'align\.lamda'"):
        ask(settings=["align.lamda=1"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", catalogue())
def test_every_experiment_can_be_planned_at_every_size(name: str, tmp_path: Path) -> None:
    experiment = read_experiment(name)
    header = (Path(experiments.__file__).parent / "catalogue" / f"{name}.yaml").read_text()
    for word in (f"lvlm-va reproduce {name}", "Cost:", "Expect:"):
        assert word in header
    for size in SIZES:
        cells = cells_of(experiment, size, tmp_path, critics=["openai:gpt-4o"] if name == "table1" else [])
        assert len({cell.name for cell in cells}) == len(cells), "each has a file of its own"
        tasks = tasks_of(cells)
        assert len({task.key for task in tasks}) == len(tasks)
        assert {need for task in tasks for need in task.needs} <= {task.key for task in tasks}
        assert {cell.inputs for cell in cells} <= {task.key for task in tasks}
        seeds = {cell.place.seed for cell in cells}
        assert seeds == set(range(max(scale(d, size).seeds for d in experiment.datasets)))


def test_what_does_not_matter_changes_no_fingerprint(tmp_path: Path) -> None:
    def inputs(method: str, *settings: str, source: str = "") -> str:
        return Cell(Place(tmp_path, "knee", "reduced", 0, settings), method, source).inputs

    assert inputs("original") == inputs("original", "align.lambda=1")
    assert inputs("original") != inputs("original", "model.epochs=1")
    assert inputs("control") == inputs("control", "data.path=elsewhere")
    ways = {
        inputs("both", source=source) for source in ("builtin", "oracle-verdicts", "ground-truth-masks")
    } | {inputs("both", "align.lambda=1", source="builtin"), inputs("right reasons", source="builtin")}
    assert len(ways) == 5


def test_a_larger_share_turns_round_what_a_smaller_one_does() -> None:
    verdicts = [Verdict("a", n, None if n % 10 == 0 else n % 2 == 0, "", "x") for n in range(2000)]
    turned: list[set[int]] = []
    for share in (0.0, 0.1, 0.3, 1.0):
        result = flipped(verdicts, share, seed=3)
        assert [v.spurious is None for v in result] == [v.spurious is None for v in verdicts]
        turned.append({n for n, v in enumerate(result) if v.spurious != verdicts[n].spurious})
        assert len(turned[-1]) == pytest.approx(share * 1800, abs=60)
    assert turned[0] <= turned[1] <= turned[2] <= turned[3]


@pytest.mark.parametrize("dataset", PRESETS)
def test_the_committed_projects_are_projects(dataset: str) -> None:
    assert load_config(preset(dataset)).data.name == dataset


_KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_reproduce import run
if __name__ == "__main__":
    run(Path({folder!r}), Path({place!r}), workers=2)
"""


@pytest.mark.slow
def test_a_killed_process_resumes_without_paying_twice(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        _KILLED.format(tests=str(Path(__file__).parent), folder=str(folder), place=str(tmp_path))
    )
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    cells = tmp_path / "results" / "fig9" / "cells"
    deadline = time.monotonic() + 120
    while len(list(cells.glob("*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    paid = {path.name: path.stat().st_mtime_ns for path in cells.glob("*.json")}
    assert 2 <= len(paid) < 10, "killed in the middle"
    before = {name: json.loads((cells / name).read_text()) for name in paid}
    after = run(folder, tmp_path)
    assert len(after) == 10
    assert not [cell for cell in after if "failed" in cell]
    for name, cell in before.items():
        assert json.loads((cells / name).read_text()) == cell, "its seconds, too: it was not computed again"


CRITIC = "openai:gpt-4o"


def table1(folder: Path, place: Path, **options: Any) -> dict[str, Any]:
    """The cells of the critic, by method."""
    cells = run(folder, place, experiment="table1", critics=[CRITIC], **options)
    return {cell["method"]: cell for cell in cells if cell["source"] == CRITIC}


def test_a_critic_by_file_and_one_online_are_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(RunError, match=r"2 of 7 cells failed, the first because: .*OPENAI_API_KEY"):
        table1(folder, tmp_path)
    answers: list[Path] = []
    for number in range(5):
        round_ = tmp_path / f"round-{number}"
        run(folder, tmp_path, experiment="table1", critics=[CRITIC], imports=answers, export=round_)
        files = sorted(round_.glob("*.jsonl"))
        if not files:
            break
        assert len(files) == 1, "one run"
        responses = [respond(json.loads(line)) for line in files[0].read_text().splitlines()]
        answers = [write(tmp_path / f"answers-{number}.jsonl", responses)]
    assert number == 2, "critiques, judgements, and nothing is left"
    by_file = table1(folder, tmp_path)
    assert by_file["right reasons"]["usd"] > 0
    assert "OPENAI" not in (tmp_path / "results" / "table1" / "README.md").read_text()

    with chat_server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "no secret")
        online = table1(folder, tmp_path / "online")
        assert server.bodies
    for method in ("right reasons", "counterfactual"):
        assert online[method]["verdicts"] == by_file[method]["verdicts"]
        assert online[method]["measures"]["groups"] == by_file[method]["measures"]["groups"]


def test_questions_need_a_critic_and_an_experiment_that_compares_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="need --critic"):
        run(tmp_path, tmp_path, experiment="table1", export=tmp_path / "questions")
    with pytest.raises(ConfigError, match="see table1"):
        run(tmp_path, tmp_path, experiment="noise", critics=[CRITIC], export=tmp_path / "questions")
