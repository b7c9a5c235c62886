"""How good verdicts are and what they gain: Table 1 tells it of critics, Table 2 of segmentations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from experiments import measures
from experiments.description import Experiment
from experiments.measures import Get
from experiments.pages.bars import Bar, Block, draw_bars
from experiments.pages.colours import source_colour
from experiments.pages.kind import Kind
from experiments.pages.numbers import mean_std, signed, table
from experiments.pages.paper import beside, with_paper
from experiments.pages.setups import Arm, Setup, methods_of, source_rank, value_words
from experiments.pages.varied import Varied
from experiments.results import Result

__all__ = ["KIND"]

_JUDGED = (
    "*Verdict accuracy*: share of condemned segments that contain part of the planted feature, or, in the "
    "second column, that do or lie beside what matters. *Recall*: share of segments with part of the planted "
    "feature that were condemned. *Unscored*: segments whose answer could not be parsed. Counts are sums "
    "over seeds. *IoU*: of masks and planted feature, over the images that carry it."
)


_USD = "*USD*: what the verdicts of one run cost; – where the price is not known."
_SEGMENTATIONS = {
    "ppeps-wgm": "PPEPS-WGM",
    "sam": "SAM",
    "slic": "SLIC superpixels",
    "experiments.mobile_sam:MobileSam": "MobileSAM",
}


@dataclass(frozen=True)
class _Judged:
    """One source of verdicts or masks under one setting, and all methods that used it.

    Attributes:
        source: as in `Arm`.
        setting: as in `Arm`.
        arms: the methods.
        verdicts: seed → a result that says how good the verdicts were; the methods share them.
    """

    source: str
    setting: tuple[tuple[str, str], ...]
    arms: tuple[Arm, ...]
    verdicts: Mapping[int, Result]

    @property
    def n(self) -> int:
        """Seeds with verdicts; with masks, where there are no verdicts."""
        return len(self.verdicts)

    @property
    def words(self) -> str:
        """The source in words."""
        return self.arms[0].masks

    def mean(self, get: Get, digits: int = 3) -> str:
        """Of what the verdicts' results say."""
        return mean_std(self.values(get), self.n, digits)

    def values(self, get: Get) -> list[float]:
        """The same, seed by seed."""
        return [v for result in self.verdicts.values() if (v := get(result)) is not None]

    def total(self, get: Get) -> str:
        """Of a count in the verdicts, over seeds."""
        found = self.values(get)
        return f"{sum(found):.0f}" if found else "–"

    def gains(self, setup: Setup, method: str) -> list[float]:
        """Δ of one method, for each seed; none if it did not use this source."""
        found = (setup.gains(arm, setup.deciding.get) for arm in self.arms if arm.method == method)
        return next(found, [])

    def gain(self, setup: Setup, method: str) -> str:
        """The same in words."""
        return signed(self.gains(setup, method), self.n)

    def seconds(self, setup: Setup, method: str) -> str:
        """What one method took."""
        own = (setup.values(arm, measures.seconds).values() for arm in self.arms if arm.method == method)
        return mean_std(next(own, ()), self.n, digits=0)

    def troubles(self, setup: Setup) -> str:
        """Seeds that failed, by method."""
        return "; ".join(f"{arm.method} {words}" for arm in self.arms if (words := setup.troubles(arm)))


def _figure(about: Experiment, every: Sequence[Setup]) -> bytes | None:
    blocks = [
        _block(about, setup)
        for setup in every
        if any(setup.results(arm) for _, row in _rows(about, setup) for arm in row.arms)
    ]
    return draw_bars(blocks) if blocks else None


def _block(about: Experiment, setup: Setup) -> Block:
    """Verdict accuracy, recall, and what each method gains."""
    rows = _rows(about, setup)
    methods = methods_of(arm for _, row in rows for arm in row.arms if setup.results(arm))
    quality = [measures.verdict_quality("accuracy"), measures.verdict_quality("recall")]
    name = setup.deciding.name
    return Block(
        setup.heading,
        ["verdict accuracy", "verdict recall", *(f"Δ{name}, {method}" for method in methods)],
        [
            Bar(
                f"{segments}, {row.words}" if about.varies else row.words,
                source_colour(row.source, n),
                [
                    *(row.values(get) for get in quality),
                    *(row.gains(setup, method) for method in methods),
                ],
                any(setup.is_oracle(arm) for arm in row.arms),
            )
            for n, (segments, row) in enumerate(rows)
        ],
        setup.seeds,
    )


