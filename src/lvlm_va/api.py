"""The way in from Python: `run = lvlm_va.align(model, data, specifications, critic="openai:gpt-4o")`."""

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lvlm_va.config import Config, override, parse_config
from lvlm_va.console import Console, QuietConsole
from lvlm_va.critique.specification import load_specifications
from lvlm_va.critique.verdict import Verdict
from lvlm_va.data.imageset import ImageSet
from lvlm_va.data.splits import Splits
from lvlm_va.models.adapter import Adapted, in_full_precision
from lvlm_va.models.checkpoint import load_checkpoint
from lvlm_va.pipeline import run_pipeline
from lvlm_va.project import choose_device, open_project
from lvlm_va.report.write import write_report
from lvlm_va.run import RunDirectory
from lvlm_va.stages.context import Context, Project
from lvlm_va.stages.verdicts import VERDICTS, make_panel
from lvlm_va.verdict_table import read_verdicts

__all__ = ["Run", "align", "align_project"]


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
    path = Path(run)
    given = {
        "project": re.sub(r"[^A-Za-z0-9._-]+", "-", path.name).lstrip("._-") or "run",
        "run": str(path),
        "model": {"name": type(model).__name__},
        "critique": {"critic": critic},
    }
    config = parse_config(override(given, settings or {}), where="settings")
    splits = data if isinstance(data, Splits) else Splits(name="data", train=data)
    mine = in_full_precision(copy.deepcopy(model)).to(choose_device(config.device))
    project = Project(
        config=config,
        splits=splits,
        model=Adapted(mine, config.model.normalise, len(splits.class_names)),
        trained=trained,
        specifications=load_specifications(specifications, splits.class_names),
        initial_weights="given",
    )
    panel = make_panel(config.critique, project.specifications)
    console = QuietConsole() if quiet else Console()
    with RunDirectory.open(path, config.model_dump(mode="json", by_alias=True)) as directory:
        metrics = run_pipeline(Context(project, directory, console), panel)
        report = write_report(directory)
    aligned = copy.deepcopy(mine)
    load_checkpoint(aligned, path / "aligned.safetensors")
    return Run(path, metrics, aligned.eval(), report)


def align_project(config: Config, *, console: QuietConsole | None = None) -> Run:
    """Align what a project file describes.

    Raises:
        LvlmVaError: what is wrong and what to do.
    """
    with open_project(config, console) as (context, panel):
        metrics = run_pipeline(context, panel)
        return Run(context.run.path, metrics, None, write_report(context.run))
