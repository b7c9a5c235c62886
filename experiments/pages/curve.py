"""Measures over one setting that is varied: λ (Fig. 5), J, N, sampling, noise in verdicts."""

from collections.abc import Sequence

from experiments import measures
from experiments.description import Experiment
from experiments.measures import Get, Score
from experiments.pages.bars import Bar, Block, draw_bars
from experiments.pages.best import LAMBDA, best_lambda
from experiments.pages.colours import arm_colour, source_colour
from experiments.pages.kind import Kind
from experiments.pages.numbers import mean_std, table
from experiments.pages.paper import beside, with_paper
from experiments.pages.setups import Arm, Setup
from experiments.pages.varied import Varied
from lvlm_va.report.curves import Band, Curve, Panel, draw_curves

__all__ = ["KIND"]

_BOUNDS = (
    "What the setting does not touch is a bound: horizontal in the figure (line: mean, band: one standard "
    "deviation), – in the table. Verdict accuracy: share of condemned segments that contain part of the "
    "planted feature; recall: share of such segments that were condemned."
)
_SHARE = Score("share with the planted feature", measures.spurious_share)


def _sections(about: Experiment, setup: Setup) -> list[str]:
    lines = []
    if about.varies == LAMBDA and (best := best_lambda(setup)):
        lines += ["", f"## {setup.title}: at the λ that the validation set chooses", "", *best]
    lines += ["", f"## {setup.title}: every value", "", *_every_value(about, setup)]
    return [*lines, *beside(about, setup)]


def _short(about: Experiment, setup: Setup) -> list[str]:
    """At the best λ where λ is varied, else a row for each value."""
    return best_lambda(setup) if about.varies == LAMBDA else _pivot(about, setup)


def _figure(about: Experiment, every: Sequence[Setup]) -> bytes | None:
    drawn = [(setup, Varied(about, setup)) for setup in every if setup.any is not None]
    drawn = [(setup, varied) for setup, varied in drawn if varied.values]
    if not drawn:
        return None
    if any(varied.numbers is None for _, varied in drawn):
        return draw_bars([_block(setup, varied) for setup, varied in drawn])
    return draw_curves([_panels(setup, varied) for setup, varied in drawn], about.varies_words)


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
            if setup.results(arm)
        ],
        setup.seeds,
    )


def _every_value(about: Experiment, setup: Setup) -> list[str]:
    varied = Varied(about, setup)
    places = [("–", arm, arm) for arm in varied.bounds]
    places += [
        (words, arm, at[words]) for arm, at in varied.series.items() for words in varied.values if words in at
    ]
    rows = []
    for words, shown, arm in places:
        row = [words, setup.name(shown, about.varies), arm.masks, str(len(setup.results(arm)))]
        for score in setup.scores:
            row += [setup.mean(arm, score.get), setup.delta(arm, score.get)]
        row += [
            setup.mean(arm, get)
            for get in (
                measures.mu_align,
                measures.verdict_quality("accuracy"),
                measures.verdict_quality("recall"),
                measures.spurious_share,
            )
        ]
        seconds = setup.mean(arm, measures.seconds, 0)
        rows.append([*row, *setup.columns(arm, about.columns), seconds, setup.troubles(arm)])
    scores = [words for score in setup.scores for words in (score.name, f"Δ{score.name}")]
    head = [about.varies_words, "method", "masks by", "n", *scores, "μ_align", "verdict accuracy", "recall"]
    head += [_SHARE.name, *about.columns, "seconds", "failed"]
    return table(*with_paper(about, setup, head, rows))


def _pivot(about: Experiment, setup: Setup) -> list[str]:
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
    return [*words, "", *table([about.varies_words, *(setup.label(arm) for arm in varied.series)], rows)]


KIND = Kind(
    lambda _: _BOUNDS,
    lambda about: f"{about.varies_words}: what each value gives",
    _figure,
    _sections,
    _short,
)
