"""The ways in from Python, `lvlm_va.align` and its first half, `lvlm_va.diagnose`."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lvlm_va.config.loading import Config, override, parse_config
from lvlm_va.console import Console, QuietConsole
from lvlm_va.critique.review import Panel
from lvlm_va.critique.specification import load_specifications
from lvlm_va.critique.verdict import Verdict
from lvlm_va.data.imageset import ImageSet
from lvlm_va.data.splits import Splits
from lvlm_va.models.adapter import Adapted, in_full_precision, unwrapped
from lvlm_va.models.checkpoint import load_checkpoint
from lvlm_va.models.copying import copied
from lvlm_va.models.parts import check_parts
from lvlm_va.project.opening import choose_device, open_project, opened_run
from lvlm_va.project.pipeline import run_diagnosis, run_pipeline
from lvlm_va.project.stages.context import Context, Project
from lvlm_va.project.stages.helping import led
from lvlm_va.project.stages.verdicts import VERDICTS, make_panel
from lvlm_va.report.diagnosis import write_diagnosis
from lvlm_va.report.summary import diagnosis_table
from lvlm_va.report.write import write_report
from lvlm_va.run.verdict_table import read_verdicts
from lvlm_va.training.process_group import launched_crew

__all__ = ["Diagnosis", "Run", "align", "align_project", "diagnose", "diagnose_project"]


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        path: its directory.
        metrics: what metrics.json says.
        model: the aligned model, in evaluation mode: the caller's own kind of module, which wants what that
            wanted (float32 where that was in half precision); None when the run was made from a project file.
        report: the HTML page.
    """

    path: Path
    metrics: Mapping[str, Any]
    model: nn.Module | None
    report: Path

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts in force."""
        return read_verdicts(self.path / VERDICTS)


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What a classifier relies on.

    Attributes:
        path: the directory of the run.
        findings: what diagnosis.json says: `grounds`, ranked, and how sure one can be of them.
        page: the HTML page.
    """

    path: Path
    findings: Mapping[str, Any]
    page: Path

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts in force."""
        return read_verdicts(self.path / VERDICTS)

    def __str__(self) -> str:
        return diagnosis_table(self.findings)


def align(
    model: nn.Module,
    data: ImageSet | Splits,
    specifications: str | Path | Mapping[str, Any],
    *,
    critic: str = "builtin",
    run: str | Path = "runs/run",
    settings: Mapping[str, Any] | None = None,
    trained: bool = True,
    quiet: bool = False,
) -> Run:
    """Align a classifier with class specifications.

    Args:
        model: any module from (n, C, H, W) float32 pictures to (n, K) logits, alone or in a tuple, a mapping
            or an object with `.logits`; it is not changed. Pictures are in [0, 1]; where the model wants
            them normalised, say so with settings={"model.normalise": "imagenet"} (or its numbers).
        data: the training set, or `Splits` with validation and test sets too.
        specifications: a YAML file, or the same as a mapping, see `load_specifications`.
        critic: who answers: "builtin", "openai:<model>", "hf:<model>", "ground-truth".
        run: the run's directory. The same call on the same directory resumes.
        settings: any key of a project file, e.g. {"explain.pictures": 64, "align.lambda": [0.01, 0.1]}.
        trained: False if the model is still to be trained, as `model.epochs` etc. say.
        quiet: no progress on standard error.

    Raises:
        LvlmVaError: what is wrong and what to do.
    """
    arguments = (model, data, specifications, critic, Path(run), settings or {}, trained)
    with _opened(*arguments, quiet=quiet) as (context, panel):
        metrics = run_pipeline(context, panel)
        report = write_report(context.run)
        aligned = copied(unwrapped(context.project.model))
        load_checkpoint(aligned, context.run.file("aligned.safetensors"))
        return Run(context.run.path, metrics, aligned.eval(), report)


def diagnose(
    model: nn.Module,
    data: ImageSet | Splits,
    specifications: str | Path | Mapping[str, Any],
    *,
    critic: str = "builtin",
    run: str | Path = "runs/run",
    settings: Mapping[str, Any] | None = None,
    trained: bool = True,
    quiet: bool = False,
) -> Diagnosis:
    """Say in words what a classifier relies on; nothing is aligned.

    Takes what `align` takes, and does its first half: `align` on the same run goes on from there and asks
    nothing again.

    Args:
        model: as `align` takes it; it is not changed.
        data: the training set, or `Splits` with validation and test sets too.
        specifications: a YAML file, or the same as a mapping, see `load_specifications`.
        critic: who answers: "builtin", "openai:<model>", "ground-truth".
        run: the run's directory. The same call on the same directory resumes.
        settings: any key of a project file, e.g. {"explain.pictures": 64}.
        trained: False if the model is still to be trained, as `model.epochs` etc. say.
        quiet: no progress on standard error.

    Raises:
        LvlmVaError: what is wrong and what to do.
    """
    arguments = (model, data, specifications, critic, Path(run), settings or {}, trained)
    with _opened(*arguments, quiet=quiet) as (context, panel):
        return _diagnose(context, panel)


def align_project(config: Config, *, console: QuietConsole | None = None) -> Run:
    """Align what a project file describes.

    Raises:
        LvlmVaError: what is wrong and what to do.
    """
    with open_project(config, console) as (context, panel):
        metrics = run_pipeline(context, panel)
        return Run(context.run.path, metrics, None, write_report(context.run))


def diagnose_project(config: Config, *, console: QuietConsole | None = None) -> Diagnosis:
    """Say what the classifier that a project file describes relies on.

    Raises:
        LvlmVaError: what is wrong and what to do.
    """
    with open_project(config, console) as (context, panel):
        return _diagnose(context, panel)


def _diagnose(context: Context, panel: Panel) -> Diagnosis:
    findings, page = write_diagnosis(context.run, run_diagnosis(context, panel))
    return Diagnosis(context.run.path, findings, page)


@contextmanager
def _opened(
    model: nn.Module,
    data: ImageSet | Splits,
    specifications: str | Path | Mapping[str, Any],
    critic: str,
    path: Path,
    settings: Mapping[str, Any],
    trained: bool,
    *,
    quiet: bool,
) -> Iterator[tuple[Context, Panel]]:
    """Check the arguments of `align`, engage the critics, and open the run for this process alone.

    Of several processes only the leading one gets there; the others help it to train, and leave.
    """
    given = {
        "project": re.sub(r"[^A-Za-z0-9._-]+", "-", path.name).lstrip("._-") or "run",
        "run": str(path),
        "model": {"name": type(model).__name__},
        "critique": {"critic": critic},
    }
    config = parse_config(override(given, settings), where="settings")
    splits = data if isinstance(data, Splits) else Splits(name="data", train=data)
    with launched_crew() as crew:
        check_parts(unwrapped(model))
        mine = in_full_precision(copied(model)).to(choose_device(config.device))
        project = Project(
            config=config,
            splits=splits,
            model=Adapted(mine, config.model.normalise, len(splits.class_names)),
            trained=trained,
            specifications=load_specifications(specifications, splits.class_names),
            initial_weights="given",
        )
        if not crew.leads:  # needs no critic, which may be a large model
            with led(project):
                pass
        panel = make_panel(config.critique, project.specifications, run=config.run)
        with opened_run(project, QuietConsole() if quiet else Console()) as context:
            yield context, panel
