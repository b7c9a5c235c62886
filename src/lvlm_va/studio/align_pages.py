"""Align: start it, watch it, stop it, go on; the λ curve, what was chosen and why, before and after."""

import re
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from lvlm_va.config.loading import apply_settings, parse_config
from lvlm_va.errors import ConfigError
from lvlm_va.report.curve import lambda_figure, lambda_panels
from lvlm_va.report.record import edited_since, read_judged
from lvlm_va.report.tables import choice_table, costs_table
from lvlm_va.run.files import ALIGNED, METRICS
from lvlm_va.run.metrics import RunMetrics
from lvlm_va.studio.jobs import VERBS, job_of, start, stop
from lvlm_va.studio.page import address, back, is_fragment, page
from lvlm_va.studio.reviewing import Review
from lvlm_va.studio.specifying import words_of
from lvlm_va.studio.subject import Subject
from lvlm_va.studio.understand_pages import before_after, is_worse, measured_tables, told

__all__ = ["READ", "WRITE"]

_SVG = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
"""Of the drawing alone, which is shown as an image: matplotlib writes styles into it."""


def align(request: Request, subject: Subject) -> Response:
    """How alignment stands."""
    metrics, config = subject.metrics(), subject.config()
    verdicts = Review(subject).standing().in_force.values() if subject.is_critiqued else ()
    condemned = [verdict for verdict in verdicts if verdict.spurious]
    return page(
        request,
        "align.html",
        subject,
        here="align",
        job=job_of(subject),
        critiqued=subject.is_critiqued,
        metrics=metrics,
        edited=metrics is not None
        and subject.is_critiqued
        and edited_since(metrics, read_judged(subject.read())),
        worse=metrics is not None and is_worse(metrics),
        told=[] if metrics is None else told(metrics),
        choice=None if metrics is None else choice_table(metrics),
        costs=None if metrics is None else costs_table(metrics.costs),
        has_curve=metrics is not None and _has_curve(metrics),
        curve_told="" if metrics is None else _curve_told(metrics),
        tables=[] if metrics is None else measured_tables(metrics),
        before_after=before_after(subject),
        lam=", ".join(f"{value:g}" for value in config.align.lam),
        condemned=len(condemned),
        condemned_images=len({verdict.image_id for verdict in condemned}),
        epochs=config.align.epochs,
        critic=config.critique.critic,
        num_images=config.explain.num_images,
    )


def job(request: Request, subject: Subject) -> Response:
    """How far long work is; for the page that asks each second."""
    return page(request, "job.html", subject, job=job_of(subject))


def order(request: Request, subject: Subject, form: dict[str, str]) -> Response:
    """Start or stop long work."""
    do = form.get("do", "")
    if do == "stop":
        stop(subject)
    elif do in VERBS:
        settings = [*words_of(subject).settings, *_settings(form)]
        document = subject.config().model_dump(mode="json", by_alias=True)
        parse_config(apply_settings(document, settings), where="these settings")
        start(subject, do, settings)
    else:
        raise ConfigError("that is nothing the studio can start")
    if is_fragment(request):
        return job(request, subject)
    return back(request, subject, form | {"back": address(request, subject, "align")})


def _settings(form: dict[str, str]) -> Sequence[str]:
    """What the form says other than the project file."""
    found = []
    if text := form.get("lambda", "").strip():
        values = re.split(r"[\s,;]+", text)
        if not all(re.fullmatch(r"\d+(\.\d+)?(e[+-]?\d+)?", value, re.IGNORECASE) for value in values):
            raise ConfigError("λ: write one or several numbers with commas between, e.g. 0.003, 0.03, 0.3")
        found.append(f"align.lambda=[{', '.join(values)}]")
    if text := form.get("epochs", "").strip():
        if not (text.isascii() and text.isdecimal()) or len(text) > 6:
            raise ConfigError("epochs: write a whole number")
        found.append(f"align.epochs={text}")
    return found


def _has_curve(metrics: RunMetrics) -> bool:
    return (
        len(metrics.lam.curves[ALIGNED]) > 1
        and bool(lambda_panels(metrics, {}))
        and bool(metrics.verdicts.spurious)
    )


def _curve_told(metrics: RunMetrics) -> str:
    if not _has_curve(metrics):
        return ""
    curves = [
        f"{panel.quantity}: " + ", ".join(f"{values[0]:.1f} at λ = {lam:g}" for lam, values in curve.points)
        for panel in lambda_panels(metrics, {})
        for curve in panel.curves
    ]
    return "; ".join(curves)


def curve(_request: Request, subject: Subject) -> Response:
    """The λ curve as a drawing."""
    metrics = subject.metrics()
    if metrics is None or not _has_curve(metrics):
        return Response(status_code=404)

    def draw() -> bytes:
        panels = lambda_panels(metrics, {})
        return str(lambda_figure(panels, chosen=metrics.lam.chosen, description="λ")).encode()

    drawn = subject.kept("curve", [subject.path / METRICS], draw)
    return Response(drawn, media_type="image/svg+xml", headers=_SVG)


READ = {"/align": align, "/job": job, "/curve.svg": curve}
WRITE = {"/job": order}
