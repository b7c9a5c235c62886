"""The report of a run: one HTML page that needs nothing but itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from lvlm_va.critique.verdict import Verdict
from lvlm_va.report import tables, words
from lvlm_va.report.comparison import group_tables, label_tables
from lvlm_va.report.critiques import STEPS, Critique
from lvlm_va.report.curve import lambda_figure, lambda_panels
from lvlm_va.report.explained import changes
from lvlm_va.report.figures import Case, gallery, make_case, telling
from lvlm_va.report.instead import offers
from lvlm_va.report.page import render_page, said_everywhere
from lvlm_va.report.record import (
    Images,
    Judged,
    edited_since,
    read_critiques,
    read_explanations,
    read_images,
    read_judged,
    read_masks,
    read_metrics,
)
from lvlm_va.report.reliance import summarise_reliance
from lvlm_va.report.steps import TITLES, StepByStep, Use, draw_steps, for_steps, sheet, step_by_step
from lvlm_va.report.story import (
    critic_name,
    relied_on,
    tell_choice,
    tell_groups,
    tell_story,
)
from lvlm_va.report.words import explained_class
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import ALIGNED, ALIGNED_WEIGHTS, GROUND_TRUTH, ORIGINAL_WEIGHTS
from lvlm_va.run.metrics import RunMetrics
from lvlm_va.vision.encoder import encode

__all__ = ["STEPS_FIGURE", "write_report"]

STEPS_FIGURE = "figures/step-by-step.png"
"""Fig. 2 and 7 of this run, as a file of its own."""


_MASKS = {
    "segment": "all of every condemned segment",
    "component": "of every condemned segment the ellipse of its component",
    "attribution": "of every condemned segment its positive attribution",
    "objects": "the objects in the image that condemned segments cover, or, where they cover none, their "
    "positive attribution",
}
"""What a mask covers, by `align.mask`."""


def write_report(run: RunDirectory) -> Path:
    """Write report.html into a finished run and return its path; the same run gives the same bytes.

    The images of the section “Step by step” are also written to `STEPS_FIGURE`.

    The page shows what metrics.json says and what the critics wrote, makes no request, runs no script, and
    escapes every text that a model or a person wrote.

    Raises:
        RunError: if the run is not finished, one of its files is missing or damaged, or a model in it is not
            the one that was measured.
    """
    for weights in (ORIGINAL_WEIGHTS, ALIGNED_WEIGHTS):
        run.check_sealed(weights)
    return run.write("report.html", render_page("report.html", _contents(run)).encode())


def _contents(run: RunDirectory) -> dict[str, Any]:
    """Everything that the template names."""
    metrics, images, judged = read_metrics(run), read_images(run), read_judged(run)
    critiques = read_critiques(run, judged)
    explanations = read_explanations(run)
    explained_images = list(images.explained_images.values())
    critic = critic_name(metrics.verdicts)
    align, tried = run.settings.align, metrics.lam.curves[ALIGNED]
    use = Use(penalised=any(fit.lam > 0 for fit in tried), replaced=align.counterfactual > 0)
    example = _example(images, judged, critiques)
    reliance = summarise_reliance(explained_images, judged.in_force, metrics.data.classes, encode)
    return said_everywhere(run, metrics, images, judged, critiques, reliance) | {
        "metrics": metrics,
        "story": tell_story(metrics),
        "edited": edited_since(metrics, judged),
        "propagation": "" if metrics.verdicts.propagation is None else str(metrics.verdicts.propagation),
        "test": metrics.main_test,
        "group_changes": tell_groups(metrics),
        "groups": group_tables(metrics, critic),
        "labels": label_tables(metrics),
        "explained_noun": "label" if metrics.data.several_labels else "prediction",
        "asked_label": run.settings.explain.label,
        "choice": tell_choice(metrics),
        "choice_table": tables.choice_table(metrics),
        "kappa": align.counterfactual,
        "use": use,
        "steps": _steps(run, images, judged, use, critic),
        "step_names": TITLES,
        "steps_figure": STEPS_FIGURE,
        "mask": _MASKS[align.mask],
        "headline": tables.headline_table(metrics, critic),
        "oracle_masks": GROUND_TRUTH,
        "changes": changes(explanations) if explanations else [],
        "relied_on": relied_on(reliance, explained_class(run.settings, several=metrics.data.several_labels)),
        "reliance": reliance,
        "grounds": [tables.ground_table(reliance, spurious=verdict) for verdict in (True, False)],
        "classes": tables.class_table(reliance),
        "example": example,
        "step_titles": STEPS,
        "curve": _curve(metrics, critic),
        "gallery": [
            make_case(s, _of_image(judged, s.image_id), critiques.get(s.image_id), full=False)
            for s in gallery(explained_images)
        ],
        "offers": []
        if example is None or metrics.verdicts.critic_kind == "lvlm"
        else offers(example.explained, critiques[example.explained.image_id].specification, len(critiques)),
        "stages": tables.stages_table(metrics.costs),
    }


def _steps(run: RunDirectory, images: Images, judged: Judged, use: Use, critic: str) -> list[StepByStep]:
    """Some critiqued images from the original to the mask; also written as one figure."""
    masks = read_masks(run, images)
    chosen = for_steps(list(images.explained_images.values()), judged.in_force)
    cases = [(s, _of_image(judged, s.image_id), masks[s.image_id]) for s in chosen]
    drawn = [draw_steps(*case) for case in cases]
    if cases:
        run.write(STEPS_FIGURE, sheet(cases, drawn, use, critic))
    return [step_by_step(case, tiles, use) for case, tiles in zip(cases, drawn, strict=True)]


def _example(images: Images, judged: Judged, critiques: Mapping[str, Critique]) -> Case | None:
    explained = telling(list(images.explained_images.values()), judged.in_force, set(critiques))
    if explained is None:
        return None
    verdicts = _of_image(judged, explained.image_id)
    return make_case(explained, verdicts, critiques[explained.image_id], full=True)


def _of_image(judged: Judged, image_id: str) -> dict[int, Verdict]:
    return {v.segment: v for v in judged.in_force_of.get(image_id, ())}


def _curve(metrics: RunMetrics, critic: str) -> Markup | None:
    """Fig. 5; None where nothing was fitted, one λ only was tried, or there is nothing to measure it on."""
    chosen = metrics.lam.chosen
    if len(metrics.lam.curves[ALIGNED]) == 1:
        return None
    panels = lambda_panels(metrics, {ALIGNED: f"aligned, critic {critic}"})
    if not panels or not metrics.verdicts.spurious:
        return None
    curves = [
        f"{curve.label}: "
        + ", ".join(f"{values[0]:.1f} at λ = {words.lambda_text(lam)}" for lam, values in curve.points)
        for panel in panels
        for curve in panel.curves
    ]
    description = f"{' and '.join(p.quantity for p in panels)} over λ. {'; '.join(curves)}."
    return lambda_figure(panels, chosen=chosen, description=description)
