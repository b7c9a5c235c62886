"""Measure every model the same way, and explain the same images before and after (Sec. 5.1, 5.2)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lvlm_va.alignment.selection import Candidate
from lvlm_va.critique.verdict import Verdict
from lvlm_va.data.counterfactual_pairs import counterfactual_pairs
from lvlm_va.data.imageset import ImageSet, groups_of, relevant_masks
from lvlm_va.data.labels import several_labels
from lvlm_va.evaluate.accuracy import accuracy, label_accuracy
from lvlm_va.evaluate.alignment import mu_align
from lvlm_va.evaluate.calibration import calibration
from lvlm_va.evaluate.groups import group_accuracy, training_weighted
from lvlm_va.evaluate.ranking import ranking
from lvlm_va.evaluate.sensitivity import sensitivity
from lvlm_va.evaluate.verdicts import segments_beside, segments_with_feature, verdict_quality
from lvlm_va.models.likelihood import Likelihood
from lvlm_va.models.predict import logits
from lvlm_va.project.fingerprints import weights_fingerprint
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.explained import Explained, answer_names, seen
from lvlm_va.project.stages.explanation import (
    attribution_settings,
    explain_classes,
    predicted_classes,
    training_baselines,
)
from lvlm_va.run import artefacts
from lvlm_va.run.directory import fingerprint
from lvlm_va.run.files import EXPLANATIONS
from lvlm_va.run.metrics import (
    METRICS_FORMAT,
    GroupMetrics,
    ModelMetrics,
    MuAlignMetrics,
    Quality,
    SensitivityMetrics,
    ValidationMetrics,
    VerdictCounts,
)

__all__ = ["before_and_after", "measure", "verdict_counts"]

_TOGETHER = 256  # images compared with the ground truth at once


def measure(context: Context, name: str, candidate: Candidate) -> ModelMetrics:
    """Accuracy and calibration on every test set; on the main one also μ_align and confounder sensitivity.

    μ_align always compares with random training images, whatever `explain.baseline` says, so that runs can be
    compared. It is None where the planted feature is not known, sensitivity where it cannot be put in and
    taken out, or images have several labels, of which it would not be clear which may flip.
    """
    settings = context.config.evaluate
    stage = f"evaluate: {name}, λ = {candidate.lam:g}"

    def compute() -> ModelMetrics:
        with context.console.stage(f"Evaluating {name}, λ = {candidate.lam:g}"):
            tests, predict = context.splits.tests, _predict(context, candidate.model)
            outputs = {test: predict(images) for test, images in tests.items()}
            by_group = {
                test: group_accuracy(outputs[test], images.labels, groups)
                for test, images in tests.items()
                if len(images) and (groups := groups_of(images)) is not None
            }
            ranked = {
                test: ranking(outputs[test], images.labels, images.class_names)
                for test, images in tests.items()
            }
            training = groups_of(context.splits.train)
            return ModelMetrics(
                lam=candidate.lam,
                validation=ValidationMetrics.model_validate(candidate.validation),
                epochs=candidate.epochs,
                accuracy={test: accuracy(outputs[test], images.labels) for test, images in tests.items()},
                groups={test: GroupMetrics.model_validate(found) for test, found in by_group.items()},
                training_weighted={}
                if training is None
                else {test: training_weighted(found, training) for test, found in by_group.items()},
                ece={test: calibration(outputs[test], images.labels).ece for test, images in tests.items()},
                accuracy_by_label={
                    test: label_accuracy(outputs[test], images.labels, images.class_names)
                    for test, images in tests.items()
                    if context.splits.several_labels
                },
                auroc={test: found.auroc for test, found in ranked.items()},
                average_precision={test: found.average_precision for test, found in ranked.items()},
                mu_align=_mu_align(context, candidate.model),
                sensitivity=_sensitivity(context, candidate.model, outputs),
            )

    result, _ = context.run.stage(
        stage,
        fingerprint(
            "evaluate",
            METRICS_FORMAT,
            weights_fingerprint(candidate.model),
            context.inputs.all_data,
            candidate.lam,
            asdict(candidate.validation),
            candidate.epochs,
            "μ_align of the label's class",
            settings.model_dump(include={"num_images", "seed"}),
            attribution_settings(context),
        ),
        compute,
        save=lambda _: None,
        load=lambda: ModelMetrics.model_validate(dict(context.run.stages[stage].summary)),
        summarise=lambda measured: measured.model_dump(mode="json"),
    )
    return result


def verdict_counts(context: Context, explained: Explained, verdicts: Sequence[Verdict]) -> VerdictCounts:
    """How often the critic condemned what, and how often rightly where that is known.

    `quality` is against segments that contain part of the planted feature; `quality_either`, where the set
    also knows what is relevant (the lesion), against those that do or lie beside it.
    """
    J, usable = explained.segmentation.pi.shape[1], explained.usable
    row = {explained.ids[n]: i for i, n in enumerate(usable)}
    codes = torch.full((len(usable), J), -2)
    for verdict in verdicts:
        code = -1 if verdict.spurious is None else int(verdict.spurious)
        codes[row[verdict.image_id], verdict.segment - 1] = code
    quality = quality_either = None
    planted, beside = _truly_spurious(context.splits.train, explained, usable)
    if planted is not None:
        quality = Quality.model_validate(verdict_quality(codes, planted))
        if beside is not None:
            quality_either = Quality.model_validate(verdict_quality(codes, planted | beside))
    return VerdictCounts(
        segments=int((codes != -2).sum()),
        spurious=int((codes == 1).sum()),
        valid=int((codes == 0).sum()),
        unscored=int((codes == -1).sum()),
        images=len(usable),
        images_with_condemned_segment=int((codes == 1).any(1).sum()),
        quality=quality,
        quality_either=quality_either,
    )


def _truly_spurious(
    images: ImageSet, explained: Explained, usable: list[int]
) -> tuple[Tensor | None, Tensor | None]:
    """Which segments hold part of the planted feature, and which lie beside what is relevant.

    Each (n, J) bool; None where that is not known.
    """
    J = explained.segmentation.pi.shape[1]
    planted, beside = [], []
    # A million pixels of each of J segments and 10,000 images would be gigabytes.
    for first in range(0, max(1, len(usable)), _TOGETHER):
        some = usable[first : first + _TOGETHER]
        indices, labels = explained.selection.indices[some], explained.segmentation.labels[some]
        truth, relevant = images.spurious_masks(indices), relevant_masks(images, indices)
        if truth is not None:
            planted.append(segments_with_feature(labels, truth, J))
        if relevant is not None:
            beside.append(segments_beside(labels, relevant, J))
    return torch.cat(planted) if planted else None, torch.cat(beside) if beside else None


def before_and_after(context: Context, before: nn.Module, after: nn.Module, *, count: int = 6) -> None:
    """Explain some test images with both models (Fig. 4); written to explanations.safetensors.

    The first images of the main test set, one class after the other, that the original model gets wrong
    and the aligned one right; then, if these are too few, any.
    """
    if not context.splits.tests:
        return
    test_set = next(iter(context.splits.tests.values()))

    def compute() -> tuple[dict[str, Tensor], dict[str, Any]]:
        with context.console.stage("Explaining test images before and after"):
            chosen, labels, explained = _telling(test_set, before, after, count)
            images = test_set.images(chosen)
            tensors = {
                "images": seen(test_set, chosen),
                "labels": labels,
            }
            for name, model in (("before", before), ("after", after)):
                predicted = predicted_classes(context, model, images, explained)
                of = predicted if explained is None else explained
                attribution = explain_classes(context, model, images, of, training_baselines(context))
                tensors[f"{name}_attribution"] = attribution.values
                tensors[f"{name}_predicted"] = predicted
            truth = test_set.spurious_masks(chosen)
            if truth is not None:
                tensors["spurious"] = truth
            ids = [test_set.ids[i] for i in chosen.tolist()]
            return tensors, {"ids": ids, "class_names": list(answer_names(context.splits))}

    path = context.run.file(EXPLANATIONS)
    context.run.stage(
        "explain before and after",
        fingerprint(
            "before and after",
            weights_fingerprint(before),
            weights_fingerprint(after),
            context.inputs.all_data,
            attribution_settings(context),
            count,
        ),
        compute,
        save=lambda made: context.run.write(EXPLANATIONS, artefacts.tensors_file(made[0], **made[1])),
        load=lambda: artefacts.read_tensors(path),
    )


def _predict(context: Context, model: nn.Module) -> Callable[[ImageSet], Tensor]:
    return partial(logits, model, note=context.console.note)


def _mu_align(context: Context, model: nn.Module) -> MuAlignMetrics | None:
    settings = context.config.evaluate
    if not context.splits.tests:
        return None
    images = next(iter(context.splits.tests.values()))
    generator = torch.Generator().manual_seed(settings.seed)
    chosen = torch.randperm(len(images), generator=generator)[: settings.num_images].sort().values
    truth = images.spurious_masks(chosen)
    if truth is None:
        return None
    planted = truth.flatten(1).any(1)
    if not bool(planted.any()):
        return None
    rows, truth = chosen[planted], truth[planted]
    classes = images.labels[rows]
    if context.splits.several_labels:
        # Every label that an image has, so that all models are asked the same.
        n_of, classes = (classes == 1).nonzero(as_tuple=True)
        if not len(n_of):
            return None
        rows, truth = rows[n_of], truth[n_of]
    attribution = explain_classes(context, model, images.images(rows), classes, training_baselines(context))
    result = mu_align(attribution.values, truth)
    n = len(rows) - result.undefined
    return MuAlignMetrics(mean=result.mean, std=result.std, n=n, undefined=result.undefined)


def _sensitivity(
    context: Context, model: nn.Module, outputs: Mapping[str, Tensor]
) -> SensitivityMetrics | None:
    """On the main test set; None where its planted feature cannot be put in and taken out."""
    main = next(iter(context.splits.tests.items()), None)
    if context.splits.several_labels or main is None or (known := counterfactual_pairs(main[1])) is None:
        return None
    name, images = main
    predict = partial(logits, model, batch=128, note=context.console.note)
    return SensitivityMetrics.model_validate(sensitivity(predict, images, known, outputs=outputs[name]))


def _telling(
    images: ImageSet, before: nn.Module, after: nn.Module, count: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(n ≤ count,) images that show the difference, from as many classes as possible.

    Returns:
        their indices, what they are, and of several labels which of them is explained: of those that the
        image has the one of which the original model is surest, else of all. What an image is is then the
        presence or absence of that label, see `answer_names`.
    """
    was, now = logits(before, images), logits(after, images)
    labels, explained = images.labels, None
    if several_labels(labels):
        own = Likelihood.explained(was, labels)
        explained = torch.where(own >= 0, own, was.argmax(1))
        labels = torch.where(own >= 0, own, explained + was.shape[1])
        wrong = Likelihood.answers(was, explained) != labels
        right = Likelihood.answers(now, explained) == labels
    else:
        wrong, right = was.argmax(1) != labels, now.argmax(1) == labels
    preference = (wrong & right).int() * 2 + right.int()
    order = torch.argsort(preference, descending=True, stable=True).tolist()
    best: dict[int, list[int]] = {}
    for index in order:
        best.setdefault(int(labels[index]), []).append(index)
    rounds = max(len(indices) for indices in best.values())
    turns = [indices[r] for r in range(rounds) for _, indices in sorted(best.items()) if r < len(indices)]
    # The first of every class may be less telling than the second of another: prefer by telling, then turn.
    turns.sort(key=lambda index: -int(preference[index]))
    chosen = torch.tensor(turns[:count], dtype=torch.int64)
    return chosen, labels[chosen], None if explained is None else explained[chosen]
