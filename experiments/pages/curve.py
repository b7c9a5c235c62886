"""Measures over one setting that is varied: λ (Fig. 5), J, N, sampling, noise in verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.pages import measures
from experiments.pages.bars import Bar, Block, draw_bars
from experiments.pages.best import LAMBDA, best_lambda
from experiments.pages.curves import Band, Curve, Panel, draw_curves
from experiments.pages.drawing import arm_colour, source_colour
from experiments.pages.measures import Cell, Get, Score
from experiments.pages.numbers import mean_std, signed, table
from experiments.pages.opening import closing, opening
from experiments.pages.setups import Arm, Setup, setups
from experiments.pages.varied import Varied

__all__ = ["headline", "page"]

_BOUNDS = (
    "What the setting does not touch is a bound: horizontal in the figure (line: mean, band: one standard "
    "deviation), – in the table. Verdict accuracy: share of condemned segments that contain part of the "
    "planted feature; recall: share of such segments that were condemned."
)
_SHARE = Score("share with the planted feature", measures.spurious_share)


def page(about: Mapping[str, Any], cells: Sequence[Cell]) -> tuple[str, dict[str, bytes]]:
    """See `render`."""
    every = setups(cells)
    lines = opening(about, every, _BOUNDS)
    name, figure = f"{about['name']}.svg", _figure(about, every)
    if figure is not None:
        lines += ["", f"![{_axis(about)}: what each value gives]({name})"]
    for setup in every:
        if about["varies"] == LAMBDA and (best := best_lambda(setup)):
            lines += ["", f"## {setup.title}: at the λ that the validation set chooses", "", *best]
        lines += ["", f"## {setup.title}: every value", "", *_every_value(about, setup)]
    return "\n".join([*lines, *closing(cells)]) + "\n", {} if figure is None else {name: figure}


def headline(about: Mapping[str, Any], cells: Sequence[Cell]) -> list[str]:
    """See `render.headline`: at the best λ where λ is varied, else a row for each value."""
    lines: list[str] = []
    for setup in setups(cells):
        if setup.any is None:
            continue
        found = best_lambda(setup) if about["varies"] == LAMBDA else _pivot(about, setup)
        lines += [f"**{setup.title}**", "", *found, ""]
    return lines[:-1]


def _axis(about: Mapping[str, Any]) -> str:
    return str(about.get("axis") or about["varies"])


def _figure(about: Mapping[str, Any], every: Sequence[Setup]) -> bytes | None:
    drawn = [(setup, Varied(about, setup)) for setup in every if setup.any is not None]
    drawn = [(setup, varied) for setup, varied in drawn if varied.values]
    if not drawn:
        return None
    if any(varied.numbers is None for _, varied in drawn):
        return draw_bars([_block(setup, varied) for setup, varied in drawn])
    return draw_curves([_panels(setup, varied) for setup, varied in drawn], _axis(about))


def _scores(setup: Setup) -> list[Score]:
    every = [*setup.scores, Score("μ_align", measures.mu_align)]
    return [score for score in every if any(setup.values(arm, score.get) for arm in setup.arms)]


def _panels(setup: Setup, varied: Varied) -> list[Panel]:
    return [
        Panel(
            setup.heading,
            score.name,
            [
                Curve(
                    setup.label(arm),
                    source_colour(arm.source, n),
                    [
                        (x, list(values))
                        for x, words in zip(varied.numbers or [], varied.values, strict=True)
                        if words in at and (values := setup.values(at[words], score.get).values())
                    ],
                )
                for n, (arm, at) in enumerate(varied.series.items())
            ],
            [
                Band(setup.label(arm), _bound_colour(arm), _values(setup, arm, score.get))
                for arm in varied.bounds
            ],
        )
        for score in _scores(setup)
    ]


def _bound_colour(arm: Arm) -> str:
    return source_colour(arm.source, 0) if arm.is_bound else arm_colour(arm)


def _values(setup: Setup, arm: Arm, get: Get) -> list[float]:
    return list(setup.values(arm, get).values())


def _block(setup: Setup, varied: Varied) -> Block:
    """Words are no axis: bars, value by value."""
    one = len(varied.series) == 1
    arms = [
        (words if one else f"{setup.label(arm)}: {words}", at[words])
        for arm, at in varied.series.items()
        for words in varied.values
        if words in at
    ]
    arms += [(setup.label(arm), arm) for arm in varied.bounds if arm.method != "original"]
    share = any(setup.values(arm, _SHARE.get) for _, arm in arms)
    return Block(
        setup.heading,
        [*([_SHARE.name] if share else []), *(f"Δ{score.name}" for score in setup.scores)],
        [
            Bar(
                label,
                arm_colour(arm),
                [
                    *([_values(setup, arm, _SHARE.get)] if share else []),
                    *(setup.gains(arm, score.get) for score in setup.scores),
                ],
                setup.is_oracle(arm),
                setup.sees_groups(arm),
            )
            for label, arm in arms
            if setup.cells(arm)
        ],
        setup.seeds,
    )


def _every_value(about: Mapping[str, Any], setup: Setup) -> list[str]:
    varied = Varied(about, setup)
    places = [("–", arm, arm) for arm in varied.bounds]
    places += [
        (words, arm, at[words]) for arm, at in varied.series.items() for words in varied.values if words in at
    ]
    rows = []
    for words, shown, arm in places:
        n = len(setup.cells(arm))
        row = [words, setup.name(shown, str(about["varies"])), arm.masks, str(n)]
        for score in setup.scores:
            gain = "" if arm.method == "original" else signed(setup.gains(arm, score.get), n)
            row += [mean_std(setup.values(arm, score.get).values(), n), gain]
        row += [
            mean_std(setup.values(arm, get).values(), n)
            for get in (
                measures.mu_align,
                measures.verdict_quality("accuracy"),
                measures.verdict_quality("recall"),
                measures.spurious_share,
            )
        ]
        seconds = mean_std(setup.values(arm, measures.seconds).values(), n, digits=0)
        rows.append([*row, seconds, setup.troubles(arm)])
    scores = [words for score in setup.scores for words in (score.name, f"Δ{score.name}")]
    head = [_axis(about), "method", "masks by", "n", *scores, "μ_align", "verdict accuracy", "recall"]
    return table([*head, _SHARE.name, "seconds", "failed"], rows)


def _pivot(about: Mapping[str, Any], setup: Setup) -> list[str]:
    """A row for each value, a column for each method."""
    varied, score = Varied(about, setup), setup.deciding
    rows = [
        [
            words,
            *(
                mean_std(setup.values(at[words], score.get).values()) if words in at else "–"
                for at in varied.series.values()
            ),
        ]
        for words in varied.values
    ]
    bounds = [
        f"{setup.label(arm)}: {mean_std(setup.values(arm, score.get).values())}" for arm in varied.bounds
    ]
    words = [f"{score.name}; {'; '.join(bounds)}." if bounds else f"{score.name}."]
    return [*words, "", *table([_axis(about), *(setup.label(arm) for arm in varied.series)], rows)]
