"""The page's tables: what was measured, what it cost, and with which settings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from lvlm_va.config.loading import Config
from lvlm_va.critique.unanswered import unscored_reason
from lvlm_va.critique.verdict import Verdict
from lvlm_va.report.figures import say_verdict
from lvlm_va.report.reliance import Reliance
from lvlm_va.report.words import (
    count,
    decimal,
    duration,
    lambda_text,
    percent,
    plus_minus,
    quote,
    usd,
)
from lvlm_va.run.diagnosed import Diagnosed
from lvlm_va.run.files import ALIGNED, ORIGINAL
from lvlm_va.run.metrics import Costs, DataMetrics, Measured, Overruling, RunMetrics

__all__ = [
    "Table",
    "accuracy_table",
    "choice_table",
    "class_evidence_table",
    "class_table",
    "costs_table",
    "ground_table",
    "headline_table",
    "leaks_table",
    "overruled_table",
    "ranking_table",
    "reasons_table",
    "settings_table",
    "stages_table",
    "unscored_table",
]


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        caption: what it says.
        head: column names.
        rows: one text per column each; the first names the row.
        texts: how many leading columns are prose; the others are numbers.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int = 1


def headline_table(metrics: RunMetrics, critic: str) -> Table:
    """Every model × every accuracy, and μ_align.

    Args:
        metrics: of a run.
        critic: its name with what must stand beside it.
    """
    tests = list(metrics.data.tests)
    rows = []
    for name, model in metrics.models.items():
        mu = model.mu_align
        rows.append(
            (
                f"{name}, critic {critic}" if name == ALIGNED else name,
                lambda_text(model.lam) if name != "original" else "—",
                *(percent(model.accuracy[test]) for test in tests),
                "—" if mu is None else f"{decimal(mu.mean)} ± {decimal(mu.std)}",
                percent(model.validation.accuracy),
            )
        )
    over = "over images"
    if metrics.data.several_labels:
        over = "over images for each label at a probability of ½, and over the labels"
    return Table(
        f"Accuracies are plain averages {over}; μ_align is a mean ± standard deviation over images.",
        ("model", "λ", *(f"accuracy, {test}" for test in tests), "μ_align", "accuracy, validation"),
        tuple(rows),
    )


def ground_table(reliance: Reliance, *, spurious: bool) -> Table:
    """What condemned (or accepted) segments were said to cover."""
    grounds = [g for g in reliance.grounds if g.spurious == spurious]
    return Table(
        f"What {'condemned' if spurious else 'accepted'} segments were said to cover",
        ("reason, in the words of its most typical verdict", "wordings", "is the strongest", "is present"),
        tuple(
            (
                quote(g.reason),
                f"{g.wordings:,}",
                percent(g.strongest / reliance.images, 0),
                percent(g.present / reliance.images, 0),
            )
            for g in grounds
        ),
    )


def class_table(reliance: Reliance) -> Table:
    """Per class: how often the strongest segment was condemned, and what it is most often."""
    return Table(
        "The strongest segment, class by class",
        ("class", "what it most often is", "verdict", "of this kind", "condemned", "images"),
        tuple(
            (
                row.name,
                "no verdict" if row.spurious is None else quote(row.reason),
                say_verdict(row.spurious),
                percent(row.alike / row.images, 0),
                percent(row.condemned / row.images, 0),
                f"{row.images:,}",
            )
            for row in reliance.classes
        ),
        texts=3,
    )


def ranking_table(findings: Diagnosed) -> Table:
    """What the classifier relies on, the most important first."""
    oracle = any(g.with_planted_feature is not None for g in findings.grounds)
    located = any(g.on_thing is not None for g in findings.grounds)
    rows = [
        (
            str(g.rank),
            quote(g.reason),
            g.verdict,
            plus_minus(g.evidence, g.standard_error),
            *([percent(g.on_thing)] if located else []),
            f"{g.images:,}",
            f"{g.strongest:,}",
            f"{g.wordings:,}",
            *([f"{g.with_planted_feature:,} of {g.segments:,}"] if oracle else []),
        )
        for g in findings.grounds
    ]
    rest = findings.evidence.unscored
    if findings.verdicts.unscored:
        blank = ("—",) * (3 + oracle + located)
        rows.append(("—", "no verdict", "unscored", percent(rest), *blank))
    return Table(
        "Condemned first, then by share of the evidence, on the thing itself where that is known: mean over "
        "the critiqued images ± standard error",
        (
            "rank",
            "what",
            "verdict",
            "share of the evidence in its segments",
            *(["on the thing itself"] if located else []),
            "images",
            "is the strongest",
            "wordings",
            *(["segments with the planted feature (oracle)"] if oracle else []),
        ),
        tuple(rows),
        texts=3,
    )


def class_evidence_table(findings: Diagnosed) -> Table:
    """Per class: which segments hold most of the evidence, and how much of it was condemned."""
    return Table(
        "Which segments hold most of the evidence, class by class",
        ("class", "those judged as", "condemned", "accepted", "unscored", "images"),
        tuple(
            (
                row.name,
                "; ".join(f"{quote(g.reason)} ({g.verdict}) {percent(g.evidence, 0)}" for g in row.grounds)
                or "no verdict",
                *(percent(share, 0) for share in (row.condemned, row.accepted, row.unscored)),
                f"{row.images:,}",
            )
            for row in findings.classes
        ),
        texts=2,
    )


def accuracy_table(measured: Measured) -> Table:
    """How often the classifier is right before alignment, by group where groups are known."""
    data, model = measured.data, measured.models["original"]
    rows = []
    if model.validation.accuracy is not None:
        rows.append(("validation set", f"{data.validation:,}", percent(model.validation.accuracy)))
    for test, accuracy in model.accuracy.items():
        rows.append((test, f"{data.tests[test]:,}", percent(accuracy)))
        known = model.groups.get(test)
        if known is None:
            continue
        rows += [
            (f"{test}: {group}", f"{n:,}", percent(known.accuracy.get(group)))
            for group, n in known.images.items()
        ]
        rows.append((f"{test}: mean over groups (AGA)", "", percent(known.average)))
        rows.append((f"{test}: worst group (WGA)", "", percent(known.worst)))
    return Table(
        "How often the classifier is right: a plain average over images"
        + (", of several labels over these too" if data.several_labels else "")
        + ", and by group where known",
        ("images of", "how many", "accuracy"),
        tuple(rows),
    )


def choice_table(metrics: RunMetrics) -> Table | None:
    """What the original model and every fit score on the validation set, by which λ and epoch are chosen.

    Returns:
        None where plain accuracy is all there is: the table of every model has it.
    """
    lam, original = metrics.lam, metrics.models[ORIGINAL]
    fits = [original, *(fit for fit in lam.curves[ALIGNED] if fit != original)]
    scored = all(fit.validation.verdicts for fit in fits)
    grouped = all(fit.validation.groups for fit in fits)
    if len(fits) == 1 or not (scored or grouped):
        return None
    rows = []
    for fit in fits:
        found = fit.validation
        row = [f"λ\u00a0=\u00a0{lambda_text(fit.lam)}" if fit is not original else ORIGINAL]
        if scored and (by := found.verdicts) is not None:
            row += [_mean_and_worst(by.as_is), _mean_and_worst(by.pasted), percent(by.score)]
        row.append(percent(found.accuracy))
        if grouped and found.groups is not None:
            row += [percent(found.groups.average), percent(found.groups.worst)]
        rows.append(tuple(row))
    caption = count(metrics.data.validation, "validation image")
    if scored:
        caption += (
            ": mean and worst class, as they are and with a condemned segment put into each; the score is "
            "half the worst of these and half their mean"
        )
    if grouped:
        caption += "; true groups read group labels (an oracle)"
    head = ["model"]
    if scored:
        head += ["as they are", "with condemned segments", "score"]
    head.append("plain accuracy")
    if grouped:
        head += ["AGA, true groups (oracle)", "WGA, true groups (oracle)"]
    return Table(f"{caption}.", tuple(head), tuple(rows))


def _mean_and_worst(accuracies: Mapping[str, float]) -> str:
    worst = min(accuracies, key=lambda name: accuracies[name])
    mean = sum(accuracies.values()) / len(accuracies)
    return f"{percent(mean)}; {percent(accuracies[worst])} ({worst})"


def leaks_table(data: DataMetrics) -> Table:
    """Images that are in two parts of the data set."""
    return Table(
        "The same image in two parts: what is measured on it is no measurement",
        ("parts", "for example", "images"),
        tuple(
            (
                " and ".join(leak.parts),
                "; ".join(f"{one} = {other}" for one, other in leak.examples),
                f"{leak.count:,}",
            )
            for leak in data.leaks
        ),
        texts=2,
    )


def overruled_table(overruled: Sequence[Overruling]) -> Table:
    """Verdicts that a person changed."""
    return Table(
        "Verdicts overruled by a person",
        ("image", "by", "critic said", "holds", "reason", "segment"),
        tuple(
            (
                o.image_id,
                o.author,
                say_verdict(o.critic),
                say_verdict(o.person),
                o.reason,
                str(o.segment),
            )
            for o in overruled
        ),
        texts=5,
    )


def unscored_table(verdicts: Sequence[Verdict]) -> Table:
    """Segments without a verdict, by reason."""
    return reasons_table(
        "Segments without a verdict; they are not penalised",
        {f"{v.image_id}, segment {v.segment}": unscored_reason(v) for v in verdicts if v.spurious is None},
    )


def reasons_table(caption: str, reasons: Mapping[str, str], *, named: int = 12) -> Table:
    """Name → what happened to it, one row per reason; the first few names of each."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    rows = []
    for reason, names in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        more = f" and {len(names) - named:,} more" if len(names) > named else ""
        rows.append((reason, "; ".join(names[:named]) + more, f"{len(names):,}"))
    return Table(caption, ("reason", "which", "how many"), tuple(rows), texts=2)


