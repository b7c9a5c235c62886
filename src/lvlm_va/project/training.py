"""Training alone: `lvlm_va.train(model, data)`, or what `lvlm-va train PROJECT.yaml` does."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from lvlm_va.config.loading import Config, override, parse_config
from lvlm_va.console import Console, QuietConsole
from lvlm_va.data.imageset import ImageSet
from lvlm_va.data.splits import Splits
from lvlm_va.models.adapter import Adapted, in_full_precision, unwrapped
from lvlm_va.models.copying import copied
from lvlm_va.models.parts import check_parts
from lvlm_va.project.opening import choose_device, load_project, opened_run
from lvlm_va.project.stages.context import Project
from lvlm_va.project.stages.original import ORIGINAL_WEIGHTS, original_accuracy, original_model
from lvlm_va.training.process_group import launched_crew

__all__ = ["Fitted", "train", "train_project"]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained classifier.

    Attributes:
        model: the module that was given, or named, in evaluation mode; pictures are normalised outside it.
        weights: its safetensors file.
        accuracy: "validation" and the name of each test set → {"pictures", "accuracy", "groups"}, see
            `stages.original.original_accuracy`.
        training: how the training went: the epochs, which was kept and why, device and number format; only
            that nothing was trained where the weights were given.
    """

    model: nn.Module
    weights: Path
    accuracy: Mapping[str, Mapping[str, Any]]
    training: Mapping[str, Any]

    def __str__(self) -> str:
        went = self.training
        lines = [f"{went['model']}: the weights were given, nothing was trained."]
        if went["trained_here"]:
            lines = [
                f"{went['model']}: {len(went['epochs'])} epochs on {went['compute']}; epoch "
                f"{went['epoch_kept']} kept ({went['how_kept']})."
            ]
        width = max((len(name) for name in self.accuracy), default=0)
        for name, measured in self.accuracy.items():
            line = f"  {name:<{width}}  accuracy {measured['accuracy']:.4f}"
            if (groups := measured["groups"]) is not None:
                line += f"  AGA {groups['average']:.4f}  WGA {groups['worst']:.4f}"
            lines.append(f"{line}  ({measured['pictures']:,} pictures)")
        return "\n".join([*lines, f"Weights: {self.weights}"])


def train(
    model: nn.Module,
    data: ImageSet | Splits,
    *,
    run: str | Path = "runs/run",
    settings: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Fitted:
    """Train a classifier from the weights it has: drawn at random, or pretrained.

    `lvlm_va.align` with the same arguments, run and `trained=False` goes on from here.

    Args:
        model: any module from (n, C, H, W) float32 pictures to (n, K) logits; it is not changed. Pictures
            are in [0, 1]; where it wants them normalised, say so with settings={"model.normalise": ...}.
        data: the training set, or `Splits` with validation and test sets too.
        run: the run's directory. The same call on the same directory resumes.
        settings: any key of a project file, e.g. {"model.epochs": 20, "model.patience": 5}.
        quiet: no progress on standard error.

    Raises:
        LvlmVaError: what is wrong and what to do.
    """
    given = {"run": str(run), "model": {"name": type(model).__name__}}
    config = parse_config(override(given, settings or {}), where="settings")
    splits = data if isinstance(data, Splits) else Splits(name="data", train=data)
    with launched_crew():
        check_parts(unwrapped(model))
        mine = in_full_precision(copied(model)).to(choose_device(config.device))
        project = Project(
            config=config,
            splits=splits,
            model=Adapted(mine, config.model.normalise, len(splits.class_names)),
            trained=False,
            specifications={},
            initial_weights="given",
        )
        return _fit(project, QuietConsole() if quiet else Console())


def train_project(config: Config, *, console: QuietConsole | None = None) -> Fitted:
    """Train what a project file describes; it needs neither specifications nor a critic.

    Raises:
        LvlmVaError: what is wrong and what to do.
    """
    with launched_crew() as crew:
        say = console if console is not None and crew.leads else QuietConsole()
        return _fit(load_project(config, log=say.note, specified=False), say)


def _fit(project: Project, console: QuietConsole) -> Fitted:
    with opened_run(project, console) as context:
        model = original_model(context)
        measured = original_accuracy(context, model)
        summary = context.run.stages["train"].summary
        return Fitted(unwrapped(model), context.run.file(ORIGINAL_WEIGHTS), measured, summary)
