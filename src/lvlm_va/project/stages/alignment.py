"""From verdicts to the aligned model: masks, one fine-tuning per λ, and the choice among them (Sec. 4.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lvlm_va.alignment.counterfactuals import Counterfactuals
from lvlm_va.alignment.fine_tune import AlignmentSet, Score, fine_tune
from lvlm_va.alignment.masks import Extent, correction_masks, things_within, tighten, verdict_matrix
from lvlm_va.alignment.verdict_score import score_by_verdicts
from lvlm_va.critique.verdict import Verdict
from lvlm_va.data.imageset import groups_of, images_on
from lvlm_va.errors import ConfigError
from lvlm_va.evaluate.groups import group_accuracy
from lvlm_va.models.checkpoint import save_checkpoint
from lvlm_va.models.copying import copied
from lvlm_va.models.memory import preferably_on
from lvlm_va.models.predict import accuracy, logits
from lvlm_va.project.stages.context import Context, read_model, tensor_fingerprint, weights_fingerprint
from lvlm_va.project.stages.explanation import Explained, as_seen
from lvlm_va.project.stages.trial import fine_tuning
from lvlm_va.run import artefacts
from lvlm_va.run.directory import fingerprint
from lvlm_va.training.process_group import Crew

__all__ = [
    "ALIGNED",
    "GROUND_TRUTH",
    "MASKS",
    "ORIGINAL",
    "Fit",
    "Standing",
    "align_with",
    "alignment_set",
    "best_fit",
    "check_choice",
    "choose",
    "ground_truth_set",
    "how_chosen",
    "keep_masks",
    "original_fit",
]

ORIGINAL = "original"
ALIGNED = "aligned"
GROUND_TRUTH = "ground-truth masks (oracle)"
MASKS = "segments/masks.safetensors"
"""A of every usable critiqued picture, so that a reader sees what was corrected."""

_MAY_FALL = 0.005
"""By how much the overall score may fall for a better worst one: half a point."""


@dataclass(frozen=True)
class Standing:
    """How a model does on the validation set; None is what cannot be said.

    Attributes:
        accuracy: plain accuracy, in [0, 1]; None without a validation set.
        verdicts: see `evaluate.choice.VerdictScore`; None where no condemned segment can be pasted.
        groups: see `evaluate.groups.GroupAccuracy`; None where groups are unknown.
    """

    accuracy: float | None = None
    verdicts: Mapping[str, Any] | None = None
    groups: Mapping[str, Any] | None = None

    def score(self, by: str, original: "Standing | None" = None) -> Score:
        """What is compared: larger is better.

        Args:
            by: `align.choose_by`, as `_can_choose_by` has it.
            original: the unaligned model's standing. By verdicts, one whose overall score falls below it by
                more than half a point comes after all that do not.
        """
        if by == "groups" and self.groups is not None:
            return (self.groups["worst"], self.groups["average"])
        if by == "verdicts" and self.verdicts is not None:
            overall = self.verdicts["overall"]
            before = None if original is None else original.verdicts
            holds = before is None or overall >= before["overall"] - _MAY_FALL
            return (float(holds), self.verdicts["score"])
        return (self.accuracy or 0.0,)


@dataclass(frozen=True, eq=False)
class Fit:
    """One fine-tuning, or the original model.

    Attributes:
        lam: λ.
        standing: on the validation set.
        model: in evaluation mode.
        epochs: the score after each epoch, where epochs were scored.
    """

    lam: float
    standing: Standing
    model: nn.Module
    epochs: tuple[Score, ...] = ()

    @property
    def validation(self) -> float | None:
        """Plain accuracy on the validation set, in [0, 1]; None where there is none."""
        return self.standing.accuracy


def alignment_set(context: Context, explained: Explained, verdicts: Sequence[Verdict]) -> AlignmentSet:
    """The usable critiqued pictures with A = Σ_j R_j · 1[C = j], cut to `align.extent`."""
    usable, attribution = explained.usable, explained.attribution.values
    indices = explained.selection.indices[usable]
    R = verdict_matrix(verdicts, explained.ids, context.config.explain.segments)

    def masks(extent: Extent) -> Tensor:
        return correction_masks(tighten(explained.segmentation, attribution, extent=extent), R)[usable]

    extent = context.config.align.extent
    if extent != "things":
        return AlignmentSet(indices, masks(extent))
    images = torch.stack([as_seen(image) for image in context.splits.train.images(indices)])
    things = things_within(images, masks("segment"))
    # Where no thing is condemned (a stretch of ground, say), what the model saw there is.
    without = ~things.flatten(1).any(1)
    return AlignmentSet(indices, torch.where(without[:, None, None], masks("attribution"), things))


def keep_masks(context: Context, explained: Explained, alignment: AlignmentSet) -> None:
    """Write the correction masks A into the run, beside the segments."""
    ids = [explained.ids[n] for n in explained.usable]
    context.run.write(MASKS, artefacts.tensors_file({"masks": alignment.masks}, ids=ids))


def ground_truth_set(context: Context, explained: Explained) -> AlignmentSet | None:
    """The same pictures with ground-truth masks (an oracle); None where the planted feature is unknown."""
    indices = explained.selection.indices[explained.usable]
    truth = context.splits.train.spurious_masks(indices)
    return None if truth is None else AlignmentSet(indices, truth)


def original_fit(context: Context, model: nn.Module, alignment: AlignmentSet) -> Fit:
    """The original model beside the fits: it stays where none of them is better.

    Args:
        context: of the run.
        model: the original model.
        alignment: whose condemned segments the model is scored with.
    """
    stage = "stand: original"

    def compute() -> Standing:
        with context.console.stage("Scoring the original model on the validation set"):
            return _stand(context, model, _counterfactuals(context, alignment))

    standing, _ = context.run.stage(
        stage,
        fingerprint(
            "stand",
            weights_fingerprint(model),
            context.project.all_data,
            alignment.indices.tolist(),
            tensor_fingerprint(alignment.masks),
        ),
        compute,
        save=lambda _: None,
        load=lambda: Standing(**context.run.stages[stage].summary),
        summarise=asdict,
    )
    return Fit(0.0, standing, model)


def align_with(
    context: Context, name: str, model: nn.Module, alignment: AlignmentSet, original: Standing
) -> list[Fit]:
    """Stage align: fine-tune `model` once for each λ in `align.lambda`; it is not changed.

    Args:
        context: of the run.
        name: of the masks, for files and messages: `ALIGNED` or `GROUND_TRUTH`.
        model: the original model.
        alignment: pictures and masks.
        original: the original model's standing.
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


