"""Colours that colour-blind readers tell apart (Okabe & Ito, 2008)."""

from experiments.pages.setups import Arm

__all__ = ["arm_colour", "source_colour"]

_METHODS = {
    "original": "#555555",
    "control": "#999999",
    "right reasons": "#0072B2",
    "counterfactual": "#009E73",
    "both": "#CC79A7",
    "subg": "#E69F00",
    "dfr": "#D55E00",
    "jtt": "#56B4E9",
}
_SOURCES = {"builtin": "#0072B2", "oracle-verdicts": "#009E73", "ground-truth-masks": "#D55E00"}
_OTHERS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000")


def arm_colour(arm: Arm) -> str:
    """The colour of a method."""
    return _METHODS.get(arm.method, "#F0E442")


def source_colour(source: str, number: int) -> str:
    """The colour of a source of verdicts; sources without their own take turns by `number`."""
    return _SOURCES.get(source, _OTHERS[number % len(_OTHERS)])
