"""Fig. 3, one critique in full, and the gallery of critiqued images."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, zip_longest
from typing import TypeVar

import numpy as np
from PIL import Image

from lvlm_va.critique.marks import colour
from lvlm_va.critique.question import CaptionedImage, ExplainedImage
from lvlm_va.critique.rendering import render
from lvlm_va.critique.verdict import Verdict
from lvlm_va.report.critiques import Critique, split_steps
from lvlm_va.report.images import Figure, figure
from lvlm_va.report.words import percent

__all__ = ["Case", "Line", "gallery", "in_turn", "lines_of", "make_case", "say_verdict", "telling"]

T = TypeVar("T")

_FULL, _SMALL = 448, 336  # pixels of the shorter side: in full, in the gallery


@dataclass(frozen=True)
class Line:
    """One segment of an image, as a row: its mark and colour, its share of the evidence, its verdict."""

    segment: int
    colour: str
    share: str
    verdict: str
    reason: str
    author: str


@dataclass(frozen=True)
class Case:
    """One critiqued image.

    Attributes:
        explained: the image.
        images: original, segment map and overlay, or the overlay alone.
        lines: one per segment, the strongest first.
        preamble: what the critic wrote before step 1; the whole critique where it kept to no steps.
        steps: its six steps, or none.
        critique: None where the critic did not answer.
    """

    explained: ExplainedImage
    images: tuple[Figure, ...]
    lines: tuple[Line, ...]
    preamble: str
    steps: tuple[str, ...]
    critique: Critique | None


def say_verdict(spurious: bool | None) -> str:
    """R_j as a word."""
    return "unscored" if spurious is None else "spurious" if spurious else "valid"


def telling(
    explained_images: Sequence[ExplainedImage], verdicts: Sequence[Verdict], criticised: set[str]
) -> ExplainedImage | None:
    """The image for Fig. 3: its strongest segment was condemned, and holds much evidence on little area.

    The larger S_j · (1 − area of segment j / area of the image), the more telling. Where no strongest
    segment was condemned, any image with a critique may be chosen; None where there is no critique.
    """
    condemned = {(v.image_id, v.segment) for v in verdicts if v.spurious}

    def weight(explained: ExplainedImage) -> tuple[bool, float]:
        j = max(explained.segment_ids, key=lambda j: explained.shares[j - 1])
        area = float((explained.segments == j).mean())
        return (explained.image_id, j) in condemned, explained.shares[j - 1] * (1 - area)

    return max(
        (s for s in explained_images if s.segment_ids and s.image_id in criticised), key=weight, default=None
    )


def gallery(explained_images: Sequence[ExplainedImage], count: int = 24) -> list[ExplainedImage]:
    """The first critiqued images, one class after the other by name."""
    usable = sorted((s for s in explained_images if s.segment_ids), key=lambda s: s.class_name)
    return in_turn(usable, lambda s: s.class_name)[:count]


def in_turn(items: Iterable[T], class_of: Callable[[T], str]) -> list[T]:
    """The first of each class, then the second of each, and so on; classes in the order of their first."""
    by_class: dict[str, list[T]] = {}
    for item in items:
        by_class.setdefault(class_of(item), []).append(item)
    return [item for item in chain.from_iterable(zip_longest(*by_class.values())) if item is not None]


def make_case(
    explained: ExplainedImage, verdicts: Mapping[int, Verdict], critique: Critique | None, *, full: bool
) -> Case:
    """Draw one critiqued image and set its critique.

    Args:
        explained: the image.
        verdicts: segment → verdict in force.
        critique: what was said about it.
        full: all three images at full size, or the overlay alone, smaller.
    """
    drawn = render(explained, min_size=_FULL if full else _SMALL)
    preamble, steps = split_steps(critique.text) if critique else ("", ())
    return Case(
        explained=explained,
        images=tuple(_decode(p, explained) for p in (drawn if full else drawn[2:])),
        lines=lines_of(explained, verdicts),
        preamble=preamble,
        steps=steps,
        critique=critique,
    )


def lines_of(explained: ExplainedImage, verdicts: Mapping[int, Verdict]) -> tuple[Line, ...]:
    """One row per segment, the strongest first."""
    rows = []
    for j in sorted(explained.segment_ids, key=lambda j: (-explained.shares[j - 1], j)):
        verdict = verdicts.get(j)
        rows.append(
            Line(
                segment=j,
                colour="#{:02x}{:02x}{:02x}".format(*colour(j)),
                share=percent(explained.shares[j - 1], 0),
                verdict=say_verdict(verdict.spurious if verdict else None),
                reason=verdict.reason if verdict else "not asked about",
                author=verdict.author if verdict else "",
            )
        )
    return tuple(rows)


def _decode(image: CaptionedImage, explained: ExplainedImage) -> Figure:
    pixels = np.asarray(Image.open(BytesIO(image.png)))
    title = f"Image {explained.image_id}, class {explained.class_name}, predicted {explained.predicted}"
    return figure(pixels, f"{title}. {image.caption}")
