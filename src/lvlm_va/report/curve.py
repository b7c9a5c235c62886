"""Fig. 5: what the model becomes as λ grows, beside the unaligned model."""

import re
from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup

from lvlm_va.report.curves import Band, Curve, Mark, Panel, draw_curves
from lvlm_va.report.drawing import GREY
from lvlm_va.report.words import lambda_text
from lvlm_va.run.metrics import ModelMetrics, RunMetrics

__all__ = ["lambda_figure", "lambda_panels"]

# Okabe & Ito (2008): told apart by colour-blind readers; markers and dashes tell them apart in grey.
_COLOURS = ("#0072B2", "#009E73")


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
    for colour, (name, fits) in zip(_COLOURS, metrics.lam.curves.items(), strict=False):
        points = sorted((fit.lam, [value(fit)]) for fit in fits)
        curves.append(Curve(labels.get(name, name), colour, points))
    return Panel("", label, curves, [Band("unaligned", GREY, [value(metrics.models["original"])])])


def lambda_figure(panels: Sequence[Panel], *, chosen: float, description: str) -> Markup:
    """The panels side by side as an SVG element; the same arguments give the same bytes.

    Args:
        panels: at least one, with at least one curve each.
        chosen: the λ to mark.
        description: what the figure says, for those who cannot see it.
    """
    mark = Mark(f"chosen: λ = {lambda_text(chosen)}", chosen)
    svg = draw_curves([panels], "λ, log scale", mark=mark, logarithmic=True)
    return _inline(svg.decode(), description)


def _inline(svg: str, description: str) -> Markup:
    """The bare element, scaling with the page, with a text alternative."""
    element = svg[svg.index("<svg") :]
    tag, rest = element.split(">", 1)
    tag = re.sub(r' (?:width|height|version)="[^"]*"', "", tag)
    label = Markup.escape(description)
    return Markup(f'{tag} role="img" aria-label="{label}">{rest}')  # noqa: S704 -- matplotlib escapes its texts
