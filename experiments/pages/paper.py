"""What the paper measured, beside what we did: its numbers as rows of our tables, its outcomes as claims."""

from collections.abc import Sequence
from statistics import mean, stdev

from experiments.description import Experiment, Move, PaperClaim
from experiments.methods import READS
from experiments.pages.numbers import signed, table
from experiments.pages.setups import Arm, Setup

__all__ = ["NOTE", "beside", "only_in_the_paper", "with_paper"]

NOTE = (
    "Rows that say *the paper* are its own numbers, from the *source* that they name: full size, seven "
    "seeds, λ = 1 in its units; * its Wilcoxon test against the original model, p < 0.05."
)
_BESIDE = (
    "A mean gain no larger than its standard deviation counts as unchanged; of one seed every gain counts. "
    "Rows: critics that are no oracle."
)
_MOVES: dict[Move, tuple[int, ...]] = {"up": (1,), "down": (-1,), "not up": (-1, 0), "not down": (0, 1)}


def with_paper(
    about: Experiment, setup: Setup, head: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[list[str], list[list[str]]]:
    """A table with the paper's rows of this data set below ours; columns that only it has come last."""
    theirs = [{**row.cells, "source": row.source} for row in about.paper_rows if row.dataset == setup.dataset]
    columns = list(dict.fromkeys([*head, *(column for cells in theirs for column in cells)]))
    ours = [[*row, *[""] * (len(columns) - len(head))] for row in rows]
    return columns, [*ours, *([cells.get(column, "") for column in columns] for cells in theirs)]


def only_in_the_paper(about: Experiment, every: Sequence[Setup]) -> list[str]:
    """The paper's rows of data sets on which nothing is measured here: lines of Markdown."""
    measured = {setup.dataset for setup in every}
    lines: list[str] = []
    for dataset in dict.fromkeys(row.dataset for row in about.paper_rows if row.dataset not in measured):
        setup = Setup([], dataset, "full")
        lines += ["", f"## {setup.title}: the paper alone", "", "Not measured here.", ""]
        lines += table(*with_paper(about, setup, [], []))
    return lines


def beside(about: Experiment, setup: Setup) -> list[str]:
    """What the paper says came out, what came out here, and whether that is the same: lines of Markdown."""
    rows = [
        _row(claim, setup, arm)
        for claim in about.paper_claims
        if claim.dataset == setup.dataset
        for arm in setup.arms
        if setup.results(arm) and _is_of(claim, arm)
    ]
    if not rows:
        return []
    gains = [f"Δ{score.name}" for score in setup.scores]
    head = ["method", "masks by", "n", "the paper", "source", *gains, "here", "what is known of why"]
    return ["", f"### {setup.title}: beside the paper", "", _BESIDE, "", *table(head, rows)]


def _row(claim: PaperClaim, setup: Setup, arm: Arm) -> list[str]:
    n = len(setup.results(arm))
    gains = {score.name: setup.gains(arm, score.get) for score in setup.scores}
    moved = {name: _direction(gains.get(name, [])) for name in claim.moves}
    other = [name for name, move in claim.moves.items() if moved[name] not in _MOVES[move]]
    if None in moved.values():
        here, why = "not measured", ""
    elif other:
        here, why = f"**otherwise** ({', '.join(other)})", claim.why
    else:
        here, why = "the same", ""
    words = [setup.name(arm), arm.masks, str(n), claim.says, claim.source]
    return [*words, *(signed(values, n) for values in gains.values()), here, why]


def _is_of(claim: PaperClaim, arm: Arm) -> bool:
    return (
        arm.method == claim.method
        and arm.source not in READS
        and all(arm.at(key) == value for key, value in claim.setting.items())
    )


def _direction(gains: Sequence[float]) -> int | None:
    """1 up, -1 down, 0 unchanged; None where nothing was measured."""
    if not gains:
        return None
    found = mean(gains)
    if len(gains) > 1 and abs(found) <= stdev(gains):
        return 0
    return (found > 0) - (found < 0)
