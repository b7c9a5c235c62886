"""What the model relies on, ranked, in words and with images: diagnosis.json and diagnosis.html."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lvlm_va.critique.backends.builtin import BuiltinCritic, thing_named
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.rendering import overlay
from lvlm_va.critique.verdict import Verdict
from lvlm_va.evaluate.statistics import mean_share_interval
from lvlm_va.report import tables
from lvlm_va.report.figures import in_turn
from lvlm_va.report.images import Figure, figure
from lvlm_va.report.page import render_page, said_everywhere
from lvlm_va.report.record import (
    Judged,
    read_critiques,
    read_images,
    read_judged,
)
from lvlm_va.report.reliance import Member, Reason, Reliance, summarise_reliance
from lvlm_va.report.story import tell_diagnosis
from lvlm_va.report.words import percent, quote
from lvlm_va.run.diagnosed import Class, Diagnosed, Evidence, Example, Ground, GroundOfClass, StrongestSegment
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import DIAGNOSIS
from lvlm_va.run.metrics import Measured
from lvlm_va.vision.encoder import encode

__all__ = ["Drawn", "write_diagnosis"]

_EXAMPLES = 6  # images of each ground
_IN_CLASS = 3  # grounds named per class
_WITH_IMAGES = 8  # condemned grounds that are shown with images, and as many accepted ones
_SIZE = 176  # pixels of the shorter side of an image


@dataclass(frozen=True)
class Drawn:
    """One image of a ground: its segment outlined, the evidence in it dotted, and what is said of it."""

    figure: Figure
    image_id: str
    segment: int
    class_name: str
    predicted: str
    share: str
    reason: str


def write_diagnosis(run: RunDirectory, measured: Measured) -> tuple[Diagnosed, Path]:
    """Write diagnosis.json and diagnosis.html; the same run gives the same bytes, costs apart.

    The page makes no request, runs no script, and escapes every text that a model or a person wrote.

    Args:
        run: its images, explanations and verdicts are read from its directory.
        measured: what `run_diagnosis` returned.

    Returns:
        What diagnosis.json says, and the path of the page.

    Raises:
        RunError: if one of the run's files is missing or damaged.
    """
    images, judged = read_images(run), read_judged(run)
    explained_images, names = list(images.explained_images.values()), measured.data.classes
    reliance = summarise_reliance(explained_images, judged.in_force, names, encode, _locate)
    findings = _findings(run.settings.project, measured, reliance, images.explained_images, judged)
    run.write(DIAGNOSIS, (findings.model_dump_json(indent=2) + "\n").encode())
    critiques = read_critiques(run, judged)
    page = render_page(
        "diagnosis.html",
        said_everywhere(run, findings, images, judged, critiques, reliance)
        | {
            "findings": findings,
            "story": tell_diagnosis(findings),
            "shown": _with_images(findings.grounds, images.explained_images),
            "ranking": tables.ranking_table(findings),
            "classes": tables.class_evidence_table(findings),
            "accuracies": tables.accuracy_table(findings),
        },
    )
    return findings, run.write("diagnosis.html", page.encode())


def _locate(explained: ExplainedImage, verdicts: Sequence[Verdict]) -> Sequence[NDArray[np.bool_] | None]:
    """What the built-in critic's own verdicts name; where others see what they name is not known."""
    if not any(_measured(v) for v in verdicts):
        return [None] * len(verdicts)
    things = thing_named(explained, [v.reason for v in verdicts])
    return [thing if _measured(v) else None for v, thing in zip(verdicts, things, strict=True)]


def _measured(verdict: Verdict) -> bool:
    """Whether the built-in critic saw this very image: a propagated reason names a thing of another."""
    return verdict.author.split(" judged by ")[0] == BuiltinCritic.name


def _findings(
    project: str,
    measured: Measured,
    reliance: Reliance,
    explained_images: Mapping[str, ExplainedImage],
    judged: Judged,
) -> Diagnosed:
    verdicts = {(v.image_id, v.segment): v for v in judged.in_force}
    grounds = tuple(
        _ground(rank, ground, explained_images, verdicts)
        for rank, ground in enumerate(reliance.ranked, start=1)
    )
    return Diagnosed(
        **dict(measured),
        project=project,
        evidence=Evidence(
            condemned=reliance.evidence(spurious=True),
            accepted=reliance.evidence(spurious=False),
            unscored=reliance.unscored_evidence,
            condemned_interval=mean_share_interval(reliance.condemned_shares),
        ),
        strongest_segment=StrongestSegment(
            images=reliance.images,
            condemned=reliance.condemned,
            accepted=reliance.accepted,
            unscored=reliance.unscored,
        ),
        grounds=grounds,
        classes=tuple(_of_class(row.name, row.images, grounds) for row in reliance.classes),
    )


