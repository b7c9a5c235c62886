"""The canary: does this critic name the right marks? Twelve drawn images whose answers are known.

Vision models misname numbered marks, and whoever pays for a run wants to know before how often. The canary
goes the way of a real run (rendering, critic, judge, repair), only its images are simple: a bright shape
on a dark ground, which matters, and grey squares in corners, which must not. Both are cut into numbered
segments, numbered anew in every image, so that a constant answer cannot be right.
"""

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lvlm_va.critique.critic import CRITIC_PARAMETERS
from lvlm_va.critique.driver import critique_images
from lvlm_va.critique.judge import JUDGE_PARAMETERS
from lvlm_va.critique.question import Backend, Background, ExplainedImage, Intervention
from lvlm_va.critique.rendering import render
from lvlm_va.critique.review import CriticJudge, limited
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.critique.store import Store
from lvlm_va.critique.unanswered import check_answered
from lvlm_va.critique.verdict import Verdict

__all__ = ["SPECIFICATIONS", "CanaryImage", "CanaryResult", "canary_images", "check", "score"]

_SIDE = 56
_SQUARE = 9  # side of the grey squares, pixels
_INK, _GREY, _GROUND = 235, 128, 0

_SHAPES = {
    "disc": "A filled bright disc in the middle of the image.",
    "ring": "A bright ring in the middle of the image: a round stroke around a dark hole.",
    "triangle": "A filled bright triangle in the middle of the image, a corner pointing up.",
    "cross": "A bright upright cross in the middle of the image: two strokes that cross.",
}
SPECIFICATIONS = {
    name: ClassSpecification(
        name,
        f"{description} Only the drawn shape decides.",
        relevant=("the bright shape drawn in the middle, or a part of it",),
        spurious=("a grey square in a corner of the image",),
    )
    for name, description in _SHAPES.items()
}
_CORNERS = ("top left", "top right", "bottom left", "bottom right")
# How the shape is cut, and how many grey squares there are: in every layout the number of segments differs
# from the number of right "spurious" answers in another way.
_LAYOUTS = (("whole", 1), ("upper and lower half", 1), ("left and right half", 2))


@dataclass(frozen=True, eq=False)
class CanaryImage:
    """A drawn image and what is true of it.

    Attributes:
        explained: as a run would hand it to the critic; `spurious` is set, for the oracle.
        contents: mark → what the segment covers, in words.
        spurious: mark → whether that must not carry a decision.
    """

    explained: ExplainedImage
    contents: dict[int, str]
    spurious: dict[int, bool]


@dataclass(frozen=True)
class CanaryResult:
    """How the critic and the judge did.

    Attributes:
        images: how many were shown.
        right, wrong, unscored: numbers of marks by their verdict.
        images_right: images all of whose marks were right.
        usd: what the check cost; None where some price is not known.
        seconds: wall-clock time.
        failures: one sentence for each mark that was not right.
    """

    images: int
    right: int
    wrong: int
    unscored: int
    images_right: int
    usd: float | None
    seconds: float
    failures: tuple[str, ...]

    @property
    def segments(self) -> int:
        """All marks that were offered."""
        return self.right + self.wrong + self.unscored

    @property
    def right_share(self) -> float:
        """Marks with the right verdict, of all marks offered: an unscored mark is not right."""
        return self.right / self.segments


async def check(
    critic: Backend,
    judge: Backend,
    *,
    images: Sequence[CanaryImage] | None = None,
    concurrency: int = 8,
    max_tokens: int | None = None,
    intervene: Intervention = "spurious",
    background: Background = "valid",
    detail: str = "high",
    lines_first: bool = False,
    store: Store | None = None,
) -> CanaryResult:
    """Ask critic and judge about the canary's images.

    Args:
        critic: answers the critic's questions.
        judge: answers the judge's questions; usually the same backend.
        images: `canary_images()` if None.
        concurrency: images under review at once.
        max_tokens: the longest answer; as in a run if None.
        intervene: how much is to be condemned; what is right here is the same either way.
        background: what empty background is; there is none here.
        detail: how closely images are read.
        lines_first: whether clear lines need no judge.
        store: keeps what was asked; without one, nothing is kept and every call is paid for.

    Raises:
        CriticError: if nothing can be answered (no key, unreachable, unknown model), or nothing was.
    """
    shown = canary_images() if images is None else images
    critic_judge = CriticJudge(
        critic,
        judge,
        SPECIFICATIONS,
        render,
        critic_parameters=limited({**CRITIC_PARAMETERS, "detail": detail}, max_tokens),
        judge_parameters=limited(JUDGE_PARAMETERS, max_tokens),
        intervene=intervene,
        background=background,
        lines_first=lines_first,
    )
    start = time.monotonic()
    with nullcontext(store) if store is not None else Store.open(":memory:") as kept:
        verdicts = await critique_images(
            [image.explained for image in shown], critic_judge, kept, concurrency=concurrency
        )
        costs = kept.costs()
    check_answered(verdicts, kept=False)
    lvlm = {backend.name for backend in (critic, judge) if backend.kind == "lvlm"}
    priced = not any(cost.unpriced for cost in costs if cost.backend in lvlm)
    return score(
        shown,
        verdicts,
        usd=sum(cost.usd for cost in costs) if priced else None,
        seconds=time.monotonic() - start,
    )


