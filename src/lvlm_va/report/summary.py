"""The short table at the end of a command: what was gained, how good the verdicts were, what it cost."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lvlm_va.report.comparison import group_tables
from lvlm_va.report.story import (
    critic_name,
    tell_choice,
    tell_data,
    tell_diagnosis,
    tell_groups,
    tell_labels,
)
from lvlm_va.report.words import decimal, percent, plus_minus, printable
from lvlm_va.run.diagnosed import Diagnosed
from lvlm_va.run.files import ALIGNED
from lvlm_va.run.metrics import Measured, RunMetrics

__all__ = ["diagnosis_table", "summary_table"]


def summary_table(metrics: RunMetrics) -> str:
    """metrics.json as a few lines of text."""
    console = _console()
    with console.capture() as capture:
        for warning in tell_data(metrics):
            console.print(_plain(f"NOTE: {warning}"), soft_wrap=True)
        console.print(_explained(metrics), soft_wrap=True)
        console.print(_models(metrics))
        for line in (*tell_labels(metrics), *tell_groups(metrics), tell_choice(metrics)):
            if line:
                console.print(_plain(line), soft_wrap=True)
        for table in _groups(metrics):
            console.print(table)
        console.print(_verdicts(metrics), soft_wrap=True)
        console.print(_costs(metrics))
    return capture.get()


def diagnosis_table(findings: Diagnosed) -> str:
    """diagnosis.json as a few lines of text: what the classifier relies on, the most important first."""
    console = _console()
    with console.capture() as capture:
        console.print(_plain(tell_diagnosis(findings)), soft_wrap=True)
        if findings.grounds:
            console.print(_grounds(findings))
        console.print(_explained(findings), soft_wrap=True, markup=False)
        console.print(_verdicts(findings), soft_wrap=True, markup=False)
    return capture.get()


def _console() -> Console:
    return Console(width=110, highlight=False, no_color=True, force_terminal=False)


def _grounds(findings: Diagnosed) -> Table:
    located = any(ground.on_thing is not None for ground in findings.grounds)
    table = Table(
        title="Share of the evidence in segments judged so: mean over images ± standard error",
        title_justify="left",
    )
    for column, side in (
        ("", "right"),
        ("what", "left"),
        ("verdict", "left"),
        ("evidence", "right"),
        *([("on it", "right")] if located else []),
        ("images", "right"),
    ):
        # A critic's words may wrap, numbers may not.
        table.add_column(column, justify=side, no_wrap=column != "what")  # type: ignore[arg-type]
    table.add_column("for example", overflow="fold")
    for ground in findings.grounds:
        table.add_row(
            str(ground.rank),
            _plain(ground.reason),
            ground.verdict,
            plus_minus(ground.evidence, ground.standard_error),
            *([percent(ground.on_thing)] if located else []),
            str(ground.images),
            _plain(next((e.image_id for e in ground.examples), "")),
        )
    return table


def _plain(text: str) -> Text:
    """What a critic or a person wrote, as it stands: neither markup nor a terminal's commands."""
    return Text(printable(text))


def _explained(metrics: Measured) -> str:
    selection, attribution = metrics.selection, metrics.attribution
    share, planted = selection.spurious_share, metrics.data.planted
    text = f"{selection.images} training images ({selection.strategy})"
    if share is not None:
        text += f", {share:.0%} with {planted or 'the planted feature'}"
    if aside := len(selection.set_aside):
        text += f", {aside} set aside"
    error = attribution.completeness_error
    says = (
        "not said to be complete"
        if error is None
        else f"largest relative completeness error {error.largest:.1e}"
    )
    text += f"; {attribution.method}, {says}."
    if metrics.model.initial_weights.startswith("random (imagenet"):
        text += " The original model was trained from random weights: ImageNet's could not be had."
    return text


def _models(metrics: RunMetrics) -> Table:
    tests = list(metrics.data.tests)
    oracle = "oracle" in (metrics.verdicts.critic_kind, metrics.verdicts.judge_kind)
    over = "images and labels" if metrics.data.several_labels else "images"
    table = Table(title=f"Accuracy (plain average over {over}) and μ_align", title_justify="left")
    table.add_column("model")
    table.add_column("λ", justify="right")
    for column in (*tests, "μ_align"):
        table.add_column(column, justify="right")
    for name, model in metrics.models.items():
        mu = model.mu_align
        table.add_row(
            f"{name} (verdicts of AN ORACLE)" if name == ALIGNED and oracle else name,
            f"{model.lam:g}" if model.lam else "",
            *(f"{model.accuracy[test]:.3f}" for test in tests),
            "" if mu is None else f"{mu.mean:.3f}",
        )
    return table


def _groups(metrics: RunMetrics) -> list[Table]:
    drawn = []
    for table in group_tables(metrics, critic_name(metrics.verdicts)):
        grid = Table(title=_plain(table.caption), title_justify="left")
        for n, column in enumerate(table.head):
            grid.add_column(_plain(column), justify="right" if n >= table.texts else "left", max_width=24)
        for row in table.rows:
            grid.add_row(*map(_plain, row))
        drawn.append(grid)
    return drawn


def _verdicts(metrics: Measured) -> str:
    verdicts = metrics.verdicts
    kind = {
        "lvlm": "",
        "person": ", a person",
        "measurement": ", which is not an LVLM",
        "oracle": ", AN ORACLE",
    }
    text = (
        f"Verdicts of {verdicts.critic}{kind[verdicts.critic_kind]}: {verdicts.segments} segments, "
        f"{verdicts.spurious} spurious, {verdicts.valid} valid, {verdicts.unscored} unscored"
    )
    if verdicts.intervene != "spurious":
        text += f", told to condemn all but the {verdicts.intervene}"
    if verdicts.split:
        text += ", mixed segments divided"
    if quality := verdicts.quality:
        text += "; by the ground truth (an oracle) "
        text += f"verdict accuracy {decimal(quality.accuracy)}, recall {decimal(quality.recall)}"
    if either := verdicts.quality_either:
        text += (
            f", counting what lies beside the object too {decimal(either.accuracy)} and "
            f"{decimal(either.recall)}"
        )
    if verdicts.overruled:
        text += f"; {len(verdicts.overruled)} overruled by a person"
    return text + "."


def _costs(metrics: Measured) -> Table:
    costs = metrics.costs
    usd = None if any(q.unpriced for q in costs.questions) else sum(q.usd for q in costs.questions)
    table = Table(title="Seconds and USD per stage", title_justify="left")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("USD", justify="right")
    groups: dict[str, float] = {}
    for stage in costs.stages:
        name = stage.stage.partition(":")[0]
        groups[name] = groups.get(name, 0.0) + stage.seconds
    for name, seconds in groups.items():
        price = ("unknown" if usd is None else f"{usd:.2f}") if name == "critique" else ""
        table.add_row(name, f"{seconds:.1f}", price)
    return table
