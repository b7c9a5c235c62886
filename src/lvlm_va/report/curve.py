"""Fig. 5: what the model becomes as λ grows, between both bounds."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from lvlm_va.report.words import lambda_text
from lvlm_va.run.metrics import ModelMetrics, RunMetrics

__all__ = ["Curve", "Panel", "draw_curves", "lambda_panels"]

# Okabe & Ito (2008): told apart by colour-blind readers; markers and dashes tell them apart in grey.
_STYLES = (("#0072B2", "o", "-"), ("#009E73", "s", "--"))
_UNALIGNED = "#555555"
_CHOSEN = "#D55E00"
_CROWDED = 7  # labels of λ that fit side by side


@dataclass(frozen=True)
class Curve:
    """One quantity over λ: ascending λ ≥ 0 and the values at them."""

    label: str
    lam: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Panel:
    """One quantity: its axis label, the aligned models' curves, and the unaligned model's value."""

    label: str
    curves: tuple[Curve, ...]
    unaligned: float


def lambda_panels(metrics: RunMetrics, labels: Mapping[str, str]) -> list[Panel]:
    """Accuracy on the main test set and μ_align over λ.

    Args:
        metrics: of a run.
        labels: name of a curve in it → what the figure calls it.

    Returns:
        One panel per quantity that was measured; none where there is no test set.
    """
    panels = []
    test = metrics.main_test
    if test is not None:
        label = f"accuracy on {test}, %"
        panels.append(_panel(metrics, labels, label, lambda m: 100 * m.accuracy[test]))
    if all(m.mu_align is not None for m in metrics.models.values()):
        panels.append(
            _panel(metrics, labels, "μ_align", lambda m: _number(m.mu_align.mean if m.mu_align else None))
        )
    return panels


def _number(value: float | None) -> float:
    """What matplotlib leaves out where a number is undefined."""
    return float("nan") if value is None else value


def _panel(
    metrics: RunMetrics,
    labels: Mapping[str, str],
    label: str,
    value: Callable[[ModelMetrics], float],
) -> Panel:
    curves = []
    for name, fits in metrics.lam.curves.items():
        points = sorted(fits, key=lambda fit: fit.lam)
        lam, values = tuple(p.lam for p in points), tuple(map(value, points))
        curves.append(Curve(labels.get(name, name), lam, values))
    return Panel(label, tuple(curves), value(metrics.models["original"]))


def draw_curves(panels: Sequence[Panel], *, chosen: float, description: str) -> Markup:
    """The panels side by side as an SVG element; the same arguments give the same bytes.

    λ = 0 has no place on a logarithmic axis and is drawn one decade below the smallest other, under "0".

    Args:
        panels: at least one, with at least one curve each.
        chosen: the λ to mark.
        description: what the figure says, for those who cannot see it.
    """
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",  # text stays text: readable at any size, and by screen readers
        "svg.hashsalt": "lambda",
        "text.parse_math": False,  # a test set may be called anything
        "font.size": 11,
        "lines.linewidth": 1.8,
        "lines.markersize": 6,
    }
    with matplotlib.rc_context(settings):
        canvas = Figure(figsize=(4.9 * len(panels), 4.1), layout="constrained")
        FigureCanvasSVG(canvas)
        grid = canvas.subplots(1, len(panels), squeeze=False)
        for axes, panel in zip(grid[0], panels, strict=True):
            _draw(axes, panel, chosen)
        handles, labels = grid[0][0].get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False, handlelength=2.6)
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _inline(buffer.getvalue(), description)


def _draw(axes: Axes, panel: Panel, chosen: float) -> None:
    every = sorted({lam for curve in panel.curves for lam in curve.lam})
    positive = [lam for lam in every if lam > 0] or [1.0]
    zero = positive[0] / 10

    def place(lam: float) -> float:
        return lam if lam > 0 else zero

    low, high = place(every[0]), place(every[-1])
    spare = 10 ** (0.06 if high > low else 1)
    axes.set_xscale("log")
    axes.set_xlim(low / spare, high * spare)  # before there is a lone point, around which none can be chosen
    axes.axhline(panel.unaligned, color=_UNALIGNED, linestyle=":", linewidth=1.6, label="unaligned")
    for curve, (colour, marker, dash) in zip(panel.curves, _STYLES, strict=False):
        x = [place(lam) for lam in curve.lam]
        axes.plot(x, curve.values, color=colour, marker=marker, linestyle=dash, label=curve.label)
    axes.axvline(
        place(chosen), color=_CHOSEN, linewidth=1.2, zorder=0, label=f"chosen: λ = {lambda_text(chosen)}"
    )
    axes.set_xticks([place(lam) for lam in every], [lambda_text(lam) for lam in every])
    axes.tick_params(axis="x", rotation=45 if len(every) > _CROWDED else 0)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("λ, log scale")
    axes.set_ylabel(panel.label)
    axes.margins(y=0.12)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _inline(svg: str, description: str) -> Markup:
    """The bare element, scaling with the page, with a text alternative."""
    element = svg[svg.index("<svg") :]
    tag, rest = element.split(">", 1)
    tag = re.sub(r' (?:width|height|version)="[^"]*"', "", tag)
    label = Markup.escape(description)
    return Markup(f'{tag} role="img" aria-label="{label}">{rest}')  # noqa: S704 -- matplotlib escapes its texts
