"""What figures of results share: colours that colour-blind readers tell apart, and bytes that do not vary."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.pages.setups import Arm

__all__ = ["GREY", "arm_colour", "clean", "drawing", "source_colour", "svg"]

GREY = "#555555"

# Okabe & Ito (2008).
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


@contextmanager
def drawing() -> Iterator[None]:
    """The settings under which figures are made."""
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",  # text stays text: readable at any size, and by screen readers
        "svg.hashsalt": "lvlm-va",
        "text.parse_math": False,  # a test set may be called anything
        "font.size": 9.5,
        "axes.titlesize": 10.5,
        "hatch.linewidth": 0.8,
        "lines.linewidth": 1.6,
        "lines.markersize": 5.5,
    }
    with mpl.rc_context(settings):
        yield


def clean(axes: Axes, grid: str) -> None:
    """No box, a light grid behind ("x" or "y")."""
    axes.grid(axis=grid, color="#dddddd", linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file; the same figure gives the same bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return file.getvalue()