def _rows(about: Experiment, setup: Setup) -> list[tuple[str, _Judged]]:
    """(segments by, who judged them): in the order of the experiment's file; without segments last."""
    rows = _judged(setup)
    if about.varies is None:
        return [("", row) for row in rows]
    order = {words: n for n, words in enumerate(Varied(about, setup).values)}
    found = []
    for row in rows:
        value = row.arms[0].at(about.varies)
        words = "" if value is None else value_words(value)
        found.append((order.get(words, len(order)), _SEGMENTATIONS.get(words, words or "none"), row))
    return [(words, row) for _, words, row in sorted(found, key=lambda row: row[0])]


def _judged(setup: Setup) -> list[_Judged]:
    """Every source under every setting: sources in order, then settings as the setup's arms have them."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], list[Arm]] = {}
    for arm in setup.arms:
        if arm.source:
            found.setdefault((arm.source, arm.setting), []).append(arm)
    rows = []
    for (source, setting), arms in sorted(found.items(), key=lambda item: source_rank(item[0][0])):
        verdicts: dict[int, Result] = {}
        for arm in arms:
            verdicts = {**setup.results(arm), **verdicts}
        rows.append(_Judged(source, setting, tuple(arms), dict(sorted(verdicts.items()))))
    return rows


def _table(about: Experiment, setup: Setup, *, every_column: bool) -> list[str]:
    """Critics have counts and a price beside what segmentations have, segmentations their seconds."""
    named = _rows(about, setup)
    rows = [row for _, row in named]
    methods = methods_of(arm for row in rows for arm in row.arms)
    quality, critics = measures.verdict_quality, about.varies is None
    counts = {
        "segments": [row.total(lambda result: result.verdicts.segments) for row in rows],
        "condemned": [row.total(lambda result: result.verdicts.spurious) for row in rows],
        "unscored": [row.total(lambda result: result.verdicts.unscored) for row in rows],
    }
    beside = {
        "accuracy, or beside": [row.mean(quality("accuracy", "quality_either")) for row in rows],
    }
    seconds = {
        "seconds to segment": [row.mean(measures.segment_seconds, digits=0) for row in rows],
        **{f"seconds, {method}": [row.seconds(setup, method) for row in rows] for method in methods},
    }
    columns = {
        **({} if critics else {"segments by": [segments for segments, _ in named]}),
        "verdicts or masks by": [row.words for row in rows],
        "reads": [setup.reads(row.arms[0]) for row in rows],
        "n": [str(row.n) for row in rows],
        **(counts if critics and every_column else {}),
        "verdict accuracy": [row.mean(quality("accuracy")) for row in rows],
        **(beside if critics and every_column else {}),
        "recall": [row.mean(quality("recall")) for row in rows],
        **({"IoU": [row.mean(measures.overlap) for row in rows]} if every_column or not critics else {}),
        **({"USD": [row.mean(measures.usd, digits=2) for row in rows]} if critics else {}),
        **{
            f"Δ{setup.deciding.name}, {method}": [row.gain(setup, method) for row in rows]
            for method in methods
        },
        **(seconds if every_column and not critics else {}),
        "failed": [row.troubles(setup) for row in rows],
    }
    head, body = list(columns), list(zip(*columns.values(), strict=True))
    return table(*(with_paper(about, setup, head, body) if every_column else (head, body)))


def _sections(about: Experiment, setup: Setup) -> list[str]:
    found = _table(about, setup, every_column=True)
    return ["", f"## {setup.title}", "", *found, *beside(about, setup)]


KIND = Kind(
    lambda about: _JUDGED if about.varies else f"{_JUDGED} {_USD}",
    lambda about: (
        f"{'segmentations' if about.varies else 'critics'} side by side: verdicts, and what they gain"
    ),
    _figure,
    _sections,
    lambda about, setup: _table(about, setup, every_column=False),
)
