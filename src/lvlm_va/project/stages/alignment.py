"""From verdicts to candidates: masks, and one fine-tuning per λ (Sec. 4.2)."""

from collections.abc import Sequence
from dataclasses import asdict

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from lvlm_va.alignment.counterfactuals import Counterfactuals
from lvlm_va.alignment.fine_tune import AlignmentSet, fine_tune
from lvlm_va.alignment.masks import cut_masks, verdict_matrix
from lvlm_va.alignment.selection import Candidate, ValidationScore
from lvlm_va.alignment.verdict_score import score_by_verdicts
from lvlm_va.critique.verdict import Verdict
from lvlm_va.data.imageset import groups_of
from lvlm_va.errors import ConfigError
from lvlm_va.evaluate.accuracy import accuracy
from lvlm_va.evaluate.groups import group_accuracy
from lvlm_va.models.copying import copied
from lvlm_va.models.memory import preferably_on
from lvlm_va.models.predict import logits
from lvlm_va.project.fingerprints import tensor_fingerprint, weights_fingerprint
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.explained import Explained, seen
from lvlm_va.project.stages.original import read_model, save_model
from lvlm_va.project.stages.trial import fine_tuning
from lvlm_va.run import artefacts
from lvlm_va.run.directory import fingerprint
from lvlm_va.run.files import MASKS
from lvlm_va.training.loop import Score
from lvlm_va.training.process_group import ProcessGroup
from lvlm_va.training.resumption import Resumption

__all__ = [
    "align_with",
    "alignment_set",
    "check_choice",
    "ground_truth_set",
    "keep_masks",
    "original_candidate",
]

_SCORE = TypeAdapter(ValidationScore)
_TOGETHER = 256  # images whose masks are cut at once


def alignment_set(context: Context, explained: Explained, verdicts: Sequence[Verdict]) -> AlignmentSet:
    """The usable critiqued images with A = Σ_j R_j · 1[C = j], cut to `align.mask`."""
    usable, segmentation = explained.usable, explained.segmentation
    R = verdict_matrix(verdicts, explained.ids, segmentation.pi.shape[1])
    masks = torch.empty(len(usable), *segmentation.labels.shape[1:], dtype=torch.bool)
    # What is made on the way, of all images at once, would be twenty times as large as the masks.
    for first in range(0, len(usable), _TOGETHER):
        some = usable[first : first + _TOGETHER]

        def images(some: list[int] = some) -> Tensor:
            if explained.shown is not None:
                return explained.shown.images[some]
            return seen(context.splits.train, explained.selection.indices[some])

        masks[first : first + _TOGETHER] = cut_masks(
            segmentation.rows(some),
            explained.attribution.values[some],
            R[some],
            images,
            kind=context.config.align.mask,
        )
    indices = explained.selection.indices[usable]
    return AlignmentSet(indices, masks, _explained_labels(context, explained))


def _explained_labels(context: Context, explained: Explained) -> Tensor | None:
    """Of several labels, the one that each usable image was explained for."""
    return explained.targets[explained.usable] if context.splits.several_labels else None


def keep_masks(context: Context, explained: Explained, alignment: AlignmentSet) -> None:
    """Write the correction masks A into the run, beside the segments."""
    ids = [explained.ids[n] for n in explained.usable]
    context.run.write(MASKS, artefacts.tensors_pieces({"masks": alignment.masks}, ids=ids))


def ground_truth_set(context: Context, explained: Explained) -> AlignmentSet | None:
    """The same images with ground-truth masks (an oracle); None where the planted feature is unknown."""
    indices = explained.selection.indices[explained.usable]
    truth = context.splits.train.spurious_masks(indices)
    return None if truth is None else AlignmentSet(indices, truth, _explained_labels(context, explained))


def original_candidate(context: Context, model: nn.Module, alignment: AlignmentSet) -> Candidate:
    """The original model as a candidate: it stays where no other is better.

    Args:
        context: of the run.
        model: the original model.
        alignment: whose condemned segments the model is scored with.
    """
    stage = "score: original"

    def compute() -> ValidationScore:
        with context.console.stage("Scoring the original model on the validation set"):
            return _score(context, model, _counterfactuals(context, alignment))

    score, _ = context.run.stage(
        stage,
        fingerprint(
            "score",
            weights_fingerprint(model),
            context.inputs.all_data,
            alignment.indices.tolist(),
            tensor_fingerprint(alignment.masks),
            *_about(alignment),
        ),
        compute,
        save=lambda _: None,
        load=lambda: _SCORE.validate_python(dict(context.run.stages[stage].summary)),
        summarise=asdict,
    )
    return Candidate(0.0, score, model)


def align_with(
    context: Context, name: str, model: nn.Module, alignment: AlignmentSet, original: ValidationScore
) -> list[Candidate]:
    """Stage align: fine-tune `model` once for each λ in `align.lambda`; it is not changed.

    Args:
        context: of the run.
        name: of the masks, for files and messages: `ALIGNED` or `GROUND_TRUTH`.
        model: the original model.
        alignment: images and masks.
        original: how the original model does on the validation set.
    """
    counterfactuals = _counterfactuals(context, alignment)
    return [
        _fit(context, name, model, alignment, counterfactuals, original, lam)
        for lam in context.config.align.lam
    ]


