"""Tables that set the models side by side: by group, and by what accuracy does not say."""

from collections.abc import Sequence

from lvlm_va.report.tables import Table
from lvlm_va.report.words import count, mean_defined, percent, points
from lvlm_va.run.files import ALIGNED, ORIGINAL
from lvlm_va.run.metrics import Measured, RunMetrics

_CLASSES = 4
"""Of more classes the ranking of each stands in metrics.json alone."""

__all__ = ["dependence_table", "group_tables", "label_tables", "ranked_classes"]


def group_tables(metrics: RunMetrics, critic: str) -> list[Table]:
    """Accuracy by group before and after alignment, one table for each test set whose groups are known.

    Args:
        metrics: of a run.
        critic: its name with what must stand beside it.
    """
    models = metrics.models
    after = [name for name in models if name != ORIGINAL]
    found = []
    for test in metrics.data.tests:
        if any(test not in model.groups for model in models.values()):
            continue
        known = {name: model.groups[test] for name, model in models.items()}
        before = known[ORIGINAL]
        rows = [
            (group, f"{n:,}", *_changes(*(known[name].accuracy.get(group) for name in (ORIGINAL, *after))))
            for group, n in before.images.items()
        ]
        n = f"{sum(before.images.values()):,}"
        for key, name in (("average", "mean over groups (AGA)"), ("worst", "worst group (WGA)")):
            rows.append((name, n, *_changes(*(getattr(known[model], key) for model in (ORIGINAL, *after)))))
        found.append(
            Table(
                f"{test}: accuracy by group, before and after alignment with the critic {critic}. The mean "
                "over groups counts each group the same, whatever its size."
                + (" Every image is in a group of each label." if metrics.data.several_labels else ""),
                ("group", "images", *_heads(after)),
                tuple(rows),
            )
        )
    return found


def label_tables(metrics: Measured) -> list[Table]:
    """Of several labels: accuracy, AUROC and average precision of each, and their means over the labels.

    Args:
        metrics: of a run.

    Returns:
        One table for each test set; none where every image has one class.
    """
    models = metrics.models
    after = [name for name in models if name != ORIGINAL]
    every = [models[name] for name in (ORIGINAL, *after)]
    measures = (
        ("accuracy", [model.accuracy_by_label for model in every]),
        ("AUROC", [model.auroc for model in every]),
        ("AP", [model.average_precision for model in every]),
    )
    found = []
    for test in metrics.data.tests if metrics.data.several_labels else ():
        rows = []
        for measure, of in measures:
            rows += [
                (f"{name} ({measure})", *_changes(*(known[test][name] for known in of)))
                for name in metrics.data.classes
            ]
            means = (mean_defined(known[test].values()) for known in of)
            rows.append((f"mean over labels ({measure})", *_changes(*means)))
        found.append(
            Table(
                f"{test}: label by label, over the images for which it is known. Accuracy is at a "
                "probability of ½; AUROC and average precision (AP) say how well the probability ranks.",
                ("label (measure)", *_heads(after)),
                tuple(rows),
            )
        )
    return found


def dependence_table(metrics: Measured) -> Table | None:
    """Calibration, ranking, training-weighted accuracy and sensitivity of every model on the main test set.

    Args:
        metrics: of a run.

    Returns:
        None where there is no test set.
    """
    test, models = metrics.main_test, metrics.models
    if test is None:
        return None
    after = [name for name in models if name != ORIGINAL]
    every = [models[name] for name in (ORIGINAL, *after)]
    n = f"{metrics.data.tests[test]:,}"
    rows = [("calibration error (ECE)", n, *_changes(*(model.ece[test] for model in every)))]
    for measure, of in (("AUROC", [m.auroc for m in every]), ("AP", [m.average_precision for m in every])):
        rows += [
            (f"{name} ({measure})", n, *_changes(*(known[test][name] for known in of)))
            for name in (() if metrics.data.several_labels else ranked_classes(metrics.data.classes))
            if all(name in known.get(test, {}) for known in of)
        ]
    if all(model.training_weighted.get(test) is not None for model in every):
        weighted = (model.training_weighted[test] for model in every)
        rows.append(("accuracy, groups weighted as in training", n, *_changes(*weighted)))
    caption = f"{test}: what accuracy does not say"
    sensitivities = [model.sensitivity for model in every]
    known = [found for found in sensitivities if found is not None]
    if len(known) == len(sensitivities):
        planted = metrics.data.planted
        caption += f". Planted feature: {planted}" if planted else ""
        for change, flips in (
            ("put in", [found.added for found in known]),
            ("taken out", [found.removed for found in known]),
        ):
            if flips[0] is not None:
                name = f"predictions that flip when the planted feature is {change}"
                rates = (None if f is None else f.rate for f in flips)
                rows.append((name, f"{flips[0].images:,}", *_changes(*rates)))
        if kept := known[0].cannot_remove:
            caption += f"; from {count(kept, 'image')} it cannot be taken out exactly"
    return Table(f"{caption}.", ("measure", "images", *_heads(after)), tuple(rows))


def ranked_classes(classes: Sequence[str]) -> Sequence[str]:
    """The classes whose ranking is shown: of two that of the second, since the first's AUROC is the same."""
    return classes[1:] if len(classes) == 2 else classes if len(classes) <= _CLASSES else ()


def _heads(after: Sequence[str]) -> tuple[str, ...]:
    """The column before, and for each model after it its own and that of the change."""
    pairs = (("after" if name == ALIGNED else f"after, {name}", "Δ, points") for name in after)
    return ("before" if after else "share", *(column for pair in pairs for column in pair))


def _changes(before: float | None, *after: float | None) -> tuple[str, ...]:
    """The accuracy before, and for each one after it and the change; dashes where a group has no image."""
    cells = [percent(before)]
    for value in after:
        change = None if before is None or value is None else value - before
        cells += [percent(value), points(change)]
    return tuple(cells)
