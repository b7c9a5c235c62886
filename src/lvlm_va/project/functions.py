"""The three-line way in: `Project` as functions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lvlm_va.critique.protocol import Critic
from lvlm_va.data.imageset import ImageSet
from lvlm_va.data.splits import Splits
from lvlm_va.explain.attribution import AttributionMethod
from lvlm_va.explain.own_segments import SegmentationMethod
from lvlm_va.io.console import Console, QuietConsole
from lvlm_va.project.project import Project
from lvlm_va.project.results import AlignmentResult, Diagnosis, TrainingResult

__all__ = ["align", "diagnose", "train"]


def align(
    model: nn.Module,
    data: ImageSet | Splits,
    specifications: str | Path | Mapping[str, Any],
    *,
    critic: str | Critic = "builtin",
    attribution: str | AttributionMethod | None = None,
    segmentation: str | SegmentationMethod | None = None,
    run: str | Path = "runs/run",
    settings: Mapping[str, Any] | None = None,
    trained: bool = True,
    quiet: bool = False,
) -> AlignmentResult:
    """Align a classifier with class specifications; for the arguments see `Project`.

    Raises:
        LvlmVaError: what is wrong and what to do.
    """
    return Project(
        model,
        data,
        specifications,
        critic=critic,
        attribution=attribution,
        segmentation=segmentation,
        run=run,
        settings=settings,
        trained=trained,
        console=_console(quiet),
    ).align()


def diagnose(
    model: nn.Module,
    data: ImageSet | Splits,
    specifications: str | Path | Mapping[str, Any],
    *,
    critic: str | Critic = "builtin",
    attribution: str | AttributionMethod | None = None,
    segmentation: str | SegmentationMethod | None = None,
    run: str | Path = "runs/run",
    settings: Mapping[str, Any] | None = None,
    trained: bool = True,
    quiet: bool = False,
) -> Diagnosis:
    """Say in words what a classifier relies on; nothing is aligned. For the arguments see `Project`.

    Raises:
        LvlmVaError: what is wrong and what to do.
    """
    return Project(
        model,
        data,
        specifications,
        critic=critic,
        attribution=attribution,
        segmentation=segmentation,
        run=run,
        settings=settings,
        trained=trained,
        console=_console(quiet),
    ).diagnose()


def train(
    model: nn.Module,
    data: ImageSet | Splits,
    *,
    run: str | Path = "runs/run",
    settings: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> TrainingResult:
    """Train a classifier from the weights it has: drawn at random, or pretrained.

    `align` with the same arguments, run and `trained=False` goes on from here.

    Raises:
        LvlmVaError: what is wrong and what to do.
    """
    return Project(model, data, run=run, settings=settings, trained=False, console=_console(quiet)).train()


def _console(quiet: bool) -> QuietConsole:
    return QuietConsole() if quiet else Console()
