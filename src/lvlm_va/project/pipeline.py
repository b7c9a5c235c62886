"""The method in order, as in the paper's Figure 1: explain, critique, align, evaluate.

original ─ select ─ explain ─ segment ─ critique ─ judge ─┬─ mask ─ align ─ evaluate
                                                          └─ diagnosis
"""

from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from lvlm_va.critique.review import Panel
from lvlm_va.models.adapter import Adapted
from lvlm_va.models.checkpoint import save_checkpoint
from lvlm_va.project.stages.alignment import (
    ALIGNED,
    GROUND_TRUTH,
    ORIGINAL,
    align_with,
    alignment_set,
    check_choice,
    choose,
    ground_truth_set,
    how_chosen,
    keep_masks,
    original_fit,
)
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.evaluation import before_and_after, measure, verdict_report, write_metrics
from lvlm_va.project.stages.explanation import Explained, explain
from lvlm_va.project.stages.original import original_model
from lvlm_va.project.stages.regions import region_finder
from lvlm_va.project.stages.verdicts import Verdicts, collect_verdicts, open_store

__all__ = ["run_diagnosis", "run_pipeline"]


def run_pipeline(context: Context, panel: Panel) -> dict[str, Any]:
    """Run all stages whose inputs changed, and return what metrics.json says.

    Args:
        context: what to work on, and where.
        panel: critic and judge.

    Raises:
        LvlmVaError: whatever the user can mend; what was done before is kept.
    """
    check_choice(context)
    original, explained, verdicts = _critique(context, panel, to_align=True)
    masks = alignment_set(context, explained, verdicts.in_force)
    keep_masks(context, explained, masks)
    unaligned = original_fit(context, original, masks)
    if bool(masks.masks.any()):
        fits = align_with(context, ALIGNED, original, masks, unaligned.standing)
        aligned = choose(context, unaligned, fits)
        how = how_chosen(context, unaligned, aligned)
        if aligned is unaligned:
            context.console.note(f"The original model stays; chosen by: {how}.")
    else:
        context.console.note("No segment was condemned: there is nothing to align, the original model stays.")
        fits, aligned = [unaligned], unaligned
        how = "nothing was condemned: the original model stays"
    save_checkpoint(aligned.model, context.run.file("aligned.safetensors"))

    models = {ORIGINAL: measure(context, ORIGINAL, unaligned)}
    curves = {ALIGNED: [measure(context, ALIGNED, fit) for fit in fits]}
    models[ALIGNED] = measure(context, ALIGNED, aligned)
    bound = ground_truth_set(context, explained) if context.config.evaluate.bounds else None
    if bound is not None:
        fits = align_with(context, GROUND_TRUTH, original, bound, unaligned.standing)
        curves[GROUND_TRUTH] = [measure(context, GROUND_TRUTH, fit) for fit in fits]
        models[GROUND_TRUTH] = measure(context, GROUND_TRUTH, choose(context, unaligned, fits))
    before_and_after(context, original, aligned.model)

    metrics = _what_was_judged(context, panel, explained, verdicts) | {
        "models": models,
        "lambda": {
            "chosen": aligned.lam,
            "how": how,
            "original_stays": aligned is unaligned,
            "curves": curves,
        },
        "costs": _costs(context),
    }
    write_metrics(context, metrics)
    return metrics


def run_diagnosis(context: Context, panel: Panel) -> dict[str, Any]:
    """Run the stages before alignment, and return what was measured: metrics.json without its second half.

    Args:
        context: what to work on, and where.
        panel: critic and judge.

    Raises:
        LvlmVaError: whatever the user can mend; what was done before is kept.
    """
    original, explained, verdicts = _critique(context, panel, to_align=False)
    unaligned = original_fit(context, original, alignment_set(context, explained, verdicts.in_force))
    return _what_was_judged(context, panel, explained, verdicts) | {
        "models": {ORIGINAL: measure(context, ORIGINAL, unaligned)},
        "costs": _costs(context),
    }


def _critique(context: Context, panel: Panel, *, to_align: bool) -> tuple[nn.Module, Explained, Verdicts]:
    """The half of the method that alignment and diagnosis share."""
    # What segments may be missing, which is better said before hours of training.
    region_finder(context.config.explain, context.project.device)
    original = original_model(context, to_align=to_align)
    explained = explain(context, original)
    return original, explained, collect_verdicts(context, explained, panel)


def _what_was_judged(
    context: Context, panel: Panel, explained: Explained, verdicts: Verdicts
) -> dict[str, Any]:
    return {
        "data": _data(context),
        "model": _model(context),
        "selection": _selection(explained),
        "attribution": _attribution(explained),
        "verdicts": _critic(panel)
        | verdict_report(context, explained, verdicts.in_force)
        | {"propagation": verdicts.propagation}
        | _overruled(verdicts),
    }


def _data(context: Context) -> dict[str, Any]:
    splits = context.splits
    return {
        "name": splits.name,
        "source": splits.source,
        "planted": splits.planted,
        "classes": list(splits.class_names),
        "input": list(splits.train.images(torch.tensor([0])).shape[1:]),
        "train": len(splits.train),
        "validation": 0 if splits.validation is None else len(splits.validation),
        "tests": {name: len(pictures) for name, pictures in splits.tests.items()},
        "set_aside": dict(splits.set_aside),
        "leaks": [asdict(leak) for leak in splits.leaks],
    }


def _model(context: Context) -> dict[str, Any]:
    project = context.project
    return {
        "name": context.config.model.name,
        "initial_weights": project.initial_weights,
        "trained_here": not project.trained,
        "normalise": project.model.normalisation if isinstance(project.model, Adapted) else None,
    }


def _selection(explained: Explained) -> dict[str, Any]:
    selection, segmentation = explained.selection, explained.segmentation
    return {
        "strategy": selection.strategy,
        "pictures": len(selection.indices),
        "per_class": list(selection.class_counts),
        "spurious_share": selection.spurious_share,
        "set_aside": {explained.ids[n]: reason for n, reason in segmentation.set_aside.items()},
    }


def _attribution(explained: Explained) -> dict[str, Any]:
    error = explained.attribution.completeness_error
    return {
        "method": explained.attribution.method,
        "completeness_error": {"largest": float(error.max()), "median": float(error.median())},
    }


def _critic(panel: Panel) -> dict[str, Any]:
    return {
        "critic": panel.critic.name,
        "critic_kind": panel.critic.kind,
        "judge": panel.judge.name,
        "judge_kind": panel.judge.kind,
    }


def _overruled(verdicts: Verdicts) -> dict[str, Any]:
    return {
        "overruled": [
            {
                "image_id": o.person.image_id,
                "segment": o.person.segment,
                "critic": o.critic.spurious,
                "person": o.person.spurious,
                "author": o.person.author,
                "reason": o.person.reason,
            }
            for o in verdicts.overruled
        ]
    }


def _costs(context: Context) -> dict[str, Any]:
    with open_store(context.run) as store:
        questions = [asdict(cost) for cost in store.costs()]
    stages = [
        {"stage": name, "seconds": record.seconds, "peak_gib": record.peak_gib}
        for name, record in context.run.stages_used.items()
    ]
    return {"questions": questions, "stages": stages}
