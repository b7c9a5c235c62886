"""What a model is worth that is chosen on the validation set, with and without group labels."""

from collections.abc import Callable, Mapping
from typing import Any

from lvlm_va.experiments.pages.measures import Cell
from lvlm_va.experiments.pages.numbers import mean_std, table
from lvlm_va.experiments.pages.setups import Arm, Setup

__all__ = ["choosing"]

_WORDS = (
    "Of all models of a seed that read no ground truth and no group labels, the original among them, the one "
    "that scores best on the validation set, and what it is worth on the test set. By the worst true group "
    "is how the paper's baselines choose: it reads group labels."
)


def choosing(setup: Setup) -> list[str]:
    """Lines of Markdown; none where models were not scored in both ways."""
    arms = [arm for arm in setup.arms if not setup.is_oracle(arm) and not setup.sees_groups(arm)]
    rows = []
    for name, score in _CRITERIA.items():
        chosen: dict[int, tuple[float, Arm, Cell]] = {}
        for arm in arms:
            for seed, cell in setup.cells(arm).items():
                value = score(cell["measures"].get("standing") or {})
                if value is not None and (seed not in chosen or value > chosen[seed][0]):
                    chosen[seed] = (value, arm, cell)
        cells = [cell for _, (_, _, cell) in sorted(chosen.items())]
        values = (mean_std([v for cell in cells if (v := s.get(cell)) is not None]) for s in setup.scores)
        names = "; ".join(setup.label(arm) for _, (_, arm, _) in sorted(chosen.items()))
        if cells:
            rows.append([name, *values, names])
    head = ["chosen by", *(score.name for score in setup.scores), "chosen, seed by seed"]
    return [_WORDS, "", *table(head, rows)] if len(rows) > 1 and len(arms) > 1 else []


def _score(*path: str) -> Callable[[Mapping[str, Any]], float | None]:
    def read(standing: Mapping[str, Any]) -> float | None:
        found: Any = standing
        for key in path:
            found = found.get(key) if found else None
        return None if found is None else float(found)

    return read


_CRITERIA = {
    "what the verdicts say": _score("verdicts", "score"),
    "plain accuracy": _score("accuracy"),
    "the worst true group": _score("groups", "worst"),
}
