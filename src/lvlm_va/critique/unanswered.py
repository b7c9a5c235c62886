"""What was not answered, and why: no verdict at all is no "nothing is condemned"."""

import re
from collections import Counter
from collections.abc import Sequence

from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import CriticError
from lvlm_va.io.redaction import one_line

__all__ = ["check_answered", "say_too_little", "say_unscored", "unscored_evidence", "unscored_reason"]

_SHOWN = 5  # reasons
_TOO_MUCH = 0.5  # share of the evidence
_NUMBERED = re.compile(r"\bsegment \d+\b")


def unscored_reason(verdict: Verdict) -> str:
    """Why a segment has no verdict, in the same words for every segment."""
    return _NUMBERED.sub("the segment", verdict.reason)


def say_unscored(verdicts: Sequence[Verdict]) -> str:
    """How many segments have no verdict, and the reasons counted, most frequent first; "" if none."""
    reasons = Counter(
        one_line(unscored_reason(v)) or "no reason was given" for v in verdicts if v.spurious is None
    )
    if not reasons:
        return ""
    lines = [f"{reasons.total()} of {len(verdicts)} segments are unscored:"]
    lines += [f"  {count} × {reason}" for reason, count in reasons.most_common(_SHOWN)]
    if len(reasons) > _SHOWN:
        left = reasons.total() - sum(count for _, count in reasons.most_common(_SHOWN))
        lines.append(f"  {left} × {len(reasons) - _SHOWN} other reasons")
    return "\n".join(lines)


def unscored_evidence(
    explained_images: Sequence[ExplainedImage], verdicts: Sequence[Verdict]
) -> float | None:
    """The share of the segments' evidence that has no verdict, mean over images; None without any segment."""
    scored = {(v.image_id, v.segment) for v in verdicts if v.spurious is not None}
    shares = [
        sum(one.shares[j - 1] for j in one.segment_ids if (one.image_id, j) not in scored)
        / sum(one.shares[j - 1] for j in one.segment_ids)
        for one in explained_images
        if one.segment_ids
    ]
    return sum(shares) / len(shares) if shares else None


def say_too_little(critic: str, unscored: float | None) -> str:
    """A warning where the built-in critic recognised too little to be of use; "" otherwise.

    Args:
        critic: the name of the critic.
        unscored: the share of the evidence without a verdict.
    """
    if critic != "builtin" or unscored is None or unscored <= _TOO_MUCH:
        return ""
    return (
        f"{unscored:.0%} of the evidence got no verdict: the built-in critic recognises writing, flat or "
        "coloured patches, frames and drawn figures, and says nothing about all else. Use a vision-language "
        "model (critique.critic: openai:<model> or hf:<model>), or answer yourself (critique.critic: person)."
    )


def check_answered(verdicts: Sequence[Verdict], *, kept: bool = True) -> None:
    """Refuse to go on as if an expert had been heard where there is not one verdict.

    Args:
        verdicts: of the critique.
        kept: whether the answers outlive the command.

    Raises:
        CriticError: with the reasons, if there are segments and none of them has a verdict.
    """
    if verdicts and all(v.spurious is None for v in verdicts):
        saved = "All answers so far are kept: mend" if kept else "Mend"
        raise CriticError(
            f"there is not one verdict. {say_unscored(verdicts)}\n"
            f"{saved} the cause and run the same command again, or name another critic"
        )
