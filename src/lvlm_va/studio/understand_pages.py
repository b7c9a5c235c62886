"""Understand: what the classifier relies on, ranked, in words; every number opens the images behind it."""

import base64
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from lvlm_va.report.comparison import dependence_table, group_tables
from lvlm_va.report.explained import Change, changes
from lvlm_va.report.figures import say_verdict
from lvlm_va.report.record import read_explanations
from lvlm_va.report.story import critic_name, tell_choice, tell_groups, tell_story
from lvlm_va.report.tables import accuracy_table, headline_table
from lvlm_va.run.files import ALIGNED, EXPLANATIONS, METRICS, ORIGINAL
from lvlm_va.run.metrics import Measured, RunMetrics
from lvlm_va.studio import meanings
from lvlm_va.studio.grounds import Ground, grounds_of
from lvlm_va.studio.page import address, moment, page
from lvlm_va.studio.reviewing import Review
from lvlm_va.studio.subject import Subject

__all__ = ["READ", "before_after", "measured_tables"]

_TYPICAL = 8
_WITH_IMAGES = 12


def understand(request: Request, subject: Subject) -> Response:
    """The ranking, per class too."""
    if not subject.is_critiqued:
        return RedirectResponse(address(request, subject, "align"), status_code=307)
    if not meanings.are_ready():
        return moment(request, subject, "understand")
    images = subject.images().explained_images
    positions = {image_id: n for n, image_id in enumerate(images)}
    found, standing = grounds_of(subject), Review(subject).standing()
    chosen = request.query_params.get("class", "")
    grounds = [g for g in found.grounds if not chosen or g.what.by_class.get(chosen, 0) > 0]
    if chosen:
        grounds.sort(key=lambda g: (not g.what.spurious, -g.what.by_class[chosen]))
    counted = standing.counted
    metrics, diagnosis = subject.metrics(), subject.diagnosis()
    return page(
        request,
        "understand.html",
        subject,
        here="understand",
        chosen=chosen,
        classes=sorted({e.class_name for e in images.values()}),
        by_class=_by_class(found.grounds, images),
        reliance=found.reliance,
        grounds=[(g, _typical(g, images, positions, chosen)) for g in grounds],
        with_images=_WITH_IMAGES,
        counted=counted,
        say_verdict=say_verdict,
        wrong=sum(e.predicted != e.class_name for e in images.values() if e.segment_ids),
        usable=sum(bool(e.segment_ids) for e in images.values()),
        set_aside=subject.images().set_aside,
        tables=measured_tables(metrics or diagnosis),
        worse=metrics is not None and is_worse(metrics),
        story="" if metrics is None else tell_story(metrics),
        before_after=before_after(subject),
        overruled=len(standing.overruled),
        critic=subject.config().critique.critic,
    )


def _typical(
    ground: Ground, images: Mapping[str, Any], positions: Mapping[str, int], chosen: str
) -> list[tuple[int, str, int, Any]]:
    """(position, image id, segment, image) where a ground holds most, classes taking turns."""
    members = [
        (image_id, j)
        for image_id, j in ground.segment_of.items()
        if not chosen or images[image_id].class_name == chosen
    ]
    turns: dict[str, int] = {}
    order = []
    for n, (image_id, j) in enumerate(members):
        name = images[image_id].class_name
        turns[name] = turns.get(name, 0) + 1
        order.append((turns[name], n, image_id, j))
    return [(positions[i], i, j, images[i]) for _, _, i, j in sorted(order)[:_TYPICAL]]


def _by_class(grounds: Any, images: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name in sorted({e.class_name for e in images.values()}):
        of = [e for e in images.values() if e.class_name == name and e.segment_ids]
        held = {True: 0.0, False: 0.0}
        for ground in grounds:
            held[ground.what.spurious] += ground.what.by_class.get(name, 0.0)
        shares = [ground.what.by_class.get(name, 0.0) for ground in grounds]
        first = [grounds[n] for n in sorted(range(len(grounds)), key=shares.__getitem__, reverse=True)[:2]]
        rows.append(
            {
                "name": name,
                "images": len(of),
                "wrong": sum(e.predicted != e.class_name for e in of),
                "spurious": held[True],
                "valid": held[False],
                "unscored": max(0.0, 1 - held[True] - held[False]) if of else 0.0,
                "first": [g for g in first if g.what.by_class.get(name, 0.0) > 0],
            }
        )
    return rows


def measured_tables(measured: Measured | None) -> list[Any]:
    """How often the classifier is right, by group where groups are known; before and after."""
    if measured is None:
        return []
    if isinstance(measured, RunMetrics):
        critic = critic_name(measured.verdicts)
        found = [headline_table(measured, critic), *group_tables(measured, critic)]
    else:
        found = [accuracy_table(measured)]
    dependence = dependence_table(measured)
    return [table for table in (*found, dependence) if table is not None and table.rows]


def before_after(subject: Subject) -> list[Change]:
    """Test images, explained before and after alignment; none where nothing was aligned."""
    if not subject.has(METRICS, EXPLANATIONS):
        return []

    def read() -> list[Change]:
        explanations = read_explanations(subject.read())
        return [] if explanations is None else changes(explanations)

    return subject.kept("changes", [subject.path / EXPLANATIONS, subject.path / METRICS], read)


def explained_image(request: Request, subject: Subject) -> Response:
    """One of the three images of a change."""
    found, position = before_after(subject), request.path_params["position"]
    part = request.path_params["part"]
    if position >= len(found) or part not in ("original", "before", "after"):
        return Response(status_code=404)
    change = found[position]
    figure = change.original if part == "original" else getattr(change, part).heatmap
    kind, _, content = figure.uri.removeprefix("data:").partition(";base64,")
    return Response(base64.b64decode(content), media_type=kind)


def is_worse(metrics: RunMetrics) -> bool:
    """Whether the aligned model is less often right on the main test set."""
    test, models = metrics.main_test, metrics.models
    return test is not None and models[ALIGNED].accuracy[test] < models[ORIGINAL].accuracy[test]


def told(metrics: RunMetrics) -> list[str]:
    """What became of the classifier, and why this λ, in sentences."""
    return [text for text in (tell_story(metrics), *tell_groups(metrics), tell_choice(metrics)) if text]


READ = {"/understand": understand, "/explained/{position:int}/{part}": explained_image}
__all__ += ["is_worse", "told"]
