"""The method in order, as in the paper's Figure 1: explain, critique, align, evaluate.

original ─ select ─ explain ─ segment ─ critique ─ judge ─ mask ─ align ─ evaluate
"""

from dataclasses import asdict
from typing import Any

from lvlm_va.critique.review import Panel
from lvlm_va.models.checkpoint import save_checkpoint
from lvlm_va.stages.alignment import (
    ALIGNED,
    GROUND_TRUTH,
    Fit,
    align_with,
    alignment_set,
    check_choice,
    choose,
    ground_truth_set,
    validation_accuracy,
)
from lvlm_va.stages.context import Context
from lvlm_va.stages.evaluation import before_and_after, measure, verdict_report, write_metrics
from lvlm_va.stages.explained import Explained, explain
from lvlm_va.stages.original import original_model
from lvlm_va.stages.verdicts import Verdicts, collect_verdicts, open_store

__all__ = ["run_pipeline"]

ORIGINAL = "original"


def run_pipeline(context: Context, panel: Panel) -> dict[str, Any]:
    """Run all stages whose inputs changed, and return what metrics.json says.

    Args:
        context: what to work on, and where.
        panel: critic and judge.

    Raises:
        LvlmVaError: whatever the user can mend; what was done before is kept.
    """
    check_choice(context)
    original = original_model(context)
    explained = explain(context, original)
    verdicts = collect_verdicts(context, explained, panel)

    unaligned = Fit(0.0, validation_accuracy(context, original), original)
    masks = alignment_set(context, explained, verdicts.in_force)
    if bool(masks.masks.any()):
        fits = align_with(context, ALIGNED, original, masks)
    else:
        context.console.note("No segment was condemned: there is nothing to align, the original model stays.")
        fits = [unaligned]
    aligned = choose(fits)
    save_checkpoint(aligned.model, context.run.file("aligned.safetensors"))

    models = {ORIGINAL: measure(context, ORIGINAL, unaligned)}
    curves = {ALIGNED: [measure(context, ALIGNED, fit) for fit in fits]}
    models[ALIGNED] = curves[ALIGNED][fits.index(aligned)]
    bound = ground_truth_set(context, explained) if context.config.evaluate.bounds else None
    if bound is not None:
        fits = align_with(context, GROUND_TRUTH, original, bound)
        curves[GROUND_TRUTH] = [measure(context, GROUND_TRUTH, fit) for fit in fits]
        models[GROUND_TRUTH] = curves[GROUND_TRUTH][fits.index(choose(fits))]
    before_and_after(context, original, aligned.model)

    metrics = {
        "data": _data(context),
        "selection": _selection(explained),
        "attribution": _attribution(explained),
        "verdicts": _critic(panel)
        | verdict_report(context, explained, verdicts.in_force)
        | _overruled(verdicts),
        "models": models,
        "lambda": {
            "chosen": aligned.lam,
            "how": _how_chosen(context, aligned is unaligned),
            "curves": curves,
        },
        "costs": _costs(context),
    }
    write_metrics(context, metrics)
    return metrics


def _data(context: Context) -> dict[str, Any]:
    splits = context.splits
    return {
        "name": splits.name,
        "source": splits.source,
        "planted": splits.planted,
        "classes": list(splits.class_names),
        "train": len(splits.train),
        "validation": 0 if splits.validation is None else len(splits.validation),
        "tests": {name: len(pictures) for name, pictures in splits.tests.items()},
        "set_aside": dict(splits.set_aside),
        "leaks": [asdict(leak) for leak in splits.leaks],
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


def _how_chosen(context: Context, nothing_to_align: bool) -> str:
    if nothing_to_align:
        return "nothing was condemned: the original model stays"
    if len(context.config.align.lam) == 1:
        return "given"
    return "best plain accuracy on the validation set"


def _costs(context: Context) -> dict[str, Any]:
    with open_store(context.run) as store:
        questions = [asdict(cost) for cost in store.costs()]
    stages = [
        {"stage": name, "seconds": record.seconds, "peak_gib": record.peak_gib}
        for name, record in context.run.stages_used.items()
    ]
    return {"questions": questions, "stages": stages}
