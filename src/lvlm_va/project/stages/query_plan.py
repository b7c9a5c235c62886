"""Which images are asked about, and what the others' segments take from the answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lvlm_va._version import __version__
from lvlm_va.critique.active_selection import Plan, choose_images
from lvlm_va.critique.estimate import known_verdicts
from lvlm_va.critique.propagation import Agreement, Propagation, agreement, propagate
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.segment_similarity import BLOCKS, Likeness, likeness, measure_segments
from lvlm_va.critique.store import Store
from lvlm_va.critique.verdict import Verdict
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.explained import Explained
from lvlm_va.run import artefacts
from lvlm_va.run.directory import fingerprint
from lvlm_va.vision.scenes import read_scenes, unread_scenes

__all__ = [
    "QueryPlan",
    "measured_segments",
    "plan_questions",
    "read_images",
]

LIKENESS = "segments/likeness.safetensors"


@dataclass(frozen=True, eq=False)
class QueryPlan:
    """What to ask, and when to stop.

    Attributes:
        explained_images: all usable images.
        alike: how alike their segments are; None where all are asked about.
        plan: which are asked about; None where all are.
        required: what the lower bound of the agreement must reach, else twice as many are asked.
    """

    explained_images: Sequence[ExplainedImage]
    alike: Likeness | None
    plan: Plan | None
    required: float

    @property
    def first(self) -> list[ExplainedImage]:
        """The images of the first round: representatives and the random remainder."""
        if self.plan is None:
            return list(self.explained_images)
        return self._named({*self.plan.representatives(0), *self.plan.remainder})

    def further(self, said: Sequence[Verdict]) -> list[ExplainedImage]:
        """What else to ask, given all verdicts so far: twice the representatives, or nothing."""
        if self.plan is None or not self.plan.remainder:
            return []
        step = self._step(said)
        now = self.plan.representatives(step)
        if len(now) == len(self.plan.order) or self._agreement(said, step).low >= self.required:
            return []
        return self._named(set(self.plan.representatives(step + 1)) - set(now))

    def due(self, critic_judge: CriticJudge, store: Store) -> list[ExplainedImage]:
        """The images to ask about, as far as the answers in the store tell; the answered ones among them.

        Where none of them has an open question, the critique is complete. So files of questions and answers
        go through the same rounds as questions asked at once.
        """
        due = self.first
        while True:
            known = [known_verdicts(explained, critic_judge, store) for explained in due]
            if any(verdicts is None for verdicts in known):
                return due
            more = self.further([v for verdicts in known if verdicts for v in verdicts])
            if not more:
                return due
            due += more

    def complete(self, said: Sequence[Verdict], author: str) -> tuple[list[Verdict], Propagation | None]:
        """One verdict per segment of every image, asked or propagated; and how far these can be trusted.

        Returns:
            The verdicts in the order of images and segments, and how they came about; None where all images
            were asked about.
        """
        if self.plan is None or self.alike is None:
            return list(said), None
        known = {(v.image_id, v.segment): v for v in said}
        asked = self._asked(said)
        rest = [i for i in range(len(self.explained_images)) if i not in asked]
        carried = propagate(self.alike, self.explained_images, known, asked, rest, self.plan.far, author)
        by_image: dict[str, list[Verdict]] = {}
        for verdict in (*said, *carried):
            by_image.setdefault(verdict.image_id, []).append(verdict)
        # Of an image that was asked about, the segments are those that have a verdict: some may be parts.
        verdicts = [v for s in self.explained_images for v in by_image.get(s.image_id, ())]
        step = self._step(said)
        checked = self._agreement(said, step)
        return verdicts, Propagation(
            images=len(self.explained_images),
            asked=len(asked),
            rounds=step + 1,
            propagated=sum(v.spurious is not None for v in carried),
            unscored=sum(v.spurious is None for v in carried),
            verified=checked,
            required=self.required,
        )

    def _agreement(self, said: Sequence[Verdict], step: int) -> Agreement:
        """Of the remainder, propagated from the representatives alone."""
        assert self.plan is not None
        assert self.alike is not None
        known = {(v.image_id, v.segment): v for v in said}
        representatives, remainder = self.plan.representatives(step), self.plan.remainder
        carried = propagate(
            self.alike, self.explained_images, known, representatives, remainder, self.plan.far, author=""
        )
        return agreement(carried, known, len(remainder))

    def _step(self, said: Sequence[Verdict]) -> int:
        """The last step whose representatives were all asked about."""
        assert self.plan is not None
        asked, step = self._asked(said), 0
        while len(now := self.plan.representatives(step)) < len(self.plan.order):
            if not asked >= set(self.plan.representatives(step + 1)):
                break
            step += 1
        assert asked >= set(now)
        return step

    def _asked(self, said: Sequence[Verdict]) -> set[int]:
        names = {v.image_id for v in said}
        return {i for i, s in enumerate(self.explained_images) if s.image_id in names or not s.segment_ids}

    def _named(self, positions: set[int]) -> list[ExplainedImage]:
        return [self.explained_images[i] for i in sorted(positions)]


def plan_questions(context: Context, explained: Explained) -> QueryPlan:
    """Decide which images to ask about; the same settings and images give the same decision."""
    settings, explained_images = context.config.critique, explained.explained_images(context.splits)
    if settings.fraction == 1 or settings.fraction >= len(explained_images):
        return QueryPlan(explained_images, None, None, settings.agreement)
    alike = likeness(explained_images, measured_segments(context, explained_images))
    plan = choose_images(
        alike,
        len(explained_images),
        fraction=settings.fraction,
        verify=settings.verify,
        seed=context.config.explain.seed,
    )
    return QueryPlan(explained_images, alike, plan, settings.agreement)


def read_images(context: Context, explained_images: Sequence[ExplainedImage]) -> None:
    """Read what is in the images, on all cores, before each is asked about in its turn."""
    if unread := unread_scenes([e.image for e in explained_images]):
        with context.console.stage(f"Reading {len(unread)} images"):
            read_scenes(unread, context.console.progress, context.console.note)


def measured_segments(context: Context, explained_images: Sequence[ExplainedImage]) -> NDArray[np.float64]:
    count = sum(len(explained.segment_ids) for explained in explained_images)

    def compute() -> NDArray[np.float64]:
        rows = []
        read_images(context, explained_images)
        with context.console.stage(f"Comparing {count} segments"):
            for done, explained in enumerate(explained_images, start=1):
                rows.append(measure_segments(explained))
                context.console.progress(done, len(explained_images))
        return np.concatenate(rows)

    def load() -> NDArray[np.float64]:
        measured: NDArray[np.float64] = artefacts.read_tensors(path)[0]["measured"].numpy()
        if measured.shape != (count, sum(BLOCKS.values())):
            raise ValueError(f"{path}: is not what was written there")
        return measured

    path = context.run.file(LIKENESS)
    measured, _ = context.run.stage(
        "likeness",
        fingerprint(
            "likeness", [one.fingerprint for one in explained_images], [*BLOCKS.items()], __version__
        ),
        compute,
        save=lambda m: context.run.write(LIKENESS, artefacts.tensors_file({"measured": torch.from_numpy(m)})),
        load=load,
        summarise=lambda m: {"segments": len(m)},
    )
    return measured
