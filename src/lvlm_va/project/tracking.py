"""A finished run in MLflow, where that is installed and told where to write (MLFLOW_TRACKING_URI).

The settings are logged as parameters, what was measured as metrics; the record, the pages and the weights as
artifacts. The experiment is MLFLOW_EXPERIMENT_NAME, or the project's name. What MLflow refuses is told, and
the run stands.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from lvlm_va._version import __version__
from lvlm_va.errors import Interrupted
from lvlm_va.io.console import QuietConsole
from lvlm_va.io.redaction import one_line
from lvlm_va.report.words import mean_defined
from lvlm_va.run.diagnosed import Diagnosed
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import ALIGNED_WEIGHTS, DIAGNOSIS, METRICS, ORIGINAL, VERDICTS
from lvlm_va.run.metrics import Measured, ModelMetrics

__all__ = ["log_run"]

LOGGED = "mlflow.json"
"""In the run: what was logged, and as which run of MLflow, so that a repeated command logs nothing twice."""

_LONGEST = 500  # characters of a parameter; older servers take no more
_FILES = (METRICS, DIAGNOSIS, VERDICTS, "report.html", "diagnosis.html")


def log_run(run: RunDirectory, measured: Measured, console: QuietConsole) -> None:
    """Log a finished run, once; does nothing where MLFLOW_TRACKING_URI is not set.

    Args:
        run: whose files are logged.
        measured: by `align` or `diagnose`.
        console: told where it was logged, or why not.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        return
    try:
        client = import_module("mlflow").MlflowClient()
    except ImportError:
        console.note(
            "MLFLOW_TRACKING_URI is set, but MLflow is not installed, so nothing was logged there: "
            "pip install 'lvlm-va[mlflow]', and run the same command again"
        )
        return
    except Exception as error:  # noqa: BLE001 -- somebody else's program, after the work is done
        console.note(_refused(error))
        return
    name = DIAGNOSIS if isinstance(measured, Diagnosed) else METRICS
    content = hashlib.sha256(run.file(name).read_bytes()).hexdigest()
    if _known(run.file(LOGGED)).get(name) == content:
        return
    try:
        run_id = _log(client, run, measured)
    except (Interrupted, KeyboardInterrupt):
        raise
    except Exception as error:  # noqa: BLE001 -- likewise
        console.note(_refused(error))
        return
    logged = _known(run.file(LOGGED)) | {name: content, "run_id": run_id}
    run.write(LOGGED, (json.dumps(logged, indent=2) + "\n").encode())
    console.note(f"Logged to MLflow as run {run_id}.")


def _log(client: Any, run: RunDirectory, measured: Measured) -> str:
    """The id of the MLflow run."""
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or run.settings.project
    found = client.get_experiment_by_name(experiment)
    experiment_id = client.create_experiment(experiment) if found is None else found.experiment_id
    tags = {"lvlm_va": __version__, "critic": measured.verdicts.critic, "data": measured.data.name}
    made = client.create_run(experiment_id, tags=tags, run_name=run.path.resolve().name)
    run_id = str(made.info.run_id)
    try:
        for key, value in _flat(run.config):
            client.log_param(run_id, _key(key), value[:_LONGEST])
        for key, number in _metrics(measured):
            client.log_metric(run_id, _key(key), number)
        for name in _FILES:
            if run.file(name).exists():
                client.log_artifact(run_id, str(run.file(name)))
        if not isinstance(measured, Diagnosed) and run.file(ALIGNED_WEIGHTS).exists():
            client.log_artifact(run_id, str(run.file(ALIGNED_WEIGHTS)), "model")
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")
    return run_id


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Pairs of "section.key" and value, as the project file would write it; what is not set is left out."""
    for key, value in document.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)


def _metrics(measured: Measured) -> Iterator[tuple[str, float]]:
    """What is compared from run to run; what is undefined is left out."""
    for name, model in measured.models.items():
        label = name.partition(" (")[0].replace(" ", "_")
        for test, accuracy in model.accuracy.items():
            yield f"{label}/accuracy/{test}", accuracy
        if measured.data.several_labels:
            yield from _by_label(label, model)
        for test, groups in model.groups.items():
            yield f"{label}/AGA/{test}", groups.average
            yield f"{label}/WGA/{test}", groups.worst
        if model.mu_align is not None and model.mu_align.mean is not None:
            yield f"{label}/mu_align", model.mu_align.mean
        if model.sensitivity is not None and model.sensitivity.rate is not None:
            yield f"{label}/confounder_sensitivity", model.sensitivity.rate
        if name != ORIGINAL:
            yield f"{label}/lambda", model.lam
    verdicts = measured.verdicts
    for name in ("segments", "spurious", "valid", "unscored"):
        yield f"verdicts/{name}", float(getattr(verdicts, name))
    if isinstance(measured, Diagnosed):
        yield "evidence/condemned", measured.evidence.condemned
        yield "evidence/unscored", measured.evidence.unscored
    yield "seconds", sum(stage.seconds for stage in measured.costs.stages)
    yield "usd", sum(question.usd for question in measured.costs.questions)


def _by_label(name: str, model: ModelMetrics) -> Iterator[tuple[str, float]]:
    for measure in ("accuracy_by_label", "auroc", "average_precision"):
        for test, of in getattr(model, measure).items():
            if (mean := mean_defined(of.values())) is not None and measure != "accuracy_by_label":
                yield f"{name}/{measure}/{test}", mean
            for label, value in of.items():
                if value is not None:
                    yield f"{name}/{measure}/{test}/{label}", value


def _key(key: str) -> str:
    """A name as MLflow takes it: letters, digits and `_ - . /` and spaces."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-. /") else "_" for c in key)[:250]


def _known(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _refused(error: Exception) -> str:
    return f"WARNING: MLflow did not take the run ({one_line(str(error))}); the run itself is finished"
