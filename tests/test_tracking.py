"""Finished runs in MLflow: a fake client that keeps what it is told, and the real one where it is there."""

import json
import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from lvlm_va.io.console import QuietConsole
from lvlm_va.project import tracking
from lvlm_va.project.tracking import log_run
from lvlm_va.report.diagnosis import write_diagnosis
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.metrics import Measured
from report_run import encode, make_run, metrics, record, with_groups


class Heard(QuietConsole):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


class FakeClient:
    """What MlflowClient is asked for here; class attributes, since every call makes a client."""

    runs: dict[str, dict[str, Any]]
    experiments: dict[str, str]
    trouble: Exception | None = None

    def get_experiment_by_name(self, name: str) -> Any:
        found = self.experiments.get(name)
        return None if found is None else SimpleNamespace(experiment_id=found)

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, str(len(self.experiments)))

    def create_run(self, experiment_id: str, *, tags: dict[str, str], run_name: str) -> Any:
        run_id = f"r{len(self.runs)}"
        self.runs[run_id] = {"experiment": experiment_id, "tags": tags, "name": run_name, "status": "RUNNING"}
        self.runs[run_id] |= {"params": {}, "metrics": {}, "artifacts": {}}
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def log_param(self, run_id: str, key: str, value: str) -> None:
        assert key not in self.runs[run_id]["params"]
        self.runs[run_id]["params"][key] = value

    def log_metric(self, run_id: str, key: str, value: float) -> None:
        assert key not in self.runs[run_id]["metrics"]
        self.runs[run_id]["metrics"][key] = value

    def log_artifact(self, run_id: str, path: str, folder: str = "") -> None:
        if self.trouble is not None:
            raise self.trouble
        self.runs[run_id]["artifacts"][f"{folder}/{Path(path).name}".lstrip("/")] = Path(path).read_bytes()

    def set_terminated(self, run_id: str, status: str) -> None:
        self.runs[run_id]["status"] = status


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeClient]:
    class Client(FakeClient):
        pass

    Client.runs, Client.experiments = {}, {}
    module = ModuleType("mlflow")
    module.MlflowClient = Client  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:word@example.org")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return Client


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    path = make_run(tmp_path / "mine").path
    (path / "report.html").write_text("<p>a report")
    (path / "aligned.safetensors").write_bytes(b"weights")
    return RunDirectory.read(path)


def log(run: RunDirectory, measured: Any, console: Heard) -> None:
    with RunDirectory.open(run.path) as opened:
        log_run(opened, measured, console)


def test_parameters_metrics_model_and_report_are_logged_once(
    run: RunDirectory, fake: type[FakeClient]
) -> None:
    heard, measured = Heard(), record(with_groups())
    log(run, measured, heard)
    (one,) = fake.runs.values()
    assert (one["status"], one["name"], fake.experiments) == ("FINISHED", "mine", {"tiny": "0"})
    assert one["params"]["align.lambda"] == "[0.01, 0.1]"
    assert one["params"]["align.mask"] == "segment"
    aligned = measured.models["aligned"]
    test = next(iter(aligned.accuracy))
    logged = {key: value for key, value in one["metrics"].items() if key.startswith("aligned/")}
    assert logged["aligned/accuracy/decoy _test_"] == aligned.accuracy[test]
    assert logged["aligned/WGA/decoy _test_"] == aligned.groups[test].worst
    assert logged["aligned/lambda"] == 0.01
    assert logged["aligned/mu_align"] == 0.9512
    assert one["metrics"]["verdicts/spurious"] == 2
    artifacts = one["artifacts"]
    assert set(artifacts) == {"metrics.json", "verdicts.csv", "report.html", "model/aligned.safetensors"}
    assert artifacts["metrics.json"] == run.file("metrics.json").read_bytes()
    log(run, measured, heard)
    assert len(fake.runs) == 1, "nothing changed, so nothing is logged again"
    run.file("metrics.json").write_text(run.file("metrics.json").read_text() + "\n")
    log(run, measured, heard)
    assert list(fake.runs) == ["r0", "r1"]
    assert heard.lines == ["Logged to MLflow as run r0.", "Logged to MLflow as run r1."]
    assert "word" not in run.file("mlflow.json").read_text()


def test_a_diagnosis_is_logged_without_a_model(
    run: RunDirectory, fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lvlm_va.report.diagnosis.encode", encode)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    content = {name: part for name, part in metrics().items() if name != "lambda"}
    content["models"] = {"original": content["models"]["original"]}
    with RunDirectory.open(run.path) as opened:
        found, _ = write_diagnosis(opened, Measured.model_validate(content))
        log_run(opened, found, Heard())
    (one,) = fake.runs.values()
    assert one["metrics"]["evidence/condemned"] == found.evidence.condemned
    assert "model/aligned.safetensors" not in one["artifacts"]
    assert {"diagnosis.json", "diagnosis.html"} <= set(one["artifacts"])
    assert list(fake.experiments) == ["ours"]


def test_what_mlflow_refuses_is_told_and_the_run_stands(run: RunDirectory, fake: type[FakeClient]) -> None:
    heard = Heard()
    fake.trouble = OSError("http://user:word@example.org: refused\nand more")
    log(run, record(metrics()), heard)
    assert fake.runs["r0"]["status"] == "FAILED"
    (line,) = heard.lines
    assert line.startswith("WARNING: MLflow did not take the run (")
    assert "\n" not in line
    fake.trouble = None
    log(run, record(metrics()), heard)
    assert fake.runs["r1"]["status"] == "FINISHED", "what failed is tried again"


def test_nothing_happens_without_an_address_and_a_missing_mlflow_is_told(
    run: RunDirectory, fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = Heard()
    monkeypatch.setitem(sys.modules, "mlflow", None)
    log(run, record(metrics()), heard)
    assert "pip install 'lvlm-va[mlflow]'" in heard.lines[0]
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setattr(tracking, "import_module", lambda name: pytest.fail("it was imported"))
    log(run, record(metrics()), heard)
    assert len(heard.lines) == 1


@pytest.mark.filterwarnings("ignore")
def test_the_real_file_store_gives_back_what_was_logged(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow = pytest.importorskip("mlflow")
    address = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # newer ones ask for a database
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    heard, measured = Heard(), record(with_groups())
    log(run, measured, heard)
    assert heard.lines[0].startswith("Logged to MLflow"), heard.lines
    client = mlflow.MlflowClient(tracking_uri=address)
    run_id = json.loads(run.file("mlflow.json").read_text())["run_id"]
    found = client.get_run(run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params["align.counterfactual"] == "0.0"
    assert found.data.metrics["aligned/mu_align"] == 0.9512
    names = {one.path for one in client.list_artifacts(run_id)}
    assert {"model", "report.html", "metrics.json"} <= names
