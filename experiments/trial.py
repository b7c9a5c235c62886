"""One trial of an experiment: a data set, a seed, a method, a source of masks and a setting, measured."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from shutil import rmtree
from typing import Any

import torch

from experiments.description import FLIP, scale
from experiments.methods import METHODS, READS, is_critic
from experiments.workspace import (
    Workspace,
    judged_alignment,
    judged_verdicts,
    load_context,
    read_explained,
    read_original,
)
from lvlm_va.alignment import baselines
from lvlm_va.alignment.fine_tune import AlignmentSet
from lvlm_va.alignment.selection import Candidate, ValidationScore, best
from lvlm_va.critique.verdict import Verdict
from lvlm_va.data.imageset import groups_of
from lvlm_va.errors import ConfigError
from lvlm_va.evaluate.groups import group_accuracy
from lvlm_va.evaluate.overlap import mask_overlap
from lvlm_va.io.files import file_sha256, write_atomically
from lvlm_va.models.predict import logits
from lvlm_va.project.stages.alignment import align_with, ground_truth_set, original_candidate
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.evaluation import measure, verdict_counts
from lvlm_va.run.directory import RunDirectory, fingerprint
from lvlm_va.run.files import ORIGINAL_WEIGHTS
from lvlm_va.run.machine import describe_machine
from lvlm_va.run.metrics import GroupMetrics

__all__ = ["Trial", "compute_trial", "flipped"]

_CHOOSING_SOURCE = "builtin"
"""Whose condemned segments choose the epoch where a method has no masks of its own: no oracle's."""


@dataclass(frozen=True)
class Trial:
    """What is computed.

    Attributes:
        workspace: data set, size, seed and settings.
        method: key of `METHODS`.
        source: key of `SOURCES`, a critic's name, or "" where the method needs no masks.
        varied: the key that the experiment varies → its value here; may be `FLIP`.
    """

    workspace: Workspace
    method: str
    source: str = ""
    varied: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """E.g. "knee reduced, seed 0, counterfactual, builtin, explain.segments=3"."""
        workspace = self.workspace
        words = [f"{workspace.dataset} {workspace.size}", f"seed {workspace.seed}", self.method, self.source]
        return ", ".join([*(w for w in words if w), *(f"{key}={value}" for key, value in self.varied)])

    @property
    def critic(self) -> str | None:
        """The source whose verdicts must be there, if any."""
        if METHODS[self.method].kind != "fine-tuning":
            return None
        if not self.source:
            return _CHOOSING_SOURCE
        return self.source if is_critic(self.source) else None

    @cached_property
    def flip(self) -> float:
        """The share of verdicts that is turned round."""
        return float(dict(self.varied).get(FLIP, 0))

    @cached_property
    def inputs(self) -> str:
        """Fingerprint of everything that decides the result, known before anything is computed."""
        config = self.workspace.config
        document = config.model_dump(
            mode="json",
            by_alias=True,
            exclude={
                "project": True,
                "run": True,
                "device": True,
                "scheduler": True,
                "data": {"path"},
                "model": {"pretrained"},
                "explain": {"sam"},
            },
        )
        for section, before in _BEFORE.items():
            for key, value in before.items():
                if document[section][key] == value:
                    del document[section][key]
        search = scale(self.workspace.dataset, self.workspace.size).baselines.get(self.method, {})
        # What a method does not use does not matter: the original model of another λ is the same.
        if METHODS[self.method].kind != "fine-tuning":
            document = {key: document[key] for key in ("data", "model", "evaluate", "explain")}
            document["explain"] = {k: document["explain"][k] for k in _MEASURING}
        return fingerprint(self.method, self.source, self.flip, document, dict(search))

    def to_dict(self) -> dict[str, Any]:
        """What it is, for JSON."""
        workspace = self.workspace
        return {
            "trial": self.name,
            "dataset": workspace.dataset,
            "size": workspace.size,
            "seed": workspace.seed,
            "method": self.method,
            "source": self.source,
            "setting": dict(self.varied),
            "settings": self.settings,
            "inputs": self.inputs,
        }

    def began_elsewhere(self, known: Mapping[str, Any]) -> bool:
        """Whether a result for the original model is of another training than the model that lies here.

        The same seed trained with other threads, or on another machine, gives another model.
        """
        path = self.workspace.model / ORIGINAL_WEIGHTS
        if self.method != "original" or not path.is_file():
            return False
        return dict(known["record"].get("original", {})).get("weights") != _weights(self.workspace)

    @property
    def settings(self) -> list[str]:
        """What differs from the project file, as "key=value"; no paths, and not what is varied."""
        varied = {key for key, _ in self.varied}
        pairs = (setting.split("=", 1) for setting in self.workspace.settings)
        return [f"{key}={value}" for key, value in pairs if key not in varied | _PATHS]


