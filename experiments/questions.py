"""Asking about some images only: what it saves, and what the propagated verdicts are worth."""

from dataclasses import asdict, replace
from typing import Any

from lvlm_va.critique.estimate import estimate
from lvlm_va.critique.pricing import BATCH_DISCOUNT
from lvlm_va.critique.review import Panel
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.explanation import Explained
from lvlm_va.project.stages.query_plan import plan_questions
from lvlm_va.project.stages.verdicts import Verdicts, collect_verdicts, make_panel
from lvlm_va.run.files import open_store

__all__ = ["measure_questions"]

_PRICED = "openai:gpt-4o"


def measure_questions(
    context: Context, explained: Explained, collected: Verdicts, panel: Panel
) -> dict[str, Any]:
    """What was asked, and how propagated verdicts compare with those that the critic would have given.

    Args:
        context: whose `critique.ask` says how many images are asked about.
        explained: the images.
        collected: one verdict a segment, asked or propagated.
        panel: who gave them.

    Returns:
        {"images", "asked": images; "calls", "usd": estimated for gpt-4o asked online, None where its price
        is not known; "verified": see `Asking.complete`}; where nobody has to be paid for the comparison also
        {"same": share of propagated verdicts that are as if asked, "found": share of the segments that the
        critic condemns that propagation condemns, "unscored": share that propagation left open}, over images
        that were not asked about; None where there are none.
    """
    settings, specifications = context.config.critique, context.inputs.specifications
    asking = plan_questions(context, explained)
    with open_store(context.run) as store:
        online = settings.model_copy(update={"critic": _PRICED, "prices": {}})
        cost = estimate(asking.first, make_panel(online, specifications, by_file=True), store)
    asked = {subject.image_id for subject in asking.first}
    measured = {
        "images": len(asking.subjects),
        "asked": len(asked),
        "calls": cost.critic_calls + cost.judge_calls,
        "usd": None if cost.usd is None else cost.usd / BATCH_DISCOUNT,  # `by_file` prices a batch
        "verified": None if collected.propagation is None else asdict(collected.propagation.verified),
    }
    if "lvlm" in (panel.critic.kind, panel.judge.kind):
        return measured
    config = context.config.model_copy(update={"critique": settings.model_copy(update={"ask": 1.0})})
    everything = replace(context, inputs=replace(context.inputs, config=config))
    as_if_asked = collect_verdicts(everything, explained, panel).in_force
    pairs = [
        (ours.spurious, theirs.spurious)
        for ours, theirs in zip(collected.in_force, as_if_asked, strict=True)
        if ours.image_id not in asked and theirs.spurious is not None
    ]
    scored = [(ours, theirs) for ours, theirs in pairs if ours is not None]
    condemned = [ours for ours, theirs in pairs if theirs]
    return measured | {
        "same": sum(a == b for a, b in scored) / len(scored) if scored else None,
        "found": sum(ours is True for ours in condemned) / len(condemned) if condemned else None,
        "unscored": 1 - len(scored) / len(pairs) if pairs else None,
    }
