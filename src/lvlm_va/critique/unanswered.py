"""What was not answered, and why: no verdict at all is no "nothing is condemned"."""

from collections import Counter
from collections.abc import Sequence

from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import CriticError
from lvlm_va.io.redaction import one_line

__all__ = ["check_answered", "say_unscored"]

_SHOWN = 5  # reasons


def say_unscored(verdicts: Sequence[Verdict]) -> str:
    """How many segments have no verdict, and the reasons counted, most frequent first; "" if none."""
    reasons = Counter(one_line(v.reason) or "no reason was given" for v in verdicts if v.spurious is None)
    if not reasons:
        return ""
    lines = [f"{reasons.total()} of {len(verdicts)} segments are unscored:"]
    lines += [f"  {count} × {reason}" for reason, count in reasons.most_common(_SHOWN)]
    if len(reasons) > _SHOWN:
        left = reasons.total() - sum(count for _, count in reasons.most_common(_SHOWN))
        lines.append(f"  {left} × {len(reasons) - _SHOWN} other reasons")
    return "\n".join(lines)


def check_answered(verdicts: Sequence[Verdict]) -> None:
    """Refuse to go on as if an expert had been heard where there is not one verdict.

    Raises:
        CriticError: with the reasons, if there are segments and none of them has a verdict.
    """
    if verdicts and all(v.spurious is None for v in verdicts):
        raise CriticError(
            f"there is not one verdict. {say_unscored(verdicts)}\n"
            "All answers so far are kept: mend the cause and run the same command again, or name another "
            "critic"
        )