_PATHS = {
    "data.path",
    "data.root",
    "model.pretrained",
    "model.weights",
    "specifications",
    "explain.sam",
    "device",
}
"""Keys that say where something lies on one machine."""


_BEFORE: Mapping[str, Mapping[str, Any]] = {
    "data": {"frame": None},
    "model": {"head": "auto", "outputs": None},
    "critique": {
        "intervene": "spurious",
        "background": "spurious",
        "split": 0,
        "judgements": 40,
        "detail": "high",
        "system_role": True,
    },
}
"""Keys that came later → what held before them: trials of before are still the same."""

_MEASURING = ("attribution", "baselines", "tolerance", "steps", "seed")
"""Keys of `explain` that μ_align depends on."""


def compute_trial(trial: Trial) -> dict[str, Any]:
    """Fit and measure; what trials share must have been prepared.

    Returns:
        {"measures", "seconds", "reads", "record", "verdicts", "usd", "machine", "versions"} beside
        `Trial.to_dict`.

    Raises:
        LvlmVaError: why it cannot be computed.
    """
    scratch = trial.workspace.model.parent / "trials" / trial.inputs
    with RunDirectory.open(scratch, trial.workspace.config.model_dump(mode="json", by_alias=True)) as run:
        context = load_context(trial.workspace, run)
        result = _METHODS[METHODS[trial.method].kind](trial, context)
    rmtree(scratch)  # what is worth keeping is in the result; a fit of a ResNet-50 is 100 MB
    return {**trial.to_dict(), **result, **_provenance()}


def _provenance() -> dict[str, Any]:
    """What measured it."""
    told = describe_machine()
    versions = {name: told[name] for name in ("lvlm_va", "torch", "python")}
    return {"machine": f"{told['processor']}, {told['gpu'] or 'no GPU'}", "versions": versions}


def flipped(verdicts: list[Verdict], share: float, seed: int) -> list[Verdict]:
    """Scored verdicts, each turned round with a probability of `share`.

    A larger share turns round what a smaller one does, and more.
    """
    chances = torch.rand(len(verdicts), generator=torch.Generator().manual_seed(seed)).tolist()
    return [
        replace(v, spurious=not v.spurious) if v.spurious is not None and chance < share else v
        for v, chance in zip(verdicts, chances, strict=True)
    ]


def _measured(context: Context, trial: Trial, candidate: Candidate) -> dict[str, Any]:
    return measure(context, trial.method, candidate).model_dump(mode="json")


def _original(trial: Trial, context: Context) -> dict[str, Any]:
    before = _before(trial, context)
    return {
        "measures": before["measures"],
        "seconds": RunDirectory.read(trial.workspace.model).stages["train"].seconds,
        "reads": "",
        "record": {"weights": context.inputs.initial_weights, "original": {"weights": before["weights"]}},
    }


def _before(trial: Trial, context: Context) -> dict[str, Any]:
    """{"weights", "measures"} of the original model that lies here, measured once for all its trials.

    A gain is against the very model that was changed, so each trial carries these numbers with it.
    """
    of_original = replace(trial, method="original", source="", varied=())
    path = trial.workspace.model / f"measured-{of_original.inputs}.json"
    weights = _weights(trial.workspace)
    if path.is_file():
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if known["weights"] == weights:
            return known
    model = read_original(context, trial.workspace)
    measures = _measured(context, of_original, Candidate(0.0, ValidationScore(), model))
    before = {"weights": weights, "measures": measures}
    write_atomically(path, (json.dumps(before) + "\n").encode())
    return before


def _weights(workspace: Workspace) -> str:
    return file_sha256(workspace.model / ORIGINAL_WEIGHTS)[:24]