def costs_table(costs: Costs) -> Table:
    """What was asked, and paid."""
    return Table(
        "Questions, all runs in this directory together. Durations overlap where calls do.",
        ("asked", "who answered", "calls", "failed", "tokens in", "tokens out", "price", "duration"),
        tuple(
            (
                cost.stage,
                " · ".join(dict.fromkeys(filter(None, (cost.backend, cost.model)))),
                f"{cost.calls:,}",
                f"{cost.failures:,}",
                f"{cost.input_tokens:,}",
                f"{cost.output_tokens:,}",
                usd(cost.usd, cost.unpriced),
                duration(cost.seconds),
            )
            for cost in costs.questions
        ),
        texts=2,
    )


def stages_table(costs: Costs) -> Table:
    """Seconds and memory of every stage."""
    stages = costs.stages
    rows = [
        (s.stage, duration(s.seconds), "—" if s.peak_gib is None else f"{s.peak_gib:.2f}") for s in stages
    ]
    total = ("all stages", duration(sum(s.seconds for s in stages)), "")
    return Table(
        "Wall clock of each stage when it was computed; memory is the process's largest up to its end.",
        ("stage", "time", "memory, GiB"),
        (*rows, total),
    )


def settings_table(config: Mapping[str, Any]) -> Table:
    """Every setting in force, with what it means."""
    rows = tuple((key, meaning, _value(value)) for key, value, meaning in _flatten(config, Config))
    return Table(f"{count(len(rows), 'setting')} in force", ("key", "meaning", "value"), rows, texts=3)


def _flatten(
    section: Mapping[str, Any], model: type[BaseModel] | None, prefix: str = ""
) -> Iterator[tuple[str, Any, str]]:
    fields = {} if model is None else {f.alias or name: f for name, f in model.model_fields.items()}
    for key, value in section.items():
        field = fields.get(key)
        kind = field.annotation if field is not None else None
        if isinstance(kind, type) and issubclass(kind, BaseModel) and isinstance(value, Mapping):
            yield from _flatten(value, kind, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value, (field.description or "") if field is not None else ""


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    if value is None or value == {}:
        return "—"
    return f"{value:g}" if isinstance(value, float) else str(value)
