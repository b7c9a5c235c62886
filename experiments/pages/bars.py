"""Bars side by side, in the manner of the paper's Fig. 8 and 9: means, one standard deviation, every seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lvlm_va.report.drawing import GREY, clean, drawing, svg

__all__ = ["Bar", "Block", "draw_bars"]

_ORACLE, _GROUPS = "////", "||||"
_ROW, _HEAD = 0.34, 0.95  # inches: one bar; a block's title and axis
_LINE, _LETTER, _LETTERS = 0.17, 0.075, 48  # inches: a further line of a label, a letter; letters of a line


@dataclass(frozen=True)
class Bar:
    """One bar in every column of a block.

    Attributes:
        label: left of it, in several lines where it is long.
        colour: of its face.
        values: for each column the values of the seeds; none where nothing was measured.
        oracle: hatched: it reads the ground truth.
        groups: upright lines: it reads group labels.
    """

    label: str
    colour: str
    values: Sequence[Sequence[float]]
    oracle: bool = False
    groups: bool = False

    @property
    def lines(self) -> list[str]:
        """Of the label."""
        return wrap(self.label, _LETTERS)


@dataclass(frozen=True)
class Block:
    """A row of the figure: bars of one setup.

    Attributes:
        title: e.g. "Knee, reduced size (3 seeds)".
        columns: what each column measures, e.g. "ΔAGA".
        bars: from top to bottom.
        seeds: how many there are; a bar of fewer says so.
    """

    title: str
    columns: Sequence[str]
    bars: Sequence[Bar]
    seeds: int


def draw_bars(blocks: Sequence[Block]) -> bytes:
    """An SVG file: a row of panels for each block, a column for each measure.

    Panels of the same measure share the range of their axis, so that they can be compared.

    Args:
        blocks: at least one, each with at least one column and bar.
    """
    width = max(len(block.columns) for block in blocks)
    heights = [_HEAD + sum(map(_height, block.bars)) for block in blocks]
    longest = max(len(line) for block in blocks for bar in block.bars for line in bar.lines)
    left = max(2.6, _LETTER * longest)
    with drawing():
        figure = Figure(figsize=(left + min(3.1 * width, 8.8), sum(heights) + 0.4), layout="constrained")
        grid = figure.subplots(len(blocks), width, squeeze=False, height_ratios=heights)
        spans: dict[str, list[float]] = {}
        for block in blocks:
            for n, column in enumerate(block.columns):
                spans.setdefault(_quantity(column), []).extend(_reach(block, n))
        for row, block in zip(grid, blocks, strict=True):
            for n, axes in enumerate(row):
                if n >= len(block.columns):
                    axes.set_visible(False)
                    continue
                _panel(axes, block, n)
                span = spans[_quantity(block.columns[n])]
                low, high = min(span), max(span)
                room = 0.06 * ((high - low) or 1.0)
                axes.set_xlim(low - room * (low < 0), high + room * (high > 0 or low == 0))
        _legend(figure, [bar for block in blocks for bar in block.bars])
        return svg(figure)


def _height(bar: Bar) -> float:
    return _ROW + _LINE * max(0, len(bar.lines) - 2)


def _quantity(column: str) -> str:
    """What "ΔWGA, both" and "ΔWGA, counterfactual" have in common."""
    return column.split(",")[0]


def _reach(block: Block, column: int) -> list[float]:
    """What the axis must hold: 0, every seed, and every whisker."""
    reach = [0.0]
    for bar in block.bars:
        values = bar.values[column]
        reach += values
        if len(values) > 1:
            reach += [mean(values) - stdev(values), mean(values) + stdev(values)]
    return reach


def _panel(axes: Axes, block: Block, column: int) -> None:
    name = block.columns[column]
    for y, bar in enumerate(block.bars):
        values = bar.values[column]
        if not values:
            axes.text(1.02, y, "–", transform=axes.get_yaxis_transform(), va="center", color=GREY)
            continue
        axes.barh(
            y,
            mean(values),
            height=0.66,
            color=bar.colour,
            edgecolor="white",
            linewidth=0,
            hatch=_ORACLE if bar.oracle else _GROUPS if bar.groups else None,
        )
        if len(values) > 1:
            axes.errorbar(
                mean(values), y, xerr=stdev(values), color="#222222", capsize=2.5, linewidth=1.1, zorder=3
            )
        for k, value in enumerate(values):
            lift = (k - (len(values) - 1) / 2) * min(0.16, 0.5 / len(values))
            axes.plot(
                value,
                y + lift,
                "o",
                markersize=3.2,
                markerfacecolor="white",
                markeredgecolor="#222222",
                markeredgewidth=0.7,
                zorder=4,
            )
        fewer = f" (n = {len(values)})" if len(values) != block.seeds else ""
        sign = "+" if name.startswith("Δ") else ""
        axes.text(
            1.02,
            y,
            f"{mean(values):{sign}.3f}".replace("-", "−") + fewer,
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=8.5,
        )
    axes.set_yticks(
        range(len(block.bars)),
        ["\n".join(bar.lines) for bar in block.bars] if column == 0 else [],
    )
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(block.bars) - 0.5, -0.5)
    axes.axvline(0, color=GREY, linewidth=0.9)
    clean(axes, "x")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(name)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 4, 5, 10]))
    if column == 0:
        axes.set_title(block.title, loc="left", fontweight="bold")


def _legend(figure: Figure, bars: Sequence[Bar]) -> None:
    handles: list[Patch | Line2D] = []
    if any(len(values) > 1 for bar in bars for values in bar.values):
        whisker = Line2D([], [], color="#222222", marker="|", markersize=7, linewidth=1.1)
        whisker.set_label("mean ± std")
        handles.append(whisker)
    handles.append(
        Line2D(
            [],
            [],
            linestyle="",
            marker="o",
            markersize=3.6,
            markerfacecolor="white",
            markeredgecolor="#222222",
            label="one seed",
        )
    )
    for told, hatch, label in (
        (any(bar.oracle for bar in bars), _ORACLE, "reads the ground truth (oracle)"),
        (any(bar.groups and not bar.oracle for bar in bars), _GROUPS, "reads group labels"),
    ):
        if told:
            patch = Patch(facecolor="#aaaaaa", edgecolor="white", hatch=hatch, linewidth=0, label=label)
            handles.append(patch)
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, handlelength=2)