def choose(context: Context, original: Fit, fits: Sequence[Fit]) -> Fit:
    """The best of the original model and the fits; of equals a fit, and the one with the smaller λ.

    Without a validation set the only fit.
    """
    return _best(context, original, [*fits, original])


def best_fit(context: Context, original: Fit, fits: Sequence[Fit]) -> Fit:
    """The best of the fits, even where the original model is better: for comparing methods."""
    return _best(context, original, fits)


def _best(context: Context, original: Fit, candidates: Sequence[Fit]) -> Fit:
    if original.validation is None:
        return candidates[0]
    by = _can_choose_by(context, original.standing)
    return max(
        candidates,
        key=lambda fit: (fit.standing.score(by, original.standing), fit is not original, -fit.lam),
    )


def how_chosen(context: Context, original: Fit, chosen: Fit) -> str:
    """In words, what decided."""
    if original.validation is None:
        return "given"
    words = {
        "verdicts": "worst and mean accuracy of the validation set's classes, with and without condemned "
        "segments put in",
        "validation": "best plain accuracy on the validation set",
        "groups": "the worst true group on the validation set (reads group labels)",
    }[_can_choose_by(context, original.standing)]
    if chosen is original:
        return f"{words}; nothing was better than the original model, which stays"
    one = len(context.config.align.lam) == 1
    return f"given; compared with the original model by: {words}" if one else words


def _can_choose_by(context: Context, standing: Standing) -> str:
    """`align.choose_by`, or "validation" where no condemned segment is small enough to be pasted."""
    by = context.config.align.choose_by
    return "validation" if by == "verdicts" and standing.verdicts is None else by


def _counterfactuals(context: Context, alignment: AlignmentSet) -> Counterfactuals | None:
    """What can be pasted into validation pictures; None if nothing can, or there is nothing to paste into."""
    if context.splits.validation is None:
        return None
    training, indices = context.splits.train, alignment.indices

    def make(device: torch.device) -> Counterfactuals:
        images = images_on(training, indices, device)
        return Counterfactuals.of(images, training.labels[indices].to(device), alignment.masks.to(device))

    made = preferably_on(context.project.device, make, context.console.note)
    return made if len(made) else None


def _stand(context: Context, model: nn.Module, counterfactuals: Counterfactuals | None) -> Standing:
    validation = context.splits.validation
    if validation is None:
        return Standing()
    outputs = logits(model, validation, note=context.console.note)
    groups = groups_of(validation)
    by_verdicts = None
    if counterfactuals is not None:
        by_verdicts = score_by_verdicts(
            model, validation, counterfactuals, outputs=outputs, seed=context.config.align.seed
        )
    return Standing(
        accuracy(outputs, validation.labels),
        None if by_verdicts is None else by_verdicts.to_dict(),
        None if groups is None else group_accuracy(outputs, validation.labels, groups).to_dict(),
    )


def _fit(
    context: Context,
    name: str,
    model: nn.Module,
    alignment: AlignmentSet,
    counterfactuals: Counterfactuals | None,
    original: Standing,
    lam: float,
) -> Fit:
    settings = context.config.align
    tuning = fine_tuning(context.config, lam)
    by = _can_choose_by(context, original)
    stage = f"align: {name}, λ = {lam:g}"
    path = context.run.file(f"fits/{name.partition(' (')[0].replace(' ', '-')}-lambda-{lam:g}.safetensors")

    def judge(candidate: nn.Module) -> Score:
        return _stand(context, candidate, counterfactuals).score(by, original)

    def compute() -> Fit:
        with context.console.stage(f"Aligning with λ = {lam:g}: {name}"):
            Crew.here().agree(("fine_tune", (alignment, tuning)))
            tuned, history = fine_tune(
                model,
                context.splits.train,
                alignment,
                tuning,
                judge=judge if settings.keep == "best" else None,
                progress=context.console.progress,
                note=context.console.note,
            )
            scores = tuple(epoch.score for epoch in history if epoch.score is not None)
            return Fit(lam, _stand(context, tuned, counterfactuals), tuned, scores)

    def load() -> Fit:
        blank, summary = copied(model), context.run.stages[stage].summary
        scores = tuple(tuple(score) for score in summary["epochs"])
        return Fit(lam, Standing(**summary["standing"]), read_model(blank, path), scores)

    fit, _ = context.run.stage(
        stage,
        fingerprint(
            "align",
            weights_fingerprint(model),
            context.project.all_data,
            alignment.indices.tolist(),
            tensor_fingerprint(alignment.masks),
            asdict(tuning),
            (by, asdict(original)) if settings.keep == "best" else "last",
        ),
        compute,
        save=lambda f: save_checkpoint(f.model, path),
        load=load,
        summarise=lambda f: {"standing": asdict(f.standing), "epochs": f.epochs},
    )
    return fit