def score(
    images: Sequence[CanaryImage], verdicts: Sequence[Verdict], *, usd: float | None, seconds: float
) -> CanaryResult:
    """Compare verdicts with what is true; a mark without any verdict counts as unscored."""
    given = {(verdict.image_id, verdict.segment): verdict for verdict in verdicts}
    right = wrong = unscored = images_right = 0
    failures: list[str] = []
    for image in images:
        before = len(failures)
        for mark, truth in image.spurious.items():
            verdict = given.get((image.explained.image_id, mark))
            if verdict is not None and verdict.spurious is truth:
                right += 1
                continue
            said = "nothing" if verdict is None else verdict.reason
            called = "unscored"
            if verdict is None or verdict.spurious is None:
                unscored += 1
            else:
                wrong += 1
                called = "called spurious" if verdict.spurious else "called valid"
            contents = image.contents[mark]
            failures.append(
                f"{image.explained.image_id}: mark {mark} covers {contents} and was {called}: {said}"
            )
        images_right += len(failures) == before
    return CanaryResult(len(images), right, wrong, unscored, images_right, usd, seconds, tuple(failures))


def canary_images() -> tuple[CanaryImage, ...]:
    """The twelve images, always the same: every shape in every layout, corners and numbers in turn."""
    random = np.random.default_rng(20251221)
    combinations = [(name, layout) for name in _SHAPES for layout in _LAYOUTS]
    return tuple(
        _draw(f"canary-{i:02d}", name, cut, squares, random)
        for i, (name, (cut, squares)) in enumerate(combinations, start=1)
    )


def _draw(image_id: str, name: str, cut: str, squares: int, random: np.random.Generator) -> CanaryImage:
    rows, columns = np.mgrid[:_SIDE, :_SIDE]
    shape = _shape(name, rows - _SIDE / 2 + 0.5, columns - _SIDE / 2 + 0.5)
    upper, left = rows < _SIDE // 2, columns < _SIDE // 2
    parts: list[tuple[str, NDArray[np.bool_], bool]] = {
        "whole": [(f"the {name}", shape, False)],
        "upper and lower half": [
            (f"the upper half of the {name}", shape & upper, False),
            (f"the lower half of the {name}", shape & ~upper, False),
        ],
        "left and right half": [
            (f"the left half of the {name}", shape & left, False),
            (f"the right half of the {name}", shape & ~left, False),
        ],
    }[cut]
    for corner in random.choice(len(_CORNERS), size=squares, replace=False):
        vertical = rows < _SQUARE if corner < 2 else rows >= _SIDE - _SQUARE
        horizontal = columns < _SQUARE if corner % 2 == 0 else columns >= _SIDE - _SQUARE
        parts.append((f"the grey square in the {_CORNERS[corner]} corner", vertical & horizontal, True))

    image = np.full((_SIDE, _SIDE), _GROUND, dtype=np.uint8)
    image[shape] = _INK
    numbered = [parts[i] for i in random.permutation(len(parts))]
    attribution = np.zeros((_SIDE, _SIDE), dtype=np.float32)
    for _, region, spurious in numbered:
        attribution[region] = 1 / (len(numbered) * region.sum())  # every segment holds the same share
        if spurious:
            image[region] = _GREY
    # As in a run the segments tile the image: every pixel belongs to the nearest part.
    distance = np.stack([ndimage.distance_transform_edt(~region) for _, region, _ in numbered])
    explained = ExplainedImage(
        image_id=image_id,
        image=image[:, :, None].repeat(3, axis=2),
        segments=(1 + distance.argmin(axis=0)).astype(np.int16),
        attribution=attribution,
        shares=tuple([1 / len(numbered)] * len(numbered)),
        class_name=name,
        predicted=name,
        spurious=image == _GREY,
    )
    return CanaryImage(
        explained,
        contents={j: words for j, (words, _, _) in enumerate(numbered, start=1)},
        spurious={j: spurious for j, (_, _, spurious) in enumerate(numbered, start=1)},
    )


def _shape(name: str, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.bool_]:
    """A shape around the origin; y grows downwards."""
    radius = _SIDE / 4
    distance = np.hypot(y, x)
    inside: NDArray[np.bool_] = {
        "disc": distance <= radius,
        "ring": np.abs(distance - radius) <= radius / 4,
        "triangle": (y <= radius / 2) & (y >= math.sqrt(3) * np.abs(x) - radius),
        "cross": (np.minimum(np.abs(y), np.abs(x)) <= radius / 4)
        & (np.maximum(np.abs(y), np.abs(x)) <= radius),
    }[name]
    return inside
