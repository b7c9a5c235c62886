"""Fig. 3, one critique in full, and the gallery of critiqued pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, zip_longest

import numpy as np
from PIL import Image

from lvlm_va.critique.marks import colour
from lvlm_va.critique.question import Picture, Subject
from lvlm_va.critique.rendering import render
from lvlm_va.critique.verdict import Verdict
from lvlm_va.report.critiques import Critique, split_steps
from lvlm_va.report.images import Figure, figure
from lvlm_va.report.words import percent

__all__ = ["Case", "Line", "gallery", "lines_of", "make_case", "say_verdict", "telling"]

_FULL, _SMALL = 448, 336  # pixels of the shorter side: in full, in the gallery


@dataclass(frozen=True)
class Line:
    """One segment of a picture, as a row: its mark and colour, its share of the evidence, its verdict."""

    segment: int
    colour: str
    share: str
    verdict: str
    reason: str
    author: str


@dataclass(frozen=True)
class Case:
    """One critiqued picture.

    Attributes:
        subject: the picture.
        pictures: original, segment map and overlay, or the overlay alone.
        lines: one per segment, the strongest first.
        preamble: what the critic wrote before step 1; the whole critique where it kept to no steps.
        steps: its six steps, or none.
        critique: None where the critic did not answer.
    """

    subject: Subject
    pictures: tuple[Figure, ...]
    lines: tuple[Line, ...]
    preamble: str
    steps: tuple[str, ...]
    critique: Critique | None


def say_verdict(spurious: bool | None) -> str:
    """R_j as a word."""
    return "unscored" if spurious is None else "spurious" if spurious else "valid"


def telling(subjects: Sequence[Subject], verdicts: Sequence[Verdict], criticised: set[str]) -> Subject | None:
    """The picture for Fig. 3: its strongest segment was condemned, and holds much evidence on little area.

    The larger S_j · (1 − area of segment j / area of the picture), the more telling. Where no strongest
    segment was condemned, any picture with a critique may be chosen; None where there is no critique.
    """
    condemned = {(v.image_id, v.segment) for v in verdicts if v.spurious}

    def weight(subject: Subject) -> tuple[bool, float]:
        j = max(subject.marks, key=lambda j: subject.shares[j - 1])
        area = float((subject.segments == j).mean())
        return (subject.image_id, j) in condemned, subject.shares[j - 1] * (1 - area)

    return max((s for s in subjects if s.marks and s.image_id in criticised), key=weight, default=None)


def gallery(subjects: Sequence[Subject], count: int = 24) -> list[Subject]:
    """The first critiqued pictures, one class after the other."""
    by_class: dict[str, list[Subject]] = {}
    for subject in subjects:
        if subject.marks:
            by_class.setdefault(subject.class_name, []).append(subject)
    turns = zip_longest(*(by_class[name] for name in sorted(by_class)))
    return [subject for subject in chain.from_iterable(turns) if subject is not None][:count]


def make_case(
    subject: Subject, verdicts: Mapping[int, Verdict], critique: Critique | None, *, full: bool
) -> Case:
    """Draw one critiqued picture and set its critique.

    Args:
        subject: the picture.
        verdicts: segment → verdict in force.
        critique: what was said about it.
        full: all three pictures at full size, or the overlay alone, smaller.
    """
    drawn = render(subject, min_size=_FULL if full else _SMALL)
    preamble, steps = split_steps(critique.text) if critique else ("", ())
    return Case(
        subject=subject,
        pictures=tuple(_decode(p, subject) for p in (drawn if full else drawn[2:])),
        lines=lines_of(subject, verdicts),
        preamble=preamble,
        steps=steps,
        critique=critique,
    )


def lines_of(subject: Subject, verdicts: Mapping[int, Verdict]) -> tuple[Line, ...]:
    """One row per segment, the strongest first."""
    rows = []
    for j in sorted(subject.marks, key=lambda j: (-subject.shares[j - 1], j)):
        verdict = verdicts.get(j)
        rows.append(
            Line(
                segment=j,
                colour="#{:02x}{:02x}{:02x}".format(*colour(j)),
                share=percent(subject.shares[j - 1], 0),
                verdict=say_verdict(verdict.spurious if verdict else None),
                reason=verdict.reason if verdict else "not asked about",
                author=verdict.author if verdict else "",
            )
        )
    return tuple(rows)


def _decode(picture: Picture, subject: Subject) -> Figure:
    pixels = np.asarray(Image.open(BytesIO(picture.png)))
    title = f"Picture {subject.image_id}, class {subject.class_name}, predicted {subject.predicted}"
    return figure(pixels, f"{title}. {picture.caption}")
