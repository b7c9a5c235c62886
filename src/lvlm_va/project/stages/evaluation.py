"""Measure every model the same way, and explain the same pictures before and after (Sec. 5.1)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from lvlm_va.critique.verdict import Verdict
from lvlm_va.data.counterparts import counterparts
from lvlm_va.data.imageset import ImageSet, groups_of, relevant_masks
from lvlm_va.evaluate.alignment import mu_align
from lvlm_va.evaluate.calibration import calibration
from lvlm_va.evaluate.groups import group_accuracy, training_weighted
from lvlm_va.evaluate.sensitivity import sensitivity
from lvlm_va.evaluate.verdicts import segments_beside, segments_with_feature, verdict_quality
from lvlm_va.models.predict import accuracy, logits
from lvlm_va.project.stages.alignment import Fit
from lvlm_va.project.stages.context import Context, weights_fingerprint
from lvlm_va.project.stages.explanation import (
    Explained,
    as_seen,
    attribution_settings,
    explain_predictions,
    training_baselines,
)
from lvlm_va.run import artefacts
from lvlm_va.run.directory import fingerprint

__all__ = ["EXPLANATIONS", "before_and_after", "measure", "verdict_report", "write_metrics"]

EXPLANATIONS = "explanations.safetensors"


def measure(context: Context, name: str, fit: Fit) -> dict[str, Any]:
    """Accuracy and calibration on every test set; on the main one also μ_align and confounder sensitivity.

    μ_align always compares with random training pictures, whatever `explain.baseline` says, so that runs
    can be compared.

    Returns:
        {"lambda", "validation", "standing", "epochs", "accuracy": {test set: share},
        "groups": {test set: by group}, "training_weighted": {test set: share or None}, "ece": {test set:
        error}, "mu_align": {"mean", "std", "n"} or None, "sensitivity": as `Sensitivity.to_dict` has it, or
        None}; accuracies are plain averages over pictures, groups as `GroupAccuracy.to_dict` has them, for
        test sets whose groups are known, and weighted where those of the training set are; "epochs" are the
        scores after each epoch, where epochs were scored. μ_align is None where the planted feature is not
        known, sensitivity where it cannot be put in and taken out.
    """
    settings = context.config.evaluate
    stage = f"evaluate: {name}, λ = {fit.lam:g}"

    def compute() -> dict[str, Any]:
        with context.console.stage(f"Evaluating {name}, λ = {fit.lam:g}"):
            tests = context.splits.tests
            note = context.console.note
            outputs = {test: logits(fit.model, pictures, note=note) for test, pictures in tests.items()}
            by_group = {
                test: group_accuracy(outputs[test], pictures.labels, groups)
                for test, pictures in tests.items()
                if (groups := groups_of(pictures)) is not None
            }
            training = groups_of(context.splits.train)
            return {
                "lambda": fit.lam,
                "validation": fit.validation,
                "standing": asdict(fit.standing),
                "epochs": [list(score) for score in fit.epochs],
                "accuracy": {
                    test: accuracy(outputs[test], pictures.labels) for test, pictures in tests.items()
                },
                "groups": {test: found.to_dict() for test, found in by_group.items()},
                "training_weighted": {}
                if training is None
                else {test: training_weighted(found, training) for test, found in by_group.items()},
                "ece": {
                    test: calibration(outputs[test], pictures.labels).ece for test, pictures in tests.items()
                },
                "mu_align": _mu_align(context, fit.model),
                "sensitivity": _sensitivity(context, fit.model, outputs),
            }

    result, _ = context.run.stage(
        stage,
        fingerprint(
            "evaluate, with calibration and sensitivity",
            weights_fingerprint(fit.model),
            context.project.all_data,
            fit.lam,
            asdict(fit.standing),
            fit.epochs,
            settings.model_dump(include={"pictures", "seed"}),
            attribution_settings(context),
        ),
        compute,
        save=lambda _: None,
        load=lambda: dict(context.run.stages[stage].summary),
        summarise=lambda r: r,
    )
    return result


def verdict_report(context: Context, explained: Explained, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """How often the critic condemned what, and how often rightly where that is known.

    "quality" is against segments that contain part of the planted feature; "quality_either", where the set
    also knows what is relevant (the lesion), against those that do or lie beside it.
    """
    J, usable = context.config.explain.segments, explained.usable
    row = {explained.ids[n]: i for i, n in enumerate(usable)}
    codes = torch.full((len(usable), J), -2)
    for verdict in verdicts:
        code = -1 if verdict.spurious is None else int(verdict.spurious)
        codes[row[verdict.image_id], verdict.segment - 1] = code
    report: dict[str, Any] = {
        "segments": int((codes != -2).sum()),
        "spurious": int((codes == 1).sum()),
        "valid": int((codes == 0).sum()),
        "unscored": int((codes == -1).sum()),
        "pictures": len(usable),
        "pictures_with_condemned_segment": int((codes == 1).any(1).sum()),
        "quality": None,
    }
    indices, labels = explained.selection.indices[usable], explained.segmentation.labels[usable]
    truth = context.splits.train.spurious_masks(indices)
    if truth is None:
        return report
    planted = segments_with_feature(labels, truth, J)
    report["quality"] = verdict_quality(codes, planted).to_dict()
    relevant = relevant_masks(context.splits.train, indices)
    if relevant is not None:
        either = planted | segments_beside(labels, relevant, J)
        report["quality_either"] = verdict_quality(codes, either).to_dict()
    return report


def before_and_after(context: Context, before: nn.Module, after: nn.Module, *, count: int = 6) -> None:
    """Explain some test pictures with both models (Fig. 4); written to explanations.safetensors.

    The first pictures of the main test set, one class after the other, that the original model gets wrong
    and the aligned one right; then, if these are too few, any.
    """
    if not context.splits.tests:
        return
    pictures = next(iter(context.splits.tests.values()))

    def compute() -> tuple[dict[str, Tensor], dict[str, Any]]:
        with context.console.stage("Explaining test pictures before and after"):
            chosen = _telling(pictures, before, after, count)
            images = pictures.images(chosen)
            tensors = {
                "images": torch.stack([as_seen(image) for image in images]),
                "labels": pictures.labels[chosen],
            }
            for name, model in (("before", before), ("after", after)):
                attribution, predicted = explain_predictions(
                    context, model, images, training_baselines(context)
                )
                tensors[f"{name}_attribution"] = attribution.values
                tensors[f"{name}_predicted"] = predicted
            truth = pictures.spurious_masks(chosen)
            if truth is not None:
                tensors["spurious"] = truth
            ids = [pictures.ids[i] for i in chosen.tolist()]
            return tensors, {"ids": ids, "class_names": list(context.splits.class_names)}

    path = context.run.file(EXPLANATIONS)
    context.run.stage(
        "explain before and after",
        fingerprint(
            "before and after",
            weights_fingerprint(before),
            weights_fingerprint(after),
            context.project.all_data,
            attribution_settings(context),
            count,
        ),
        compute,
        save=lambda made: context.run.write(EXPLANATIONS, artefacts.tensors_file(made[0], **made[1])),
        load=lambda: artefacts.read_tensors(path),
    )


def write_metrics(context: Context, metrics: dict[str, Any]) -> None:
    """metrics.json: everything measured, for people and programs."""
    context.run.write("metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())


def _mu_align(context: Context, model: nn.Module) -> dict[str, float] | None:
    settings = context.config.evaluate
    if not context.splits.tests:
        return None
    pictures = next(iter(context.splits.tests.values()))
    generator = torch.Generator().manual_seed(settings.seed)
    chosen = torch.randperm(len(pictures), generator=generator)[: settings.pictures].sort().values
    truth = pictures.spurious_masks(chosen)
    if truth is None:
        return None
    planted = truth.flatten(1).any(1)
    if not bool(planted.any()):
        return None
    attribution, _ = explain_predictions(
        context, model, pictures.images(chosen[planted]), training_baselines(context)
    )
    result = mu_align(attribution.values, truth[planted])
    n = int(planted.sum()) - result.undefined
    return {"mean": result.mean, "std": result.std, "n": n, "undefined": result.undefined}


def _sensitivity(
    context: Context, model: nn.Module, outputs: Mapping[str, Tensor]
) -> dict[str, object] | None:
    """On the main test set; None where its planted feature cannot be put in and taken out."""
    main = next(iter(context.splits.tests.items()), None)
    if main is None or (known := counterparts(main[1])) is None:
        return None
    name, pictures = main
    found = sensitivity(model, pictures, known, outputs=outputs[name], note=context.console.note)
    return found.to_dict()


def _telling(pictures: ImageSet, before: nn.Module, after: nn.Module, count: int) -> Tensor:
    """(≤ count,) indices of pictures that show the difference, from as many classes as possible."""
    wrong = logits(before, pictures).argmax(1) != pictures.labels
    right = logits(after, pictures).argmax(1) == pictures.labels
    preference = (wrong & right).int() * 2 + right.int()
    order = torch.argsort(preference, descending=True, stable=True).tolist()
    best: dict[int, list[int]] = {}
    for index in order:
        best.setdefault(int(pictures.labels[index]), []).append(index)
    rounds = max(len(indices) for indices in best.values())
    turns = [indices[r] for r in range(rounds) for _, indices in sorted(best.items()) if r < len(indices)]
    # The first of every class may be less telling than the second of another: prefer by telling, then turn.
    turns.sort(key=lambda index: -int(preference[index]))
    return torch.tensor(turns[:count], dtype=torch.int64)
