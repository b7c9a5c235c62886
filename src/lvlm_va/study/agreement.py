"""Do the participants agree with each other? Krippendorff's α, which takes missing answers as they are."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

__all__ = ["Agreement", "krippendorff"]


@dataclass(frozen=True)
class Agreement:
    """How far several people gave the same answers to the same questions.

    Attributes:
        alpha: 1 − D_o / D_e: 1 is agreement throughout, 0 what chance would give, less is systematic
            disagreement. None where it is not defined: nothing was answered by two people, or all of them
            always gave one and the same answer, so that chance would agree as well.
        observed: share of pairs of answers to the same question that are the same, 1 − D_o; None where no
            question was answered by two people.
        questions: answered by at least two people.
        answers: to those.
    """

    alpha: float | None
    observed: float | None
    questions: int
    answers: int


def krippendorff(answers: Sequence[Sequence[Hashable]]) -> Agreement:
    """Krippendorff's α for nominal data.

    Chosen instead of Fleiss' κ, which needs the same number of answers to every question: participants may
    leave questions open. Within a question each pair of answers counts 1 / (m − 1), m being its answers, so
    that every answer counts once.

    Source: K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), sections C and D.

    Args:
        answers: by question, the answers that were given to it, in any order.
    """
    paired = [Counter(given) for given in answers if len(given) > 1]
    totals = sum(paired, Counter[Hashable]())
    n = totals.total()
    if not n:
        return Agreement(None, None, 0, 0)
    same = sum(sum(count * (count - 1) for count in given.values()) / (given.total() - 1) for given in paired)
    observed = same / n
    expected = sum(count * (count - 1) for count in totals.values()) / (n * (n - 1))
    alpha = 1 - (1 - observed) / (1 - expected) if len(totals) > 1 else None
    return Agreement(alpha, observed, len(paired), n)
