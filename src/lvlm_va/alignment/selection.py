"""Choosing λ and the epoch on the validation set; the original model stays where nothing is better."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from lvlm_va.alignment.verdict_score import VerdictScore
from lvlm_va.evaluate.groups import GroupAccuracy
from lvlm_va.training.loop import Score

__all__ = ["Candidate", "Criterion", "ValidationScore", "best", "explain_choice"]

Criterion = Literal["verdicts", "validation", "groups"]
"""`align.choose_by`: what the verdicts say, plain accuracy, or the worst true group (reads group labels)."""

_MAY_FALL = 0.005
"""By how much the overall score may fall for a better worst one: half a point."""


@dataclass(frozen=True)
class ValidationScore:
    """How a model does on the validation set; None is what cannot be said.

    Attributes:
        accuracy: plain accuracy, in [0, 1]; None without a validation set.
        verdicts: None where no condemned segment can be pasted.
        groups: None where groups are unknown.
    """

    accuracy: float | None = None
    verdicts: VerdictScore | None = None
    groups: GroupAccuracy | None = None

    def criterion(self, wanted: Criterion) -> Criterion:
        """`wanted`, or "validation" where no condemned segment is small enough to be pasted."""
        return "validation" if wanted == "verdicts" and self.verdicts is None else wanted

    def score(self, by: Criterion, original: "ValidationScore | None" = None) -> Score:
        """What is compared: larger is better.

        Args:
            by: see `criterion`.
            original: the unaligned model's. By verdicts, one whose overall score falls below it by more than
                half a point comes after all that do not.
        """
        if by == "groups" and self.groups is not None:
            return (self.groups.worst, self.groups.average)
        if by == "verdicts" and self.verdicts is not None:
            before = None if original is None else original.verdicts
            holds = before is None or self.verdicts.overall >= before.overall - _MAY_FALL
            return (float(holds), self.verdicts.score)
        return (self.accuracy or 0.0,)


@dataclass(frozen=True, eq=False)
class Candidate:
    """One fine-tuned model, or the original.

    Attributes:
        lam: λ; 0 for the original.
        validation: how it does on the validation set.
        model: in evaluation mode.
        epochs: the score after each epoch, where epochs were scored.
    """

    lam: float
    validation: ValidationScore
    model: nn.Module
    epochs: tuple[Score, ...] = ()


def best(candidates: Sequence[Candidate], original: Candidate, by: Criterion) -> Candidate:
    """The best candidate; of equals a fine-tuned one, and the one with the smaller λ.

    Without a validation set the first. To let the original model stay where nothing is better, put it among
    the candidates.

    Args:
        candidates: at least one.
        original: against which falls are measured.
        by: `align.choose_by`.
    """
    if original.validation.accuracy is None:
        return candidates[0]
    by = original.validation.criterion(by)
    return max(
        candidates,
        key=lambda one: (one.validation.score(by, original.validation), one is not original, -one.lam),
    )


def explain_choice(chosen: Candidate, original: Candidate, by: Criterion, *, tried: int) -> str:
    """In words, what decided.

    Args:
        chosen: what `best` returned.
        original: the original model.
        by: `align.choose_by`.
        tried: how many values of λ.
    """
    if original.validation.accuracy is None:
        return "given"
    words = {
        "verdicts": "worst and mean accuracy of the validation set's classes, with and without condemned "
        "segments put in",
        "validation": "best plain accuracy on the validation set",
        "groups": "the worst true group on the validation set (reads group labels)",
    }[original.validation.criterion(by)]
    if chosen is original:
        return f"{words}; nothing was better than the original model, which stays"
    return f"given; compared with the original model by: {words}" if tried == 1 else words
