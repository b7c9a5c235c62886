"""The methods that experiments compare, and where correction masks come from."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["METHODS", "READS", "SOURCES", "Method", "is_critic"]


@dataclass(frozen=True)
class Method:
    """One way to get from the original model to another.

    Attributes:
        words: as tables have it.
        kind: "none" is the original model, "fine-tuning" `alignment.training.fine_tune`, "baseline" one of
            `alignment.baselines`.
        right_reasons: whether λ is that of the project, or 0.
        counterfactual: likewise κ.
        sourced: whether it needs correction masks, and so a source.
    """

    words: str
    kind: Literal["none", "fine-tuning", "baseline"]
    right_reasons: bool = False
    counterfactual: bool = False
    sourced: bool = False


METHODS = {
    "original": Method("original model", "none"),
    "control": Method("control (plain fine-tuning, λ = 0)", "fine-tuning"),
    "right reasons": Method("right reasons", "fine-tuning", right_reasons=True, sourced=True),
    "counterfactual": Method("counterfactual", "fine-tuning", counterfactual=True, sourced=True),
    "both": Method("both terms", "fine-tuning", right_reasons=True, counterfactual=True, sourced=True),
    "subg": Method("SUBG", "baseline"),
    "dfr": Method("DFR", "baseline"),
    "jtt": Method("JTT", "baseline"),
}

SOURCES = {
    "builtin": "built-in critic",
    "oracle-verdicts": "oracle verdicts",
    "ground-truth-masks": "ground-truth masks (oracle)",
}
"""Where masks come from, as tables have it. A critic's name is a source, too."""


READS = dict.fromkeys(("oracle-verdicts", "ground-truth-masks"), "ground truth (oracle)")
"""What a source reads beyond images, classes and specifications, in words; others read nothing more."""


def is_critic(source: str) -> bool:
    """Whether `source` condemns segments; ground-truth masks need none."""
    return source not in ("", "ground-truth-masks")