def _baseline(trial: Trial, context: Context) -> dict[str, Any]:
    training, validation = context.splits.train, context.splits.validation
    search = dict(scale(trial.workspace.dataset, trial.workspace.size).baselines.get(trial.method, {}))
    settings, note = context.config.model, context.console.note
    recipe = {key: getattr(settings, key) for key in _RECIPE}
    if groups_of(training) is None or validation is None:
        raise ConfigError(f"{trial.workspace.dataset}: {trial.method} needs groups and a validation set")
    start = time.perf_counter()
    if trial.method == "dfr":
        original = read_original(context, trial.workspace)
        found = baselines.dfr(original, training, validation, seed=settings.seed, note=note, **search)
    else:
        progress = context.console.progress
        common: dict[str, Any] = {"recipe": recipe, "seed": settings.seed, "progress": progress, "note": note}
        retrain = baselines.subg if trial.method == "subg" else baselines.jtt
        found = retrain(context.inputs.model, training, validation=validation, **common, **search)
    seconds = time.perf_counter() - start
    groups = groups_of(validation)
    assert groups is not None
    by_group = group_accuracy(logits(found.model, validation), validation.labels, groups)
    candidate = Candidate(0.0, ValidationScore(groups=by_group), found.model)
    return {
        "measures": _measured(context, trial, candidate),
        "seconds": round(seconds, 3),
        "reads": found.sees,
        # SUBG and JTT begin with fresh weights and change no original model.
        "record": dict(found.record)
        | ({"original": _before(trial, context)} if trial.method == "dfr" else {}),
    }


_RECIPE = ("epochs", "batch", "learning_rate", "optimizer", "weight_decay", "precision", "flip")


def _fine_tuned(trial: Trial, context: Context) -> dict[str, Any]:
    method, original = METHODS[trial.method], read_original(context, trial.workspace)
    explained = read_explained(context, trial.workspace)
    report: Mapping[str, Any] = {}
    if trial.critic is None:
        alignment = ground_truth_set(context, explained)
        if alignment is None:
            raise ConfigError(f"{trial.workspace.dataset}: where the planted feature is, is not known")
    else:
        verdicts, report = judged_verdicts(trial.workspace, trial.critic)
        explained = explained.with_parts_of(verdicts)
        if trial.flip > 0:
            verdicts = flipped(verdicts, trial.flip, trial.workspace.seed)
            report = {
                **report,
                "report": verdict_counts(context, explained, verdicts).model_dump(mode="json"),
            }
        alignment = judged_alignment(context, trial.workspace, trial.critic, explained, verdicts)
    context = _with_terms(context, method.right_reasons, method.counterfactual)
    before = original_candidate(context, original, alignment)
    candidates = align_with(context, trial.method, original, alignment, before.validation)
    # The best of the fine-tuned ones, even where the original model is better: methods are compared.
    chosen = best(candidates, before, context.config.align.choose_by)
    by = before.validation.criterion(context.config.align.choose_by)
    stages = context.run.stages
    return {
        "measures": _measured(context, trial, chosen),
        "seconds": sum(stages[name].seconds for name in stages if name.startswith("align: ")),
        "reads": READS.get(trial.source, ""),
        "record": {
            "original": _before(trial, context),
            "better_than_original": chosen.validation.score(by, before.validation)
            > before.validation.score(by, before.validation),
            "original_groups": None
            if before.validation.groups is None
            else GroupMetrics.model_validate(before.validation.groups).model_dump(mode="json"),
            "lambdas": {f"{c.lam:g}": c.validation.accuracy for c in candidates},
            "masks": _overlap(context, alignment),
            "selection_spurious_share": explained.selection.spurious_share,
            "per_class": list(explained.selection.class_counts),
            "segment_seconds": report.get("segment_seconds"),
            "questions": report.get("questions") if trial.source else None,
        },
        "verdicts": report.get("report") if trial.source else None,
        "usd": report.get("usd") if trial.source else None,
    }


def _overlap(context: Context, alignment: AlignmentSet) -> Mapping[str, Any] | None:
    truth = context.splits.train.spurious_masks(alignment.indices)
    return None if truth is None else mask_overlap(alignment.masks, truth)


def _with_terms(context: Context, right_reasons: bool, counterfactual: bool) -> Context:
    """λ and κ of the project, or 0; κ is 1 where the project has none."""
    align = context.config.align
    align = align.model_copy(
        update={
            "lam": align.lam if right_reasons else (0.0,),
            "counterfactual": (align.counterfactual or 1.0) if counterfactual else 0.0,
        }
    )
    config = context.config.model_copy(update={"align": align})
    return replace(context, inputs=replace(context.inputs, config=config))


_METHODS = {"none": _original, "baseline": _baseline, "fine-tuning": _fine_tuned}
