"""From verdicts to the aligned model: masks, one fine-tuning per λ, and the choice among them (Sec. 4.3)."""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from lvlm_va.alignment.masks import Extent, correction_masks, things_within, tighten, verdict_matrix
from lvlm_va.alignment.training import AlignmentSet, FineTuning, fine_tune
from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import ConfigError
from lvlm_va.evaluate.accuracy import accuracy, logits
from lvlm_va.models.checkpoint import save_checkpoint
from lvlm_va.run import fingerprint
from lvlm_va.stages.context import Context, read_model, tensor_fingerprint, weights_fingerprint
from lvlm_va.stages.explained import Explained, as_seen

__all__ = [
    "ALIGNED",
    "GROUND_TRUTH",
    "Fit",
    "align_with",
    "alignment_set",
    "check_choice",
    "choose",
    "ground_truth_set",
    "validation_accuracy",
]

ALIGNED = "aligned"
GROUND_TRUTH = "ground-truth masks (oracle)"


@dataclass(frozen=True, eq=False)
class Fit:
    """One fine-tuning.

    Attributes:
        lam: λ.
        validation: accuracy on the validation set, in [0, 1]; None where there is none.
        model: the fine-tuned model, in evaluation mode.
    """

    lam: float
    validation: float | None
    model: nn.Module


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


def ground_truth_set(context: Context, explained: Explained) -> AlignmentSet | None:
    """The same pictures with ground-truth masks (an oracle); None where the planted feature is unknown."""
    indices = explained.selection.indices[explained.usable]
    truth = context.splits.train.spurious_masks(indices)
    return None if truth is None else AlignmentSet(indices, truth)


def align_with(context: Context, name: str, model: nn.Module, alignment: AlignmentSet) -> list[Fit]:
    """Stage align: fine-tune `model` once for each λ in `align.lambda`; it is not changed.

    Args:
        context: of the run.
        name: of the masks, for files and messages: `ALIGNED` or `GROUND_TRUTH`.
        model: the original model.
        alignment: pictures and masks.
    """
    return [_fit(context, name, model, alignment, lam) for lam in context.config.align.lam]


def check_choice(context: Context) -> None:
    """Make sure, before any work, that λ can be chosen.

    Raises:
        ConfigError: if there are several and no validation set.
    """
    if len(context.config.align.lam) > 1 and context.splits.validation is None:
        raise ConfigError("align.lambda has several values, but there is no validation set: give one λ")


def choose(fits: Sequence[Fit]) -> Fit:
    """The fit with the best validation accuracy; of equals the one with the smaller λ."""
    return max(fits, key=lambda fit: (fit.validation or 0.0, -fit.lam))


def validation_accuracy(context: Context, model: nn.Module) -> float | None:
    """Plain accuracy on the validation set, in [0, 1]; None where there is none."""
    validation = context.splits.validation
    return None if validation is None else accuracy(logits(model, validation), validation.labels)


def _fit(context: Context, name: str, model: nn.Module, alignment: AlignmentSet, lam: float) -> Fit:
    settings = context.config.align
    tuning = FineTuning(lam=lam, **settings.model_dump(exclude={"lam", "extent"}))
    stage = f"align: {name}, λ = {lam:g}"
    path = context.run.file(f"fits/{name.partition(' (')[0].replace(' ', '-')}-lambda-{lam:g}.safetensors")

    def compute() -> Fit:
        with context.console.stage(f"Aligning with λ = {lam:g}: {name}"):
            tuned, _ = fine_tune(
                model, context.splits.train, alignment, tuning, progress=context.console.progress
            )
            return Fit(lam, validation_accuracy(context, tuned), tuned)

    def load() -> Fit:
        blank = copy.deepcopy(model)
        return Fit(lam, context.run.stages[stage].summary["validation"], read_model(blank, path))

    fit, _ = context.run.stage(
        stage,
        fingerprint(
            "align",
            weights_fingerprint(model),
            context.project.all_data,
            alignment.indices.tolist(),
            tensor_fingerprint(alignment.masks),
            asdict(tuning),
        ),
        compute,
        save=lambda f: save_checkpoint(f.model, path),
        load=load,
        summarise=lambda f: {"validation": f.validation},
    )
    return fit