def _ground(
    rank: int,
    ground: Reason,
    explained_images: Mapping[str, ExplainedImage],
    verdicts: Mapping[Member, Verdict],
) -> Ground:
    return Ground(
        rank=rank,
        reason=ground.reason,
        verdict="spurious" if ground.spurious else "valid",
        evidence=ground.evidence,
        on_thing=ground.on_thing,
        standard_error=ground.error,
        images=ground.present,
        strongest=ground.strongest,
        segments=len(ground.members),
        wordings=ground.wordings,
        by_class=dict(ground.by_class),
        with_planted_feature=_with_feature(ground.members, explained_images),
        examples=tuple(
            Example(
                image_id=image_id,
                segment=j,
                class_name=explained_images[image_id].class_name,
                predicted=explained_images[image_id].predicted,
                share=explained_images[image_id].shares[j - 1],
                reason=verdicts[image_id, j].reason,
                author=verdicts[image_id, j].author,
            )
            for image_id, j in _examples(ground.members, explained_images)
        ),
    )


def _examples(members: Sequence[Member], explained_images: Mapping[str, ExplainedImage]) -> list[Member]:
    """Those that hold most of their image's evidence, one image of each class after the other."""
    first: dict[str, Member] = {}
    for member in members:
        first.setdefault(member[0], member)
    return in_turn(first.values(), lambda member: explained_images[member[0]].class_name)[:_EXAMPLES]


def _with_feature(members: Sequence[Member], explained_images: Mapping[str, ExplainedImage]) -> int | None:
    """How many of these segments contain part of the planted feature (an oracle); None where unknown."""
    truth = [(explained_images[image_id], j) for image_id, j in members]
    if not truth or any(explained.spurious is None for explained, _ in truth):
        return None
    return sum(bool(np.any(explained.spurious & (explained.segments == j))) for explained, j in truth)


def _of_class(name: str, images: int, grounds: Sequence[Ground]) -> Class:
    held = dict.fromkeys(("spurious", "valid"), 0.0)
    for ground in grounds:
        held[ground.verdict] += ground.by_class.get(name, 0.0)
    first = sorted(grounds, key=lambda ground: -ground.by_class.get(name, 0.0))[:_IN_CLASS]
    return Class(
        name=name,
        images=images,
        condemned=held["spurious"],
        accepted=held["valid"],
        unscored=max(0.0, 1 - held["spurious"] - held["valid"]),
        grounds=tuple(
            GroundOfClass(
                rank=ground.rank, reason=ground.reason, verdict=ground.verdict, evidence=ground.by_class[name]
            )
            for ground in first
            if ground.by_class.get(name)
        ),
    )


def _with_images(
    grounds: Sequence[Ground], explained_images: Mapping[str, ExplainedImage]
) -> list[tuple[Ground, list[Drawn]]]:
    """The first grounds of each verdict, with their images."""
    kinds = [[g for g in grounds if g.verdict == verdict] for verdict in ("spurious", "valid")]
    return [
        (ground, [_drawn(example, explained_images[example.image_id], ground) for example in ground.examples])
        for kind in kinds
        for ground in kind[:_WITH_IMAGES]
    ]


def _drawn(example: Example, explained: ExplainedImage, ground: Ground) -> Drawn:
    j, share = example.segment, percent(example.share, 0)
    drawn = overlay(explained, [j], min_size=_SIZE)
    said = f"Segment {j}, with {share} of the evidence, is outlined and where that lies is dotted; "
    said += f"{ground.verdict}: {example.reason}"
    alt = f"Image {explained.image_id}, class {explained.class_name}, predicted {explained.predicted}. {said}"
    return Drawn(
        figure(drawn, alt),
        explained.image_id,
        j,
        explained.class_name,
        explained.predicted,
        share,
        quote(example.reason),
    )
