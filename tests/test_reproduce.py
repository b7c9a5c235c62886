"""Experiments of the catalogue on drawn radiographs with a small perceptron."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import experiments
from experiments import trial as trial_module
from experiments.__main__ import app
from experiments.description import SIZES, catalogue, read_experiment, scale
from experiments.plan import tasks_of, trials_of
from experiments.reproduce import reproduce, write_page
from experiments.store import TRIALS, read_lines
from experiments.trial import Trial, flipped
from experiments.workspace import Workspace
from lvlm_va.config.loading import load_config
from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import ConfigError, RunError
from lvlm_va.io.console import QuietConsole
from lvlm_va.project.presets import PRESETS, preset
from medical_folder import knee_folder
from patience import wait_until
from servers import chat_server
from test_batch import respond, write

SMALL = (
    "data.size=16", "model.name=mlp", "model.pretrained=null", "model.normalise=none", "model.epochs=1",
    "explain.num_images=8", "explain.segments=2", "explain.baselines=2", "align.epochs=1",
    "evaluate.num_images=6",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return knee_folder(tmp_path_factory.mktemp("data") / "knee")


def run(
    folder: Path, place: Path, *more: str, experiment: str = "baselines", **options: Any
) -> list[dict[str, Any]]:
    options = {"size": "quick", "datasets": ["knee"], **options}
    settings = [*SMALL, f"data.path={folder}", *more]
    out = place / "results"
    reproduce(experiment, out, place / "runs", QuietConsole(), settings=settings, **options)
    return read_lines(out / experiment)


@pytest.mark.slow
def test_every_cell_is_there_once_and_is_computed_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(folder, tmp_path)
    names = {trial["trial"] for trial in first}
    assert names == {
        f"knee quick, seed 0, {what}"
        for what in (
            "original", "control", "right reasons, builtin", "right reasons, oracle-verdicts",
            "right reasons, ground-truth-masks", "counterfactual, builtin", "counterfactual, oracle-verdicts",
            "subg", "dfr", "jtt",
        )
    }  # fmt: skip
    trials = {trial["trial"].rpartition("seed 0, ")[2]: trial for trial in first}
    assert trials["control"]["measures"]["lambda"] == 0
    assert trials["right reasons, builtin"]["measures"]["lambda"] > 0
    carried = trials["right reasons, builtin"]["record"]["original"]
    assert carried["measures"] == trials["original"]["measures"]
    assert carried["weights"] == trials["original"]["record"]["original"]["weights"]
    assert "oracle" in trials["right reasons, oracle-verdicts"]["reads"]
    assert trials["counterfactual, builtin"]["reads"] == trials["original"]["reads"] == ""
    assert "group labels of training" in trials["subg"]["reads"]
    quality = trials["right reasons, oracle-verdicts"]["verdicts"]["quality"]
    assert quality["flagged"] == quality["flagged_right"] == quality["spurious"], "the oracle is never wrong"
    assert trials["right reasons, ground-truth-masks"]["record"]["masks"]["iou"] == 1
    for trial in first:
        assert set(trial["measures"]["groups"]["knee test"]["images"].values()) == {100}
        assert str(tmp_path) not in json.dumps(trial), "no path of this machine"
    page = (tmp_path / "results" / "baselines" / "README.md").read_text()
    assert "quick size" in page
    assert not list((tmp_path / "runs").glob("*/trials/*")), "scratch is removed"

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("computed again")

    monkeypatch.setattr(trial_module, "measure", never)
    assert run(folder, tmp_path) == first
    # Another experiment takes over what is the same there.
    with pytest.raises(RunError, match="of 4 trials failed"):
        run(folder, tmp_path, experiment="terms")
    assert trials["control"] in read_lines(tmp_path / "results/terms")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Dask's own
def test_two_dask_workers_find_what_one_process_finds(folder: Path, tmp_path: Path) -> None:
    here = run(folder, tmp_path / "here", experiment="noise")
    there = run(folder, tmp_path / "there", experiment="noise", engine="dask", workers=2)
    assert len(here) == len(there) == 5
    for ours, theirs in zip(here, there, strict=True):
        assert ours["trial"] == theirs["trial"]
        assert ours["measures"]["groups"] == theirs["measures"]["groups"]
    half = next(trial for trial in here if trial["setting"] == {"flip": 0.5})
    assert half["verdicts"]["quality"]["accuracy"] < 1, (
        "the verdicts in force, not those before they were flipped"
    )


@pytest.mark.slow
def test_settings_that_change_after_training_use_the_same_original_model(
    folder: Path, tmp_path: Path
) -> None:
    trials = run(folder, tmp_path, experiment="as-in-the-paper")
    assert len({json.dumps(t["setting"]) for t in trials}) == 3, (
        "the original, the first and the last variant"
    )
    assert len(list((tmp_path / "runs" / "knee-quick-seed-0").glob("model-*"))) == 1


@pytest.mark.slow
def test_a_failed_cell_is_a_row_and_is_tried_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ConfigError("no such luck")

    monkeypatch.setattr(trial_module.baselines, "dfr", broken)
    with pytest.raises(RunError, match=r"1 of 10 trials failed, the first because: no such luck"):
        run(folder, tmp_path)
    page = tmp_path / "results" / "baselines" / "README.md"
    assert "no such luck" in page.read_text()
    monkeypatch.undo()
    assert not [trial for trial in run(folder, tmp_path) if "failed" in trial]
    text = page.read_text()
    assert "no such luck" not in text
    assert write_page(page.parent).read_text() == text, "pages come from the JSON alone"


def test_missing_images_are_told_and_stop_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="10 of 10 trials failed"):
        run(tmp_path / "empty", tmp_path)
    text = (tmp_path / "results" / "baselines" / "README.md").read_text()
    assert "KneeKL224" in text, "what is missing"


def test_settings_and_names_are_checked_before_any_work(tmp_path: Path) -> None:
    def ask(experiment: str = "baselines", **options: Any) -> None:
        reproduce(
            experiment, tmp_path / "out", tmp_path / "runs", QuietConsole(), **{"size": "quick", **options}
        )

    with pytest.raises(ConfigError, match="unknown experiment 'baselinez'"):
        ask("baselinez")
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
    for word in (f"python -m experiments {name}", "Cost:", "Expect:"):
        assert word in header
    for size in SIZES:
        trials = trials_of(experiment, size, tmp_path, critics=["openai:gpt-4o"] if name == "table1" else [])
        assert len({trial.name for trial in trials}) == len(trials), "each has a line of its own"
        tasks = tasks_of(trials)
        assert len({task.key for task in tasks}) == len(tasks)
        assert {need for task in tasks for need in task.needs} <= {task.key for task in tasks}
        assert {trial.inputs for trial in trials} <= {task.key for task in tasks}
        seeds = {trial.workspace.seed for trial in trials}
        assert seeds == set(range(max(scale(d, size).seeds for d in experiment.datasets)))


def test_what_does_not_matter_changes_no_fingerprint(tmp_path: Path) -> None:
    def inputs(method: str, *settings: str, source: str = "") -> str:
        return Trial(Workspace(tmp_path, "knee", "reduced", 0, settings), method, source).inputs

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


HERE = Path(__file__).parent
_KILLED = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from test_reproduce import run
if __name__ == "__main__":
    run(Path({folder!r}), Path({place!r}), workers=2)
"""