def check_choice(context: Context) -> None:
    """Make sure, before any work, that λ can be chosen.

    Raises:
        ConfigError: if there are several and no validation set, or groups are to choose and none are known.
    """
    validation, settings = context.splits.validation, context.config.align
    if validation is None:
        if len(settings.lam) > 1:
            raise ConfigError("align.lambda has several values, but there is no validation set: give one λ")
        if settings.keep == "best":
            raise ConfigError("align.keep is best, but there is no validation set to tell which epoch is")
    elif settings.choose_by == "groups" and groups_of(validation) is None:
        raise ConfigError(
            "align.choose_by is groups, but no groups of the validation set are known; choose verdicts"
        )


def _about(alignment: AlignmentSet) -> list[list[int]]:
    """For fingerprints: which of several labels the masks are about; nothing for one class."""
    return [] if alignment.explained is None else [alignment.explained.tolist()]


def _counterfactuals(context: Context, alignment: AlignmentSet) -> Counterfactuals | None:
    """What can be pasted into validation images; None if nothing can, or there is nothing to paste into."""
    if context.splits.validation is None:
        return None
    training, indices = context.splits.train, alignment.indices

    def make(device: torch.device) -> Counterfactuals:
        return Counterfactuals.of_set(training, indices, alignment.masks, device, alignment.explained)

    made = preferably_on(context.inputs.device, make, context.console.note)
    return made if len(made) else None


def _score(context: Context, model: nn.Module, counterfactuals: Counterfactuals | None) -> ValidationScore:
    validation = context.splits.validation
    if validation is None:
        return ValidationScore()
    outputs = logits(model, validation, note=context.console.note)
    groups = groups_of(validation)
    by_verdicts = None
    if counterfactuals is not None:
        by_verdicts = score_by_verdicts(
            model, validation, counterfactuals, outputs=outputs, seed=context.config.align.seed
        )
    return ValidationScore(
        accuracy(outputs, validation.labels),
        by_verdicts,
        None if groups is None else group_accuracy(outputs, validation.labels, groups),
    )


def _fit(
    context: Context,
    name: str,
    model: nn.Module,
    alignment: AlignmentSet,
    counterfactuals: Counterfactuals | None,
    original: ValidationScore,
    lam: float,
) -> Candidate:
    settings = context.config.align
    tuning = fine_tuning(context.config, lam)
    by = original.criterion(settings.choose_by)
    stage = f"align: {name}, λ = {lam:g}"
    file = f"fits/{name.partition(' (')[0].replace(' ', '-')}-lambda-{lam:g}.safetensors"
    path = context.run.file(file)

    inputs = fingerprint(
        "align",
        weights_fingerprint(model),
        context.inputs.all_data,
        alignment.indices.tolist(),
        tensor_fingerprint(alignment.masks),
        *_about(alignment),
        asdict(tuning),
        (by, asdict(original)) if settings.keep == "best" else "last",
    )
    resumption = Resumption(path.with_suffix(".unfinished.pt"), inputs)

    judged: list[ValidationScore] = []

    def judge(candidate: nn.Module) -> Score:
        judged.append(_score(context, candidate, counterfactuals))
        return judged[-1].score(by, original)

    def of_kept(tuned: nn.Module, scores: Sequence[Score]) -> ValidationScore:
        if judged and len(judged) == len(scores):  # else some epochs are of a run that was interrupted
            return judged[scores.index(max(scores))]
        return _score(context, tuned, counterfactuals)

    def compute() -> Candidate:
        with context.console.stage(f"Aligning with λ = {lam:g}: {name}"):
            tuned, history = fine_tune(
                model,
                context.splits.train,
                alignment,
                tuning,
                judge=judge if settings.keep == "best" else None,
                progress=context.console.progress,
                note=context.console.note,
                resumption=resumption,
            )
            scores = tuple(epoch.score for epoch in history if epoch.score is not None)
            score = ProcessGroup.here().on_main(lambda: of_kept(tuned, scores))
            return Candidate(lam, score, tuned, scores)

    def load() -> Candidate:
        blank, summary = copied(model), context.run.stages[stage].summary
        scores = tuple(tuple(score) for score in summary["epochs"])
        tuned = read_model(context.run, file, blank)
        return Candidate(lam, _SCORE.validate_python(summary["validation"]), tuned, scores)

    def together(read: Candidate | None) -> Candidate:
        group = ProcessGroup.here()
        tuned = copied(model) if read is None else read.model
        group.broadcast_weights(tuned)
        said = group.broadcast(None if read is None else (read.validation, read.epochs))
        assert said is not None
        return Candidate(lam, said[0], tuned.eval(), said[1])

    candidate, _ = context.run.stage(
        stage,
        inputs,
        compute,
        save=lambda c: save_model(context.run, file, c.model),
        load=load,
        summarise=lambda c: {"validation": asdict(c.validation), "epochs": c.epochs},
        together=together,
    )
    if ProcessGroup.here().is_main:
        resumption.remove()
    return candidate
