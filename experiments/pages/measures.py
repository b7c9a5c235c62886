"""What a cell says: each measure as a function from the cell to a number, None where it was not measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

__all__ = [
    "Cell",
    "Get",
    "Score",
    "accuracy_of",
    "accuracy_on",
    "by_group",
    "ece",
    "flips",
    "group_score",
    "group_sizes",
    "main_test",
    "mu_align",
    "overlap",
    "plain_accuracy",
    "seconds",
    "segment_seconds",
    "sensitivity",
    "spurious_share",
    "training_weighted",
    "usd",
    "validation",
    "verdict_quality",
]

Cell = Mapping[str, Any]
Get = Callable[[Cell], float | None]


@dataclass(frozen=True)
class Score:
    """A measure that decides: its name in tables and figures, e.g. "WGA", and how to read it."""

    name: str
    get: Get


def main_test(cell: Cell) -> str | None:
    """The first test set: AGA, WGA, ECE and sensitivity are of this one."""
    return next(iter(cell["measures"]["accuracy"]), None)


def accuracy_on(test: str) -> Get:
    """Plain accuracy on a test set: the mean over its pictures."""
    return lambda cell: _number(cell["measures"]["accuracy"].get(test))


def plain_accuracy(cell: Cell) -> float | None:
    """Plain accuracy on the main test set."""
    return _of_main(cell, "accuracy")


def group_score(key: str) -> Get:
    """AGA ("average") or WGA ("worst") on the main test set."""
    return lambda cell: _number((_groups(cell) or {}).get(key))


def by_group(cell: Cell) -> dict[str, float]:
    """Group → accuracy on the main test set; empty where groups are not known."""
    return dict((_groups(cell) or {}).get("accuracy", {}))


def group_sizes(cell: Cell) -> dict[str, int]:
    """Group → how many pictures of the main test set it has."""
    return dict((_groups(cell) or {}).get("pictures", {}))


def accuracy_of(group: str) -> Get:
    """Accuracy of one group of the main test set."""
    return lambda cell: _number(by_group(cell).get(group))


def validation(cell: Cell) -> float:
    """Plain accuracy on the validation set; −∞ where there is none, so that nothing is chosen by it."""
    found = _number(cell["measures"].get("validation"))
    return float("-inf") if found is None else found


def training_weighted(cell: Cell) -> float | None:
    """Accuracies of the main test set's groups, weighted by the groups' shares of the training set."""
    return _of_main(cell, "training_weighted")


def ece(cell: Cell) -> float | None:
    """Expected calibration error on the main test set."""
    return _of_main(cell, "ece")


def mu_align(cell: Cell) -> float | None:
    """μ_align on the main test set."""
    return _number((cell["measures"].get("mu_align") or {}).get("mean"))


def sensitivity(cell: Cell) -> float | None:
    """Share of predictions that flip when the planted feature is added or removed."""
    return _number((cell["measures"].get("sensitivity") or {}).get("rate"))


def flips(change: str) -> Get:
    """The same for what is "added" or "removed" alone."""
    return lambda cell: _number(
        ((cell["measures"].get("sensitivity") or {}).get(change) or {}).get("rate"),
    )


def seconds(cell: Cell) -> float | None:
    """What the cell took."""
    return _number(cell.get("seconds"))


def usd(cell: Cell) -> float | None:
    """What the cell's verdicts cost; None where the price is not known."""
    return _number(cell.get("usd"))


def verdict_quality(key: str, against: str = "quality") -> Get:
    """Verdict "accuracy" or "recall", against the planted feature, or also what lies beside the object."""
    return lambda cell: _number(((cell.get("verdicts") or {}).get(against) or {}).get(key))


def spurious_share(cell: Cell) -> float | None:
    """Share of the selected pictures that carry the planted feature."""
    return _number((cell.get("record") or {}).get("selection_spurious_share"))


def overlap(cell: Cell) -> float | None:
    """Intersection over union of masks and planted feature."""
    return _number(((cell.get("record") or {}).get("masks") or {}).get("iou"))


def segment_seconds(cell: Cell) -> float | None:
    """What it took to segment the selected pictures."""
    return _number((cell.get("record") or {}).get("segment_seconds"))


def _groups(cell: Cell) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = (cell["measures"].get("groups") or {}).get(main_test(cell))
    return found


def _of_main(cell: Cell, key: str) -> float | None:
    return _number((cell["measures"].get(key) or {}).get(main_test(cell)))


def _number(value: object) -> float | None:
    """None for what was not measured, NaN (e.g. the accuracy of no verdicts) included."""
    return float(value) if isinstance(value, int | float) and isfinite(value) else None
