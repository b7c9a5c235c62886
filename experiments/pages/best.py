"""Each source of masks at the λ that the validation set chooses, seed by seed."""

from experiments.pages import measures
from experiments.pages.measures import Cell, Score
from experiments.pages.numbers import mean_std, table
from experiments.pages.setups import Arm, Setup, value_words

__all__ = ["LAMBDA", "best_lambda"]

LAMBDA = "align.lambda"


def best_lambda(setup: Setup) -> list[str]:
    """By accuracy on the validation set; of equals the smaller λ. Lines of Markdown."""
    swept: dict[Arm, dict[int, list[tuple[float, Cell]]]] = {}
    for arm in setup.arms:
        lam = arm.at(LAMBDA)
        for seed, cell in setup.cells(arm).items():
            value = 0.0 if lam is None or isinstance(lam, list) else float(lam)
            swept.setdefault(arm.without(LAMBDA), {}).setdefault(seed, []).append((value, cell))
    scores = [*setup.scores, Score("μ_align", measures.mu_align)]
    rows = []
    for arm, seeds in swept.items():
        best = [
            max(found, key=lambda at: (measures.validation(at[1]), -at[0]))
            for _, found in sorted(seeds.items())
        ]
        values = [[v for _, cell in best if (v := score.get(cell)) is not None] for score in scores]
        chosen = ", ".join(value_words(lam) for lam, _ in best) if _is_swept(seeds) else ""
        n = len(best)
        named = [setup.name(arm, LAMBDA), arm.masks, str(n)]
        rows.append([*named, *(mean_std(v, n) for v in values), chosen])
    head = ["method", "masks by", "n", *(score.name for score in scores), "λ chosen"]
    return table(head, rows) if any(_is_swept(seeds) for seeds in swept.values()) else []


def _is_swept(seeds: dict[int, list[tuple[float, Cell]]]) -> bool:
    return any(len(found) > 1 for found in seeds.values())
