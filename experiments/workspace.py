"""What many trials share, made once: the original model, its explanations, the verdicts on their segments.

Each is a run's directory of its own, so that trials of other processes, or of other machines that see the
same folder, read them side by side:

    DATASET-SIZE-seed-S/model-…/                  model.safetensors
    DATASET-SIZE-seed-S/model-…/attributed-…/     selection.csv, segments/attribution.safetensors
    DATASET-SIZE-seed-S/model-…/explained-…/      … and segments/segments.safetensors
    DATASET-SIZE-seed-S/model-…/explained-…/SOURCE/   critiques.sqlite, verdicts.csv
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

from experiments.description import project_config
from experiments.person_oracle import ask_oracle, judgements_of
from experiments.questions import measure_questions
from lvlm_va.alignment.fine_tune import AlignmentSet
from lvlm_va.config.loading import Config, DataConfig
from lvlm_va.critique.verdict import Verdict
from lvlm_va.data.sources import load
from lvlm_va.data.splits import Splits
from lvlm_va.errors import RunError
from lvlm_va.io.console import QuietConsole
from lvlm_va.models.copying import copied
from lvlm_va.project.critics import make_critic_judge
from lvlm_va.project.inputs import Inputs, build_model, choose_device, read_specifications
from lvlm_va.project.stages.alignment import alignment_set
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.evaluation import verdict_counts
from lvlm_va.project.stages.explained import Explained
from lvlm_va.project.stages.explanation import explain, select_and_attribute
from lvlm_va.project.stages.original import original_model, read_model
from lvlm_va.project.stages.verdicts import collect_verdicts
from lvlm_va.run import artefacts
from lvlm_va.run.directory import RunDirectory, fingerprint
from lvlm_va.run.files import ORIGINAL_WEIGHTS, open_store

__all__ = [
    "Workspace",
    "judged_alignment",
    "judged_context",
    "judged_verdicts",
    "load_context",
    "prepare_attribution",
    "prepare_explanation",
    "prepare_model",
    "prepare_verdicts",
    "read_explained",
    "read_original",
]

_SEGMENTING = {"segments", "n_init", "segmentation", "sam", "points_per_side", "superpixels"}
"""Keys of `explain` on which Φ does not depend."""

_REPORT = "report.json"


@dataclass(frozen=True)
class Workspace:
    """Where the shared work of a project lies, from what it depends on.

    Attributes:
        runs: the folder of all runs.
        dataset: one of `PRESETS`.
        size: "full", "reduced" or "quick".
        seed: of everything.
        settings: "key=value", laid over the project file: the experiment's, the size's, the user's.
    """

    runs: Path
    dataset: str
    size: str
    seed: int
    settings: tuple[str, ...] = ()

    @property
    def config(self) -> Config:
        """The settings in force."""
        return _config(self)

    @property
    def model(self) -> Path:
        """Of the original model."""
        data = self.config.data.model_dump(mode="json", exclude={"path"})
        model = self.config.model.model_dump(mode="json", exclude={"pretrained"})
        name = f"model-{fingerprint(data, model)[:12]}"
        return self.runs / f"{self.dataset}-{self.size}-seed-{self.seed}" / name

    @property
    def attributed(self) -> Path:
        """Of selection and attribution."""
        settings = self.config.explain.model_dump(mode="json", exclude=_SEGMENTING)
        return self.model / f"attributed-{fingerprint(settings)[:12]}"

    @property
    def explained(self) -> Path:
        """Of segments."""
        # Where SAM's weights lie decides nothing; that they are the same is seen to by the stage.
        settings = self.config.explain.model_dump(mode="json", exclude={"sam"})
        return self.model / f"explained-{fingerprint(settings)[:12]}"

    def judged(self, source: str) -> Path:
        """Of the verdicts of a source; apart where it is asked about some images only, or condemns more."""
        name = "".join(c if c.isalnum() or c in "-." else "-" for c in source)
        critique = _asked(self.config, source).critique
        if critique.intervene != "spurious":
            name += f"-{critique.intervene}"
        if critique.background != "spurious":
            name += "-background"
        if critique.split:
            name += f"-split-{critique.split}"
        if critique.fraction != 1:
            name += f"-asked-{fingerprint(critique.fraction, critique.verify, critique.agreement)[:12]}"
        return self.explained / name

    def with_settings(self, settings: Iterable[str]) -> "Workspace":
        """The same with further settings, which win."""
        return replace(self, settings=(*self.settings, *settings))


@lru_cache(maxsize=4096)
def _config(workspace: Workspace) -> Config:
    return project_config(workspace.dataset, workspace.seed, workspace.settings)


@lru_cache(maxsize=1)
def _splits(document: str) -> Splits:
    """Read once by each process: its trials mostly come from one data set."""
    return load(DataConfig.model_validate_json(document), lambda _: None)


def load_context(workspace: Workspace, run: RunDirectory, console: QuietConsole | None = None) -> Context:
    """The project of a workspace, with its model as it was before anything was trained, in a run."""
    config = workspace.config
    splits = _splits(config.data.model_dump_json())
    model, origin = build_model(config, splits, choose_device(config.device))
    project = Inputs(
        config=config,
        splits=splits,
        model=model,
        trained=config.model.weights is not None,
        specifications=read_specifications(config, splits.class_names),
        initial_weights=origin,
    )
    return Context(project, run, console or QuietConsole())


def prepare_model(workspace: Workspace) -> None:
    """Train the original model, unless it is there."""
    with _opened(workspace, workspace.model) as run:
        original_model(load_context(workspace, run))


def prepare_attribution(workspace: Workspace) -> None:
    """Select and explain, unless it is done."""
    with _opened(workspace, workspace.attributed) as run:
        context = load_context(workspace, run)
        select_and_attribute(context, read_original(context, workspace))


def prepare_explanation(workspace: Workspace) -> None:
    """Segment, unless it is done: in a run that begins as a copy of the attributed one."""
    if not (workspace.explained / "run.json").is_file():
        unfinished = workspace.explained.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(
            workspace.attributed, unfinished, ignore=shutil.ignore_patterns(".lock"), copy_function=_link
        )
        unfinished.rename(workspace.explained)
    with _opened(workspace, workspace.explained) as run:
        context = load_context(workspace, run)
        explain(context, read_original(context, workspace))


def prepare_verdicts(workspace: Workspace, source: str) -> None:
    """Ask a critic, unless it has answered; write verdicts and how good they are."""
    with _opened(workspace, workspace.judged(source)) as run:
        context = judged_context(load_context(workspace, run), source)
        explained = read_explained(context, workspace)
        critic_judge = make_critic_judge(context.config.critique, context.inputs.specifications, run=run.path)
        if judgements_of(source) is None:
            verdicts = collect_verdicts(context, explained, critic_judge)
        else:
            context = replace(context, ask=ask_oracle)
            verdicts = collect_verdicts(context, explained, critic_judge, read_original(context, workspace))
        divided = verdicts.explained
        alignment = alignment_set(context, divided, verdicts.in_force)
        tensors = {"indices": alignment.indices, "masks": alignment.masks}  # every image has one class here
        run.write(_masks(context.config), artefacts.tensors_file(tensors, verdicts=_told(verdicts.in_force)))
        document = {
            "verdicts": _told(verdicts.in_force),
            "report": verdict_counts(context, divided, verdicts.in_force).model_dump(mode="json"),
            "segment_seconds": RunDirectory.read(workspace.explained).stages["segment"].seconds,
            "usd": _spent(context),
            "questions": measure_questions(context, explained, verdicts, critic_judge)
            if _counts_questions(workspace)
            else None,
        }
        run.write(_REPORT, (json.dumps(document) + "\n").encode())


def judged_alignment(
    context: Context, workspace: Workspace, source: str, explained: Explained, verdicts: Sequence[Verdict]
) -> AlignmentSet:
    """The correction masks of these verdicts: those `prepare_verdicts` kept, where it had the same verdicts.

    Finding the objects in an image takes a fifth of a second: minutes for each trial.
    """
    path = workspace.judged(source) / _masks(context.config)
    if path.is_file():
        tensors, notes = artefacts.read_tensors(path)
        if notes["verdicts"] == _told(verdicts):
            return AlignmentSet(tensors["indices"], tensors["masks"])
    return alignment_set(context, explained, verdicts)


def _masks(config: Config) -> str:
    return f"masks-{config.align.mask}.safetensors"


def _told(verdicts: Sequence[Verdict]) -> list[list[Any]]:
    return [[v.image_id, v.segment, v.spurious] for v in verdicts]


def judged_context(context: Context, source: str) -> Context:
    """With the critic that a source is."""
    config = _asked(context.config, source)
    return replace(context, inputs=replace(context.inputs, config=config))


def _asked(config: Config, source: str) -> Config:
    """With the critic that a source is; the oracle knows no core, so it condemns what is spurious."""
    changes: dict[str, Any] = {"critic": source}
    if source == "oracle-verdicts":
        changes = {"critic": "ground-truth", "intervene": "spurious"}
    elif (judgements := judgements_of(source)) is not None:
        changes = {"critic": source, "intervene": "spurious", "judgements": judgements}
    critique = config.critique.model_copy(update=changes)
    return config.model_copy(update={"critique": critique})


def judged_verdicts(workspace: Workspace, source: str) -> tuple[list[Verdict], Mapping[str, Any]]:
    """The verdicts of a source, and what `prepare_verdicts` measured."""
    document = json.loads((workspace.judged(source) / _REPORT).read_text(encoding="utf-8"))
    verdicts = [
        Verdict(image, segment, spurious, "", source) for image, segment, spurious in document.pop("verdicts")
    ]
    return verdicts, document


def read_original(context: Context, workspace: Workspace) -> nn.Module:
    """The trained original model, whatever the settings of its alignment.

    Raises:
        RunError: if it is not there.
    """
    try:
        return read_model(RunDirectory.read(workspace.model), ORIGINAL_WEIGHTS, copied(context.inputs.model))
    except ValueError as error:
        raise RunError(f"{error}; run the same command again, which trains it anew") from None


def read_explained(context: Context, workspace: Workspace) -> Explained:
    """The explained and segmented images.

    Raises:
        RunError: if they are not there.
    """
    reading = replace(context, run=RunDirectory.read(workspace.explained))
    return explain(reading, read_original(context, workspace))


@contextmanager
def _opened(workspace: Workspace, path: Path) -> Iterator[RunDirectory]:
    with RunDirectory.open(path, workspace.config.model_dump(mode="json", by_alias=True)) as run:
        yield run


def _counts_questions(workspace: Workspace) -> bool:
    """Whether the experiment is about what is asked."""
    return any(setting.startswith("critique.fraction=") for setting in workspace.settings)


def _spent(context: Context) -> float:
    with open_store(context.run) as store:
        return store.spent()


def _link(source: str, target: str) -> None:
    """A second name for a file that is only ever replaced whole; a copy where the disk has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
