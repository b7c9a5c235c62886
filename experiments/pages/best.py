"""Each source of masks at the λ that the validation set chooses, seed by seed."""

from experiments import measures
from experiments.measures import Score
from experiments.pages.numbers import mean_std, table
from experiments.pages.setups import Arm, Setup, value_words
from experiments.results import Result

__all__ = ["LAMBDA", "best_lambda"]

LAMBDA = "align.lambda"


def best_lambda(setup: Setup) -> list[str]:
    """By accuracy on the validation set; of equals the smaller λ. Lines of Markdown."""
    swept: dict[Arm, dict[int, list[tuple[float, Result]]]] = {}
    for arm in setup.arms:
        lam = arm.at(LAMBDA)
        for seed, result in setup.results(arm).items():
            value = 0.0 if lam is None or isinstance(lam, list) else float(lam)
            swept.setdefault(arm.without(LAMBDA), {}).setdefault(seed, []).append((value, result))
    scores = [*setup.scores, Score("μ_align", measures.mu_align)]
    rows = []
    for arm, seeds in swept.items():
        best = [max(found, key=_preferred) for _, found in sorted(seeds.items())]
        values = [[v for _, result in best if (v := score.get(result)) is not None] for score in scores]
        chosen = ", ".join(value_words(lam) for lam, _ in best) if _is_swept(seeds) else ""
        n = len(best)
        named = [setup.name(arm, LAMBDA), arm.masks, str(n)]
        rows.append([*named, *(mean_std(v, n) for v in values), chosen])
    head = ["method", "masks by", "n", *(score.name for score in scores), "λ chosen"]
    return table(head, rows) if any(_is_swept(seeds) for seeds in swept.values()) else []


def _is_swept(seeds: dict[int, list[tuple[float, Result]]]) -> bool:
    return any(len(found) > 1 for found in seeds.values())


def _preferred(at: tuple[float, Result]) -> tuple[float, float]:
    validation = at[1].measures.validation
    return (float("-inf") if validation is None else validation, -at[0])
