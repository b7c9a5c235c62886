"""How good verdicts are and what they gain: what Table 1 tells of critics and Table 2 of segmentations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.pages import measures
from experiments.pages.bars import Bar, Block
from experiments.pages.drawing import source_colour
from experiments.pages.measures import Cell, Get
from experiments.pages.numbers import mean_std, signed
from experiments.pages.setups import Arm, Setup, methods_of, source_rank

__all__ = ["JUDGED", "Judged", "judged", "judged_block"]

JUDGED = (
    "*Verdict accuracy*: share of condemned segments that contain part of the planted feature, or, in the "
    "second column, that do or lie beside what matters. *Recall*: share of segments with part of the planted "
    "feature that were condemned. *Unscored*: segments whose answer could not be parsed. Counts are sums "
    "over seeds. *IoU*: of masks and planted feature, over the pictures that carry it."
)


@dataclass(frozen=True)
class Judged:
    """One source of verdicts or masks under one setting, and all methods that used it.

    Attributes:
        source: as in `Arm`.
        setting: as in `Arm`.
        arms: the methods.
        verdicts: seed → a cell that says how good the verdicts were; the methods share them.
    """

    source: str
    setting: tuple[tuple[str, str], ...]
    arms: tuple[Arm, ...]
    verdicts: Mapping[int, Cell]

    @property
    def n(self) -> int:
        """Seeds with verdicts; with masks, where there are no verdicts."""
        return len(self.verdicts)

    @property
    def words(self) -> str:
        """The source in words."""
        return self.arms[0].masks

    def mean(self, get: Get, digits: int = 3) -> str:
        """Of what the verdicts' cells say."""
        return mean_std(
            [v for cell in self.verdicts.values() if (v := get(cell)) is not None], self.n, digits
        )

    def total(self, key: str) -> str:
        """Of a count in the verdicts, over seeds."""
        found = [cell["verdicts"][key] for cell in self.verdicts.values() if cell.get("verdicts")]
        return str(sum(found)) if found else "–"

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


def judged(setup: Setup) -> list[Judged]:
    """Every source under every setting: sources in order, then settings as the setup's arms have them."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], list[Arm]] = {}
    for arm in setup.arms:
        if arm.source:
            found.setdefault((arm.source, arm.setting), []).append(arm)
    result = []
    for (source, setting), arms in sorted(found.items(), key=lambda item: source_rank(item[0][0])):
        verdicts: dict[int, Any] = {}
        for arm in arms:
            verdicts = {**setup.cells(arm), **verdicts}
        result.append(Judged(source, setting, tuple(arms), dict(sorted(verdicts.items()))))
    return result


def judged_block(setup: Setup, rows: Sequence[tuple[str, Judged]]) -> Block:
    """For a figure: verdict accuracy, recall, and what each method gains.

    Args:
        setup: of the rows.
        rows: (label, who judged).
    """
    methods = methods_of(arm for _, row in rows for arm in row.arms if setup.cells(arm))
    quality = [measures.verdict_quality(key) for key in ("accuracy", "recall")]
    name = setup.deciding.name
    return Block(
        setup.heading,
        ["verdict accuracy", "verdict recall", *(f"Δ{name}, {method}" for method in methods)],
        [
            Bar(
                label,
                source_colour(row.source, n),
                [
                    *([v for c in row.verdicts.values() if (v := get(c)) is not None] for get in quality),
                    *(row.gains(setup, method) for method in methods),
                ],
                any(setup.is_oracle(arm) for arm in row.arms),
            )
            for n, (label, row) in enumerate(rows)
        ],
        setup.seeds,
    )
