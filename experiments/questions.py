"""Asking about some images only: what it saves, and what the propagated verdicts are worth."""

from dataclasses import asdict, replace
from typing import Any

from lvlm_va.critique.estimate import estimate
from lvlm_va.critique.pricing import BATCH_DISCOUNT
from lvlm_va.critique.review import CriticJudge
from lvlm_va.project.critics import make_critic_judge
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.explained import Explained
from lvlm_va.project.stages.query_plan import plan_questions
from lvlm_va.project.stages.verdicts import Verdicts, collect_verdicts
from lvlm_va.run.files import open_store

__all__ = ["measure_questions"]

_PRICED = "openai:gpt-4o"


def measure_questions(
    context: Context, explained: Explained, collected: Verdicts, critic_judge: CriticJudge
) -> dict[str, Any]:
    """What was asked, and how propagated verdicts compare with those that the critic would have given.

    Args:
        context: whose `critique.fraction` says how many images are asked about.
        explained: the images.
        collected: one verdict a segment, asked or propagated.
        critic_judge: who gave them.

    Returns:
        {"images", "asked": images; "calls", "usd": estimated for gpt-4o asked online, None where its price
        is not known; "verified": see `QueryPlan.complete`}; where the comparison costs nothing also
        {"same": share of propagated verdicts that are as if asked, "found": share of the segments that the
        critic condemns that propagation condemns, "unscored": share that propagation left open}, over images
        that were not asked about; None where there are none.
    """
    settings, specifications = context.config.critique, context.inputs.specifications
    query_plan = plan_questions(context, explained)
    with open_store(context.run) as store:
        online = settings.model_copy(update={"critic": _PRICED, "prices": {}})
        cost = estimate(query_plan.first, make_critic_judge(online, specifications, by_file=True), store)
    asked = {one.image_id for one in query_plan.first}
    measured = {
        "images": len(query_plan.explained_images),
        "asked": len(asked),
        "calls": cost.critic_calls + cost.judge_calls,
        "usd": None if cost.usd is None else cost.usd / BATCH_DISCOUNT,  # `by_file` prices a batch
        "verified": None if collected.propagation is None else asdict(collected.propagation.verified),
    }
    if "lvlm" in (critic_judge.critic.kind, critic_judge.judge.kind):
        return measured
    config = context.config.model_copy(update={"critique": settings.model_copy(update={"fraction": 1.0})})
    everything = replace(context, inputs=replace(context.inputs, config=config))
    as_if_asked = collect_verdicts(everything, explained, critic_judge).in_force
    ours = {(v.image_id, v.segment): v.spurious for v in collected.in_force}
    pairs = [
        (ours[v.image_id, v.segment], v.spurious)
        for v in as_if_asked
        # What would have been divided was not: it has nothing to be compared with.
        if v.image_id not in asked and v.spurious is not None and (v.image_id, v.segment) in ours
    ]
    scored = [(propagated, theirs) for propagated, theirs in pairs if propagated is not None]
    condemned = [propagated for propagated, theirs in pairs if theirs]
    return measured | {
        "same": sum(a == b for a, b in scored) / len(scored) if scored else None,
        "found": sum(propagated is True for propagated in condemned) / len(condemned) if condemned else None,
        "unscored": 1 - len(scored) / len(pairs) if pairs else None,
    }
