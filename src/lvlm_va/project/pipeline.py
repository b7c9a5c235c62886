"""The method in order, as in the paper's Figure 1: explain, critique, align, evaluate.

original ─ select ─ explain ─ segment ─ critique ─ judge ─┬─ mask ─ align ─ evaluate
                                                          └─ diagnosis
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from lvlm_va.alignment.selection import best, explain_choice
from lvlm_va.critique.review import CriticJudge
from lvlm_va.models.adapter import Adapted
from lvlm_va.project.stages.alignment import (
    align_with,
    alignment_set,
    check_choice,
    ground_truth_set,
    keep_masks,
    original_candidate,
)
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.evaluation import before_and_after, measure, verdict_counts
from lvlm_va.project.stages.explained import Explained
from lvlm_va.project.stages.explanation import explain
from lvlm_va.project.stages.original import original_model, save_model
from lvlm_va.project.stages.segmentation import require_methods
from lvlm_va.project.stages.selection import check_selection
from lvlm_va.project.stages.verdicts import Verdicts, collect_verdicts
from lvlm_va.run.files import ALIGNED, ALIGNED_WEIGHTS, GROUND_TRUTH, ORIGINAL, open_store
from lvlm_va.run.metrics import (
    AttributionMetrics,
    CompletenessError,
    Costs,
    DataMetrics,
    LambdaChoice,
    Measured,
    ModelMetrics,
    OriginalModel,
    Overruling,
    RunMetrics,
    SelectionMetrics,
    StageCosts,
    VerdictMetrics,
    write_metrics,
)
from lvlm_va.training.process_group import ProcessGroup

__all__ = ["run_diagnosis", "run_pipeline"]


def run_pipeline(context: Context, critic_judge: CriticJudge | None) -> tuple[nn.Module, RunMetrics]:
    """Run all stages whose inputs changed; what was measured is also written to metrics.json.

    Args:
        context: what to work on, and where.
        critic_judge: critic and judge; of several processes the main one has them.

    Returns:
        The aligned model, in evaluation mode, and what was measured.

    Raises:
        LvlmVaError: whatever the user can mend; what was done before is kept.
    """
    check_choice(context)
    by, tried = context.config.align.choose_by, len(context.config.align.lam)
    model, explained, verdicts = _critique(context, critic_judge, to_align=True)
    group = ProcessGroup.here()
    masks = group.on_main(lambda: alignment_set(context, explained, verdicts.in_force))
    keep_masks(context, explained, masks)
    original = original_candidate(context, model, masks)
    if bool(masks.masks.any()):
        candidates = align_with(context, ALIGNED, model, masks, original.validation)
        aligned = best([*candidates, original], original, by)
        how = explain_choice(aligned, original, by, tried=tried)
        if aligned is original:
            context.console.note(f"The original model stays; chosen by: {how}.")
    else:
        context.console.note("No segment was condemned: there is nothing to align, the original model stays.")
        candidates, aligned = [original], original
        how = "nothing was condemned: the original model stays"
    if group.is_main:
        save_model(context.run, ALIGNED_WEIGHTS, aligned.model)

    models = {ORIGINAL: measure(context, ORIGINAL, original)}
    curves = {ALIGNED: tuple(measure(context, ALIGNED, one) for one in candidates)}
    models[ALIGNED] = measure(context, ALIGNED, aligned)
    bound = ground_truth_set(context, explained) if context.config.evaluate.bounds else None
    if bound is not None:
        candidates = align_with(context, GROUND_TRUTH, model, bound, original.validation)
        curves[GROUND_TRUTH] = tuple(measure(context, GROUND_TRUTH, one) for one in candidates)
        models[GROUND_TRUTH] = measure(context, GROUND_TRUTH, best([*candidates, original], original, by))
    before_and_after(context, model, aligned.model)

    metrics = RunMetrics(
        **group.on_main(lambda: _measured(context, critic_judge, explained, verdicts, models)),
        lam=LambdaChoice(chosen=aligned.lam, how=how, original_stays=aligned is original, curves=curves),
    )
    write_metrics(context.run, metrics)
    return aligned.model, metrics


def run_diagnosis(context: Context, critic_judge: CriticJudge | None) -> Measured:
    """Run the stages before alignment, and return what was measured.

    Args:
        context: what to work on, and where.
        critic_judge: critic and judge; of several processes the main one has them.

    Raises:
        LvlmVaError: whatever the user can mend; what was done before is kept.
    """
    model, explained, verdicts = _critique(context, critic_judge, to_align=False)
    group = ProcessGroup.here()
    masks = group.on_main(lambda: alignment_set(context, explained, verdicts.in_force))
    original = original_candidate(context, model, masks)
    models = {ORIGINAL: measure(context, ORIGINAL, original)}
    return Measured(**group.on_main(lambda: _measured(context, critic_judge, explained, verdicts, models)))


def _critique(
    context: Context, critic_judge: CriticJudge | None, *, to_align: bool
) -> tuple[nn.Module, Explained, Verdicts]:
    """The half of the method that alignment and diagnosis share."""
    require_methods(context)
    check_selection(context.config.explain, context.splits)
    original = original_model(context, to_align=to_align)
    explained = explain(context, original)
    verdicts = context.run.on_main(
        lambda: collect_verdicts(context, explained, _asked(critic_judge), original)
    )
    return original, verdicts.explained, verdicts


def _asked(critic_judge: CriticJudge | None) -> CriticJudge:
    assert critic_judge is not None, "the main process asks"
    return critic_judge


def _measured(
    context: Context,
    critic_judge: CriticJudge | None,
    explained: Explained,
    verdicts: Verdicts,
    models: Mapping[str, ModelMetrics],
) -> dict[str, Any]:
    """The fields of `Measured`."""
    return {
        "data": _data(context),
        "model": _model(context),
        "selection": _selection(explained),
        "attribution": _attribution(explained),
        "verdicts": _verdicts(context, _asked(critic_judge), explained, verdicts),
        "models": models,
        "costs": _costs(context),
    }


def _data(context: Context) -> DataMetrics:
    splits = context.splits
    return DataMetrics(
        name=splits.name,
        source=splits.source,
        planted=splits.planted,
        classes=tuple(splits.class_names),
        input=splits.in_shape,
        train=len(splits.train),
        validation=0 if splits.validation is None else len(splits.validation),
        tests={name: len(images) for name, images in splits.tests.items()},
        several_labels=splits.several_labels,
        set_aside=dict(splits.set_aside),
        leaks=tuple(splits.leaks),
    )


def _model(context: Context) -> OriginalModel:
    project = context.inputs
    return OriginalModel(
        name=context.config.model.name,
        initial_weights=project.initial_weights,
        trained_here=not project.trained,
        normalise=project.model.normalisation if isinstance(project.model, Adapted) else None,
        head=project.head,
    )


def _selection(explained: Explained) -> SelectionMetrics:
    selection, segmentation = explained.selection, explained.segmentation
    return SelectionMetrics(
        strategy=selection.strategy,
        images=len(selection.indices),
        per_class=tuple(selection.class_counts),
        spurious_share=selection.spurious_share,
        set_aside={explained.ids[n]: reason for n, reason in segmentation.set_aside.items()},
    )


def _attribution(explained: Explained) -> AttributionMetrics:
    error = explained.attribution.completeness_error
    return AttributionMetrics(
        method=explained.attribution.method,
        completeness_error=None
        if bool(error.isnan().any())
        else CompletenessError(largest=float(error.max()), median=float(error.median())),
    )


def _verdicts(
    context: Context, critic_judge: CriticJudge, explained: Explained, verdicts: Verdicts
) -> VerdictMetrics:
    return VerdictMetrics(
        **dict(verdict_counts(context, explained, verdicts.in_force)),
        critic=critic_judge.critic.name,
        critic_kind=critic_judge.critic.kind,
        judge=critic_judge.judge_name,
        judge_kind=critic_judge.judge.kind,
        intervene=critic_judge.intervene,
        split=critic_judge.split,
        propagation=verdicts.propagation,
        overruled=tuple(
            Overruling(
                image_id=o.person.image_id,
                segment=o.person.segment,
                critic=o.critic.spurious,
                person=o.person.spurious,
                author=o.person.author,
                reason=o.person.reason,
            )
            for o in verdicts.overruled
        ),
    )


def _costs(context: Context) -> Costs:
    with open_store(context.run) as store:
        questions = tuple(store.costs())
    stages = tuple(
        StageCosts(stage=name, seconds=record.seconds, peak_gib=record.peak_gib)
        for name, record in context.run.stages_used.items()
    )
    return Costs(questions=questions, stages=stages)
