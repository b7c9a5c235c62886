"""What all figures share: settings, grid, and bytes that do not vary.

matplotlib is loaded where a figure is drawn: every command would else wait for it.
"""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lvlm_va.io.silence import load_fonts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["GREY", "clean", "drawing", "svg"]

GREY = "#555555"
_LOADING = threading.Lock()


@contextmanager
def drawing() -> Iterator[None]:
    """The settings under which figures are made."""
    with _LOADING:
        load_fonts()
    from matplotlib import rc_context

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
    with rc_context(settings):
        yield


def clean(axes: "Axes", grid: str) -> None:
    """No box, a light grid behind ("x" or "y")."""
    axes.grid(axis=grid, color="#dddddd", linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def svg(figure: "Figure") -> bytes:
    """The figure as an SVG file; the same figure gives the same bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return file.getvalue()
