"""Critics side by side: how good their verdicts are, what they cost, what they gain. Table 1."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.pages import measures
from experiments.pages.bars import draw_bars
from experiments.pages.judged import JUDGED, Judged, judged, judged_block
from experiments.pages.measures import Cell
from experiments.pages.numbers import mean_std, table
from experiments.pages.opening import closing, opening
from experiments.pages.setups import Setup, methods_of, setups

__all__ = ["headline", "page"]


def page(about: Mapping[str, Any], cells: Sequence[Cell]) -> tuple[str, dict[str, bytes]]:
    """See `render`."""
    every = setups(cells)
    usd = "*USD*: what the verdicts of one run cost; – where the price is not known."
    lines = opening(about, every, f"{JUDGED} {usd}")
    files: dict[str, bytes] = {}
    drawn = [setup for setup in every if any(setup.cells(arm) for row in judged(setup) for arm in row.arms)]
    if drawn:
        name = f"{about['name']}.svg"
        files[name] = draw_bars(
            [judged_block(setup, [(row.words, row) for row in judged(setup)]) for setup in drawn]
        )
        lines += ["", f"![critics side by side: verdicts, and what they gain]({name})"]
    for setup in every:
        lines += ["", f"## {setup.title}", "", *_critics(setup, every_column=True)]
    return "\n".join([*lines, *closing(cells)]) + "\n", files


def headline(_: Mapping[str, Any], cells: Sequence[Cell]) -> list[str]:
    """See `render.headline`."""
    lines: list[str] = []
    for setup in setups(cells):
        if setup.any is not None:
            lines += [f"**{setup.title}**", "", *_critics(setup, every_column=False), ""]
    return lines[:-1]


def _critics(setup: Setup, *, every_column: bool) -> list[str]:
    rows = judged(setup)
    methods = methods_of(arm for row in rows for arm in row.arms)
    name = setup.deciding.name
    columns: dict[str, list[str]] = {
        "verdicts or masks by": [row.words for row in rows],
        "reads": [setup.reads(row.arms[0]) for row in rows],
        "n": [str(row.n) for row in rows],
    }
    if every_column:
        columns |= {
            "segments": [row.total("segments") for row in rows],
            "condemned": [row.total("spurious") for row in rows],
            "unscored": [row.total("unscored") for row in rows],
        }
    columns["verdict accuracy"] = [row.mean(measures.verdict_quality("accuracy")) for row in rows]
    if every_column:
        beside = measures.verdict_quality("accuracy", "quality_either")
        columns["accuracy, or beside"] = [row.mean(beside) for row in rows]
    columns["recall"] = [row.mean(measures.verdict_quality("recall")) for row in rows]
    if every_column:
        columns["IoU"] = [row.mean(measures.overlap) for row in rows]
    columns["USD"] = [_usd(row) for row in rows]
    columns |= {f"Δ{name}, {method}": [row.gain(setup, method) for row in rows] for method in methods}
    columns["failed"] = [row.troubles(setup) for row in rows]
    return table(list(columns), list(zip(*columns.values(), strict=True)))


def _usd(row: Judged) -> str:
    told = [value for cell in row.verdicts.values() if (value := measures.usd(cell)) is not None]
    return mean_std(told, row.n, digits=2)
