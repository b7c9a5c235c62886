"""Curves over what is varied, between bounds, in the manner of the paper's Fig. 5."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log10
from statistics import mean, stdev
from typing import TYPE_CHECKING

from lvlm_va.report.drawing import clean, drawing, svg

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["Band", "Curve", "Mark", "Panel", "draw_curves"]

_MARK = "#D55E00"
_MARKERS = "os^DvP*X"
_DASHES = ("-", "--", "-.", ":")
_WIDE = 20.0  # largest by smallest value, from which on an axis is logarithmic
_LETTER = 0.027  # of a panel's width: a letter of a tick's label


@dataclass(frozen=True)
class Curve:
    """One method in one panel.

    Attributes:
        label: in the legend.
        colour: of line and markers.
        points: (x, values of the seeds), ascending in x.
    """

    label: str
    colour: str
    points: Sequence[tuple[float, Sequence[float]]]


@dataclass(frozen=True)
class Band:
    """A bound that does not depend on x: the values of the seeds."""

    label: str
    colour: str
    values: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One quantity in one setup."""

    title: str
    quantity: str
    curves: Sequence[Curve]
    bands: Sequence[Band]


@dataclass(frozen=True)
class Mark:
    """A place on the axis: an upright line and what the legend says of it."""

    label: str
    x: float


def draw_curves(
    rows: Sequence[Sequence[Panel]],
    axis: str,
    *,
    mark: Mark | None = None,
    logarithmic: bool | None = None,
) -> bytes:
    """An SVG file: a row of panels for each setup; means over seeds, whiskers of one standard deviation.

    On a logarithmic axis 0 lies one step below the others, under "0". The same arguments give the same bytes.

    Args:
        rows: at least one panel, with at least one curve each.
        axis: what is varied, e.g. "J, segments per image".
        mark: one of the x, to be marked in every panel.
        logarithmic: how the axis is scaled; None decides by how far the x lie apart.
    """
    width = max(len(row) for row in rows)
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3.6 * max(width, 2), 3.1 * len(rows) + 0.8), layout="constrained")
        grid = figure.subplots(len(rows), width, squeeze=False)
        seen: dict[str, Artist] = {}
        for row, panels in zip(grid, rows, strict=True):
            for axes in row[len(panels) :]:
                axes.set_visible(False)
            for n, (axes, panel) in enumerate(zip(row, panels, strict=False)):
                _draw(axes, panel, axis, mark, logarithmic)
                if n == 0:
                    axes.set_title(panel.title, loc="left", fontweight="bold")
                for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                    seen.setdefault(label, handle)
        figure.legend(
            list(seen.values()),
            list(seen),
            loc="outside lower center",
            ncols=2 if width < 3 else 3,
            frameon=False,
            handlelength=3,
        )
        return svg(figure)


def _draw(axes: "Axes", panel: Panel, axis: str, mark: Mark | None, logarithmic: bool | None) -> None:
    marked = set() if mark is None else {mark.x}
    xs = sorted(marked | {x for curve in panel.curves for x, _ in curve.points})
    place = _scale(axes, xs, logarithmic)
    if mark is not None:
        axes.axvline(place[mark.x], color=_MARK, linewidth=1.2, zorder=0, label=mark.label)
    for band in panel.bands:
        if not band.values:
            continue
        centre = mean(band.values)
        axes.axhline(centre, color=band.colour, linestyle=":", linewidth=1.5, label=band.label, zorder=1)
        if len(band.values) > 1:
            std = stdev(band.values)
            axes.axhspan(centre - std, centre + std, color=band.colour, alpha=0.13, linewidth=0, zorder=0)
    for n, curve in enumerate(panel.curves):
        spread = [stdev(values) if len(values) > 1 else 0.0 for _, values in curve.points]
        axes.errorbar(
            [place[x] for x, _ in curve.points],
            [mean(values) for _, values in curve.points],
            spread if any(spread) else None,
            label=curve.label,
            color=curve.colour,
            marker=_MARKERS[n % len(_MARKERS)],
            linestyle=_DASHES[n % len(_DASHES)],
            markeredgecolor="white",
            markeredgewidth=0.6,
            elinewidth=1.0,
            capsize=2.5,
        )
    axes.set_xlabel(axis)
    axes.set_ylabel(panel.quantity, labelpad=9)
    axes.margins(y=0.08)
    clean(axes, "y")


def _scale(axes: "Axes", xs: Sequence[float], logarithmic: bool | None) -> dict[float, float]:
    """Where each x lies."""
    positive = [x for x in xs if x > 0]
    if logarithmic is None:
        logarithmic = len(positive) > 1 and xs[0] >= 0 and positive[-1] / positive[0] >= _WIDE
    place = {x: float(x) for x in xs}
    if logarithmic:
        axes.set_xscale("log")
        if xs[0] == 0:
            place[xs[0]] = (
                positive[0] ** 2 / positive[1] if len(positive) > 1 else 0.1 * (positive or [1.0])[0]
            )
    if len(xs) == 1:  # around a lone point no limits can be chosen
        (x,) = place.values()
        axes.set_xlim(*((x / 10, x * 10) if logarithmic else (x - 1, x + 1)))
    axes.set_xticks([place[x] for x in xs], [f"{x:g}" for x in xs])
    if _crowded([log10(place[x]) if logarithmic else place[x] for x in xs], [f"{x:g}" for x in xs]):
        axes.tick_params(axis="x", labelrotation=45)
    axes.set_xticks([], minor=True)
    return place


def _crowded(places: Sequence[float], labels: Sequence[str]) -> bool:
    """Whether two neighbouring labels would touch."""
    if len(places) < 2:  # none, where every trial failed
        return False
    width = (places[-1] - places[0]) or 1.0
    return any(
        (b - a) / width < _LETTER * (len(left) + len(right)) / 2 + _LETTER
        for (a, b), (left, right) in zip(pairwise(places), pairwise(labels), strict=True)
    )
