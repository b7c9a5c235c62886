"""Tables that set the models side by side: by group, and by what accuracy does not say."""

from collections.abc import Mapping, Sequence
from typing import Any

from lvlm_va.project.stages.alignment import ALIGNED, ORIGINAL
from lvlm_va.report.tables import Table
from lvlm_va.report.words import count, percent, points

__all__ = ["dependence_table", "group_tables"]


def group_tables(metrics: Mapping[str, Any], critic: str) -> list[Table]:
    """Accuracy by group before and after alignment, one table for each test set whose groups are known.

    Args:
        metrics: what a run writes to metrics.json.
        critic: its name with what must stand beside it.
    """
    models: Mapping[str, Any] = metrics["models"]
    after = [name for name in models if name != ORIGINAL]
    found = []
    for test in metrics["data"]["tests"]:
        known = {name: model.get("groups", {}).get(test) for name, model in models.items()}
        if None in known.values():
            continue
        before = known[ORIGINAL]
        rows = [
            (group, f"{n:,}", *_changes(*(known[name]["accuracy"].get(group) for name in (ORIGINAL, *after))))
            for group, n in before["pictures"].items()
        ]
        n = f"{sum(before['pictures'].values()):,}"
        for key, name in (("average", "mean over groups (AGA)"), ("worst", "worst group (WGA)")):
            rows.append((name, n, *_changes(*(known[model][key] for model in (ORIGINAL, *after)))))
        found.append(
            Table(
                f"{test}: accuracy by group, before and after alignment with the critic {critic}. The mean "
                "over groups counts each group the same, whatever its size.",
                ("group", "pictures", *_heads(after)),
                tuple(rows),
            )
        )
    return found


def dependence_table(metrics: Mapping[str, Any]) -> Table | None:
    """Calibration, training-weighted accuracy and confounder sensitivity of every model on the main test set.

    Args:
        metrics: what a run writes to metrics.json.

    Returns:
        None where there is no test set, or the run was made before these were measured.
    """
    test, models = next(iter(metrics["data"]["tests"]), None), metrics["models"]
    if test is None or any("ece" not in model for model in models.values()):
        return None
    after = [name for name in models if name != ORIGINAL]
    every = [models[name] for name in (ORIGINAL, *after)]
    n = f"{metrics['data']['tests'][test]:,}"
    rows = [("calibration error (ECE)", n, *_changes(*(model["ece"][test] for model in every)))]
    if all(model["training_weighted"].get(test) is not None for model in every):
        weighted = (model["training_weighted"][test] for model in every)
        rows.append(("accuracy, groups weighted as in training", n, *_changes(*weighted)))
    caption = f"{test}: what accuracy does not say"
    sensitivities = [model["sensitivity"] for model in every]
    if None not in sensitivities:
        planted = metrics["data"]["planted"]
        caption += f". Planted feature: {planted}" if planted else ""
        for key, change in (("added", "put in"), ("removed", "taken out")):
            flips = [found[key] for found in sensitivities]
            if None not in flips:
                name = f"predictions that flip when the planted feature is {change}"
                rows.append((name, f"{flips[0]['pictures']:,}", *_changes(*(f["rate"] for f in flips))))
        if kept := sensitivities[0]["left_out"]["removed"]:
            caption += f"; from {count(kept, 'picture')} it cannot be taken out exactly"
    return Table(f"{caption}.", ("measure", "pictures", *_heads(after)), tuple(rows))


def _heads(after: Sequence[str]) -> tuple[str, ...]:
    """The column before, and for each model after it its own and that of the change."""
    pairs = (("after" if name == ALIGNED else f"after, {name}", "Δ, points") for name in after)
    return ("before" if after else "share", *(column for pair in pairs for column in pair))


def _changes(before: float | None, *after: float | None) -> tuple[str, ...]:
    """The accuracy before, and for each one after it and the change; dashes where a group has no picture."""
    cells = [percent(before)]
    for value in after:
        change = None if before is None or value is None else value - before
        cells += [percent(value), points(change)]
    return tuple(cells)
