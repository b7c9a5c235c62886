"""Other words, tried: what the built-in critic would say of a handful of images, or of all of a class."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lvlm_va.critique.backends.builtin.critic import criticise
from lvlm_va.critique.backends.builtin.weighing import Scales, unrecognised
from lvlm_va.critique.estimate import estimate
from lvlm_va.critique.question import ExplainedImage, Intervention
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.critique.store import Store
from lvlm_va.critique.verdict import Verdict
from lvlm_va.critique.verdict_lines import parse_lines
from lvlm_va.project.critics import make_critic_judge
from lvlm_va.project.stages.verdicts import say_estimate
from lvlm_va.studio.reading import Reading, reading_of
from lvlm_va.studio.reviewing import Key, Review
from lvlm_va.studio.subject import Subject

__all__ = ["Flip", "Trial", "asking_cost", "try_words", "unused_words"]

HANDFUL = 16
_COUNTED = 3  # images drawn to count what a question takes


@dataclass(frozen=True)
class Flip:
    """A verdict that would be another.

    Attributes:
        position: of the image.
        explained: the image.
        before: what the critic said.
        spurious: what it would say.
        reason: and why.
        overruled: whether a person's verdict holds there anyway.
    """

    position: int
    explained: ExplainedImage
    before: Verdict
    spurious: bool | None
    reason: str
    overruled: bool


@dataclass(frozen=True)
class Trial:
    """What trying showed.

    Attributes:
        flips: the verdicts that would change.
        asked: how many images were asked about,
        of: of how many of the class.
        segments: in them.
        seconds: that took.
        unused: phrases with which the built-in critic can do nothing.
    """

    flips: Sequence[Flip]
    asked: int
    of: int
    segments: int
    seconds: float
    unused: Sequence[str]


def try_words(
    subject: Subject, wanted: ClassSpecification, intervene: Intervention, *, all_images: bool
) -> Trial:
    """Ask the built-in critic about images of a class with other words; nothing is written.

    Args:
        subject: the run.
        wanted: the words.
        intervene: see `critique.intervene`.
        all_images: about all of the class; else about those that are most likely to change.
    """
    begin = time.perf_counter()
    standing, scales = Review(subject).standing(), Scales(wanted, intervene)
    images = [
        (n, explained)
        for n, explained in enumerate(subject.images().explained_images.values())
        if explained.class_name == wanted.name and explained.segment_ids
    ]
    reading = reading_of(subject)
    chosen = images if all_images else _likely(images, standing.said, reading)[:HANDFUL]
    flips, segments = [], 0
    for position, explained in chosen:
        critique = criticise(explained, reading.scene(explained), scales, reading.measures(explained))
        said = parse_lines(critique, explained.segment_ids)
        for j in explained.segment_ids:
            segments += 1
            key = explained.image_id, j
            spurious, reason = said.get(j, (None, "it cannot tell"))
            before = standing.said.get(key)
            if before is not None and before.spurious != spurious:
                flips.append(Flip(position, explained, before, spurious, reason, key in standing.overruled))
    flips.sort(key=lambda f: -f.explained.shares[f.before.segment - 1])
    return Trial(flips, len(chosen), len(images), segments, time.perf_counter() - begin, unused_words(wanted))


def asking_cost(subject: Subject, wanted: ClassSpecification) -> str:
    """What asking the run's own critic about all images of a class with these words takes, in words.

    A few images are drawn and counted, and the others taken to be like them. The built-in critic costs
    nothing: "".

    Raises:
        LvlmVaError: if the critic cannot be used.
    """
    settings = subject.config().critique
    critic_judge = make_critic_judge(settings, {wanted.name: wanted}, by_file=True, run=subject.path)
    if "lvlm" not in (critic_judge.critic.kind, critic_judge.judge.kind):
        return ""
    images = [
        explained
        for explained in subject.images().explained_images.values()
        if explained.class_name == wanted.name and explained.segment_ids
    ]
    some = images[:_COUNTED]
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "none.sqlite") as store:
        counted = estimate(some, critic_judge, store)
    expected = counted.times(len(images) / max(1, len(some)))
    batch = expected.usd and settings.critic.startswith("openai:") and not settings.prices
    return say_estimate(expected, critic_judge) + (
        " That is the price of a batch; asked online it is twice as much." if batch else ""
    )


def unused_words(words: ClassSpecification) -> list[str]:
    """The phrases of both lists with which the built-in critic can do nothing."""
    found = list(unrecognised(words)) if words.spurious else []
    if words.relevant:
        found += unrecognised(ClassSpecification(words.name, words.description, (), words.relevant))
    return found


def _likely(
    images: list[tuple[int, ExplainedImage]], said: Mapping[Key, Verdict], reading: Reading
) -> list[tuple[int, ExplainedImage]]:
    """Those most likely to change first: much evidence without a verdict; then what was read already."""

    def key(item: tuple[int, ExplainedImage]) -> tuple[float, bool, int]:
        position, explained = item
        open_share = sum(
            explained.shares[j - 1]
            for j in explained.segment_ids
            if (v := said.get((explained.image_id, j))) is None or v.spurious is None
        )
        return (-round(open_share, 1), explained.image_id not in reading.read, position)

    return sorted(images, key=key)
