"""The short table at the end of a command: what was gained, how good the verdicts were, what it cost."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["summary_table"]


def summary_table(metrics: Mapping[str, Any], *, width: int = 110) -> str:
    """metrics.json as a few lines of text."""
    console = Console(width=width, highlight=False, no_color=True, force_terminal=False)
    with console.capture() as capture:
        console.print(_explained(metrics), soft_wrap=True)
        console.print(_models(metrics))
        console.print(_verdicts(metrics), soft_wrap=True)
        console.print(_costs(metrics))
    return capture.get()


def _explained(metrics: Mapping[str, Any]) -> str:
    selection, attribution = metrics["selection"], metrics["attribution"]
    share, planted = selection["spurious_share"], metrics["data"]["planted"]
    text = f"{selection['pictures']} training pictures ({selection['strategy']})"
    if share is not None:
        text += f", {share:.0%} with {planted or 'the planted feature'}"
    if aside := len(selection["set_aside"]):
        text += f", {aside} set aside"
    error = attribution["completeness_error"]["largest"]
    text += f"; {attribution['method']}, largest relative completeness error {error:.1e}."
    if metrics["model"]["initial_weights"].startswith("random (imagenet"):
        text += " The original model was trained from random weights: ImageNet's could not be had."
    return text


def _models(metrics: Mapping[str, Any]) -> Table:
    tests = list(metrics["data"]["tests"])
    table = Table(title="Accuracy (plain average over pictures) and μ_align", title_justify="left")
    table.add_column("model")
    table.add_column("λ", justify="right")
    for column in (*tests, "μ_align"):
        table.add_column(column, justify="right")
    for name, model in metrics["models"].items():
        mu = model["mu_align"]
        table.add_row(
            name,
            f"{model['lambda']:g}" if model["lambda"] else "",
            *(f"{model['accuracy'][test]:.3f}" for test in tests),
            "" if mu is None else f"{mu['mean']:.3f}",
        )
    return table


def _verdicts(metrics: Mapping[str, Any]) -> str:
    verdicts = metrics["verdicts"]
    kind = {"lvlm": "", "measurement": ", which is not an LVLM", "oracle": ", AN ORACLE"}
    text = (
        f"Verdicts of {verdicts['critic']}{kind[verdicts['critic_kind']]}: {verdicts['segments']} segments, "
        f"{verdicts['spurious']} spurious, {verdicts['valid']} valid, {verdicts['unscored']} unscored"
    )
    if quality := verdicts["quality"]:
        text += f"; verdict accuracy {quality['accuracy']:.3f}, recall {quality['recall']:.3f}"
    if verdicts["overruled"]:
        text += f"; {len(verdicts['overruled'])} overruled by a person"
    return text + "."


def _costs(metrics: Mapping[str, Any]) -> Table:
    costs = metrics["costs"]
    paid = [q["usd"] for q in costs["questions"]]
    usd = sum(paid) if None not in paid else None
    table = Table(title="Seconds and USD per stage", title_justify="left")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("USD", justify="right")
    groups: dict[str, float] = {}
    for stage in costs["stages"]:
        name = stage["stage"].partition(":")[0]
        groups[name] = groups.get(name, 0.0) + stage["seconds"]
    for name, seconds in groups.items():
        price = ("unknown" if usd is None else f"{usd:.2f}") if name == "critique" else ""
        table.add_row(name, f"{seconds:.1f}", price)
    return table
