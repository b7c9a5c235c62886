"""Fig. 5: accuracy and μ_align over λ, between the unaligned model and ground-truth masks."""

import io
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["figure5"]

_STYLES = {
    "builtin": ("built-in critic (not an LVLM)", "#0072B2", "o", "-"),
    "oracle-verdicts": ("oracle verdicts", "#009E73", "s", "--"),
    "ground-truth-masks": ("ground-truth masks (oracle)", "#D55E00", "^", "-."),
}


def figure5(cells: Sequence[Mapping[str, Any]]) -> bytes:
    """An SVG file: mean over seeds, bars of one standard deviation; deterministic.

    Args:
        cells: of the sweep, see `experiments.decoy_mnist`.
    """
    cells = [cell for cell in cells if "arm" in cell]
    with mpl.rc_context({"svg.hashsalt": "lvlm-va", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        _curves(left, cells, lambda cell: float(next(iter(cell["accuracy"].values()))))
        left.set_ylabel("accuracy, DecoyMNIST test")
        _curves(right, cells, lambda cell: float(cell["mu_align"]["mean"]))
        right.set_ylabel("μ_align")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _curves(axes: Axes, cells: Sequence[Mapping[str, Any]], value: Any) -> None:
    for arm, (label, colour, marker, line) in _STYLES.items():
        swept = [cell for cell in cells if cell["arm"] == arm]
        lambdas = sorted({cell["lambda"] for cell in swept})
        groups = [[value(cell) for cell in swept if cell["lambda"] == lam] for lam in lambdas]
        axes.errorbar(
            lambdas,
            [mean(group) for group in groups],
            [stdev(group) if len(group) > 1 else 0.0 for group in groups],
            label=label,
            color=colour,
            marker=marker,
            linestyle=line,
            capsize=2,
        )
    unaligned = [value(cell) for cell in cells if cell["arm"] == "unaligned"]
    if unaligned:
        axes.axhline(mean(unaligned), color="#555555", linestyle=":", label="unaligned")
    axes.set_xscale("log")
    axes.set_xlabel("λ")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
