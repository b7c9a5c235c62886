"""PPEPS-WGM, SAM and SLIC side by side: Table 2."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.pages import measures
from experiments.pages.bars import draw_bars
from experiments.pages.judged import JUDGED, Judged, judged, judged_block
from experiments.pages.measures import Cell
from experiments.pages.numbers import table
from experiments.pages.opening import closing, opening
from experiments.pages.setups import Setup, methods_of, setups, value_words
from experiments.pages.varied import Varied

__all__ = ["headline", "page"]

_WORDS = {"ppeps-wgm": "PPEPS-WGM", "sam": "SAM", "slic": "SLIC superpixels"}


def page(about: Mapping[str, Any], cells: Sequence[Cell]) -> tuple[str, dict[str, bytes]]:
    """See `render`."""
    every = setups(cells)
    lines = opening(about, every, JUDGED)
    files: dict[str, bytes] = {}
    drawn = [
        setup
        for setup in every
        if any(setup.cells(arm) for _, row in _rows(about, setup) for arm in row.arms)
    ]
    if drawn:
        name = f"{about['name']}.svg"
        files[name] = draw_bars(
            [
                judged_block(setup, [(f"{words}, {row.words}", row) for words, row in _rows(about, setup)])
                for setup in drawn
            ]
        )
        lines += ["", f"![segmentations side by side: verdicts, and what they gain]({name})"]
    for setup in every:
        lines += ["", f"## {setup.title}", "", *_segmentations(about, setup, every_column=True)]
    return "\n".join([*lines, *closing(cells)]) + "\n", files


def headline(about: Mapping[str, Any], cells: Sequence[Cell]) -> list[str]:
    """See `render.headline`."""
    lines: list[str] = []
    for setup in setups(cells):
        if setup.any is not None:
            lines += [f"**{setup.title}**", "", *_segmentations(about, setup, every_column=False), ""]
    return lines[:-1]


def _rows(about: Mapping[str, Any], setup: Setup) -> list[tuple[str, Judged]]:
    """(segments by, who judged them), in the order of the experiment's file; without segments last."""
    key = str(about["varies"])
    order = {words: n for n, words in enumerate(Varied(about, setup).values)}
    rows = []
    for row in judged(setup):
        value = row.arms[0].at(key)
        words = "" if value is None else value_words(value)
        rows.append((order.get(words, len(order)), _WORDS.get(words, words or "none"), row))
    return [(words, row) for _, words, row in sorted(rows, key=lambda found: found[0])]


def _segmentations(about: Mapping[str, Any], setup: Setup, *, every_column: bool) -> list[str]:
    rows = _rows(about, setup)
    methods = methods_of(arm for _, row in rows for arm in row.arms)
    name = setup.deciding.name
    quality, judgements = measures.verdict_quality, [row for _, row in rows]
    columns = {
        "segments by": [words for words, _ in rows],
        "verdicts or masks by": [row.words for row in judgements],
        "reads": [setup.reads(row.arms[0]) for row in judgements],
        "n": [str(row.n) for row in judgements],
        "verdict accuracy": [row.mean(quality("accuracy")) for row in judgements],
        "recall": [row.mean(quality("recall")) for row in judgements],
        "IoU": [row.mean(measures.overlap) for row in judgements],
        **{f"Δ{name}, {method}": [row.gain(setup, method) for row in judgements] for method in methods},
    }
    if every_column:
        columns["seconds to segment"] = [row.mean(measures.segment_seconds, digits=0) for row in judgements]
        columns |= {
            f"seconds, {method}": [row.seconds(setup, method) for row in judgements] for method in methods
        }
    columns["failed"] = [row.troubles(setup) for row in judgements]
    return table(list(columns), list(zip(*columns.values(), strict=True)))
