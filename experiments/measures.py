"""The measures of tables and figures: each a function from a result to a number, None where not measured."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from experiments.results import Result

__all__ = [
    "COLUMNS",
    "Get",
    "Score",
    "accuracy_of",
    "accuracy_on",
    "average",
    "ece",
    "flips",
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
    "worst",
]

Get = Callable[[Result], float | None]


@dataclass(frozen=True)
class Score:
    """A measure that decides: its name in tables and figures, e.g. "WGA", and how to read it."""

    name: str
    get: Get


def accuracy_on(test: str) -> Get:
    """Plain accuracy on a test set: the mean over its images."""
    return lambda result: result.measures.accuracy.get(test)


def plain_accuracy(result: Result) -> float | None:
    """Plain accuracy on the main test set."""
    return result.measures.accuracy.get(result.main_test)


def average(result: Result) -> float | None:
    """AGA on the main test set."""
    return result.groups.average


def worst(result: Result) -> float | None:
    """WGA on the main test set."""
    return result.groups.worst


def accuracy_of(group: str) -> Get:
    """Accuracy of one group of the main test set."""
    return lambda result: result.groups.accuracy.get(group)


def validation(result: Result) -> float | None:
    """Plain accuracy on the validation set."""
    return result.measures.validation


def training_weighted(result: Result) -> float | None:
    """Accuracies of the main test set's groups, weighted by the groups' shares of the training set."""
    return result.measures.training_weighted.get(result.main_test)


def ece(result: Result) -> float | None:
    """Expected calibration error on the main test set."""
    return result.measures.ece.get(result.main_test)


def mu_align(result: Result) -> float | None:
    """μ_align on the main test set."""
    return result.measures.mu_align.mean


def sensitivity(result: Result) -> float | None:
    """Share of predictions that flip when the planted feature is added or removed."""
    return result.measures.sensitivity.rate


def flips(change: Literal["added", "removed"]) -> Get:
    """The same for one change alone."""
    return lambda result: getattr(result.measures.sensitivity, change).rate


def seconds(result: Result) -> float | None:
    """What the trial took."""
    return result.seconds


def usd(result: Result) -> float | None:
    """What the trial's verdicts cost; None where the price is not known."""
    return result.usd


def verdict_quality(
    key: Literal["accuracy", "recall"], against: Literal["quality", "quality_either"] = "quality"
) -> Get:
    """Verdict accuracy or recall, against the planted feature, or also what lies beside the object."""
    return lambda result: getattr(getattr(result.verdicts, against), key)


def spurious_share(result: Result) -> float | None:
    """Share of the selected images that carry the planted feature."""
    return result.record.selection_spurious_share


def overlap(result: Result) -> float | None:
    """Intersection over union of masks and planted feature."""
    return result.record.masks.iou


def segment_seconds(result: Result) -> float | None:
    """What it took to segment the selected images."""
    return result.record.segment_seconds


def _classes(result: Result) -> float | None:
    found = result.record.per_class
    return None if found is None else float(sum(n > 0 for n in found))


COLUMNS: dict[str, tuple[Get, int]] = {
    "λ": (lambda result: result.measures.lam, 3),
    "validation": (validation, 3),
    "verdict accuracy": (verdict_quality("accuracy"), 3),
    "recall": (verdict_quality("recall"), 3),
    "classes": (_classes, 0),
    "calls": (lambda result: result.record.questions.calls, 0),
    "USD": (lambda result: result.record.questions.usd, 2),
    "same": (lambda result: result.record.questions.same, 3),
    "found": (lambda result: result.record.questions.found, 3),
    "unscored": (lambda result: result.record.questions.unscored, 3),
}
"""Further columns that an experiment may name: what they show, and digits after the point."""