@pytest.mark.slow
def test_a_killed_process_resumes_without_paying_twice(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        _KILLED.format(paths=[str(HERE), str(HERE.parent)], folder=str(folder), place=str(tmp_path))
    )
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    results = tmp_path / "results" / "baselines"
    wait_until(lambda: len(read_lines(results)) >= 2, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = read_lines(results)
    assert 2 <= len(before) < 10, "killed in the middle"
    with (results / TRIALS).open("a") as file:
        file.write('{"trial": "torn')
    after = run(folder, tmp_path)
    assert len(after) == 10
    assert not [trial for trial in after if "failed" in trial]
    assert all(trial in after for trial in before), "their seconds, too: they were not computed again"
    assert len((results / TRIALS).read_text().splitlines()) == 10


@pytest.mark.slow
def test_fewer_questions_count_what_was_asked_and_how_well_the_rest_fared(
    folder: Path, tmp_path: Path
) -> None:
    trials = run(folder, tmp_path, experiment="fewer-questions")
    assert len(trials) == 5
    for trial in (t for t in trials if t["source"] == "oracle-verdicts"):
        asked = trial["record"]["questions"]
        share = trial["setting"]["critique.fraction"]
        assert asked["calls"] == 2 * asked["asked"] == 2 * max(1, round(share * asked["images"]))
        assert asked["usd"] > 0
        if share == 1:
            assert (asked["same"], asked["found"], asked["unscored"]) == (None, None, None)
            assert trial["verdicts"]["quality"]["accuracy"] in (1, None), "everything was asked"
        else:
            assert 0 <= asked["unscored"] <= 1
    page = (tmp_path / "results/fewer-questions/README.md").read_text()
    assert "| calls | USD |" in page


def test_choices_vary_one_setting_at_a_time(tmp_path: Path) -> None:
    trials = trials_of(read_experiment("choices"), "reduced", tmp_path, seeds=1)
    assert [dict(trial.varied) for trial in trials[:3]] == [{}, {}, {"explain.sampling": "balanced"}]
    assert trials[1].workspace.config.explain.sampling == "random"
    assert trials[2].workspace.config.explain.sampling == "balanced"
    assert trials[2].settings == trials[1].settings, "what is varied is said apart"


def test_the_command_line_tells_mistakes_before_any_work(tmp_path: Path) -> None:
    def call(*arguments: str) -> Any:
        return CliRunner().invoke(app, [*arguments, f"--out={tmp_path}"])

    for words, told in (
        (("baselinez",), "unknown experiment 'baselinez'"),
        (("baselines", "--quick", "--size", "full"), "contradict each other"),
        (("baselines", "--size", "qiuck"), "did you mean 'quick'"),
    ):
        error = call(*words).exception
        assert isinstance(error, ConfigError)
        assert told in str(error)
    for words in ((), ("baselines", "--seeds", "0"), ("baselines", "--lambda", "3")):
        assert call(*words).exit_code == 2
    said = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["--help"]).output
    for option in ("EXPERIMENT", "--out", "--runs", "--seeds", "--set", "--size", "--critic", "--import"):
        assert option.lower() in said.lower()
    assert all(name in said for name in catalogue())
    assert not list(tmp_path.iterdir())


CRITIC = "openai:gpt-4o"


def table1(folder: Path, place: Path, **options: Any) -> dict[str, Any]:
    """The trials of the critic, by method."""
    trials = run(folder, place, experiment="table1", critics=[CRITIC], **options)
    return {trial["method"]: trial for trial in trials if trial["source"] == CRITIC}


@pytest.mark.slow
def test_a_critic_by_file_and_one_online_are_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(RunError, match=r"2 of 7 trials failed, the first because: .*OPENAI_API_KEY"):
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
        monkeypatch.setenv("OPENAI_API_KEY", "no-secret")
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
