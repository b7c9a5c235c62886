"""In which order images are worth a person's minute, and which of them a filter lets through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.verdict import Verdict
from lvlm_va.studio.reviewing import Key, Standing

__all__ = ["STATES", "Entry", "Filter", "entries", "state_of"]

STATES = {True: "spurious", False: "valid", None: "unscored"}

_DISAGREES = 0.6  # share of the segments like it that say otherwise, from which a verdict is in doubt


@dataclass(frozen=True)
class Entry:
    """One image of the queue.

    Attributes:
        position: among the critiqued images, from 0: its number in addresses.
        explained: the image.
        verdicts: on its segments, in force.
        why: what makes it doubtful, in words.
        doubt: sorts the queue: what is largest comes first.
    """

    position: int
    explained: ExplainedImage
    verdicts: Sequence[Verdict]
    why: str
    doubt: tuple[int, int, float]

    @cached_property
    def order(self) -> tuple[float, ...]:
        """Sorts the queue, ascending; of equals the first image comes first."""
        return (*(-part for part in self.doubt), self.position)

    @property
    def wrong(self) -> bool:
        """Whether the model took it for another class."""
        return self.explained.predicted != self.explained.class_name


@dataclass(frozen=True)
class Filter:
    """Which images to show; what is empty lets all through.

    Attributes:
        class_name: of the true class.
        verdict: "spurious", "valid", "unscored", or "overruled": of any of its segments.
        words: that a reason holds, in any case.
        right: "right" or "wrong": whether the model was.
        looked: "new" or "done": whether somebody looked at it.
        ground: segments of one ground of the ranking; None for all.
    """

    class_name: str = ""
    verdict: str = ""
    words: str = ""
    right: str = ""
    looked: str = ""
    ground: frozenset[Key] | None = None

    def takes(self, entry: Entry, standing: Standing) -> bool:
        """Whether an image passes; verdict, words and ground must hold of one and the same segment."""
        explained = entry.explained
        if self.class_name and explained.class_name != self.class_name:
            return False
        if self.right and entry.wrong is not (self.right == "wrong"):
            return False
        if self.looked and (explained.image_id in standing.looked_at) is not (self.looked == "done"):
            return False
        if not (self.verdict or self.words or self.ground is not None):
            return True
        return any(self._takes(v, standing) for v in entry.verdicts)

    def _takes(self, verdict: Verdict, standing: Standing) -> bool:
        key = verdict.image_id, verdict.segment
        if self.ground is not None and key not in self.ground:
            return False
        if self.verdict == "overruled" and key not in standing.overruled:
            return False
        if self.verdict in STATES.values() and state_of(verdict) != self.verdict:
            return False
        return self.words.casefold() in verdict.reason.casefold()


def state_of(verdict: Verdict | None) -> str:
    """The word for a verdict: spurious, valid or unscored."""
    return STATES[None if verdict is None else verdict.spurious]


def entries(
    images: Mapping[str, ExplainedImage],
    standing: Standing,
    disagreement: Mapping[Key, float],
    known: Mapping[int, Entry] | None = None,
) -> list[Entry]:
    """All images with segments, the most doubtful first; those that somebody looked at come last.

    Args:
        images: id → critiqued image.
        standing: the verdicts.
        disagreement: segment → share of the segments like it with another verdict, where that is known.
        known: position → entry, made before with the same `disagreement`; taken where nothing changed since.
    """
    found = []
    known = known or {}
    for position, (image_id, explained) in enumerate(images.items()):
        verdicts = standing.of_image.get(image_id, ())
        if not verdicts:
            continue
        new = int(image_id not in standing.looked_at)
        entry = known.get(position)
        if entry is None or entry.verdicts is not verdicts or entry.doubt[0] != new:
            rank, why = max((_doubt(explained, v, disagreement) for v in verdicts), key=lambda d: d[0])
            entry = Entry(position, explained, verdicts, why, (new, *rank))
        found.append(entry)
    return sorted(found, key=lambda e: e.order)


def _doubt(
    explained: ExplainedImage, verdict: Verdict, disagreement: Mapping[Key, float]
) -> tuple[tuple[int, float], str]:
    share, j = explained.shares[verdict.segment - 1], verdict.segment
    holds = f"holds {share:.0%} of the evidence"
    if verdict.spurious is None:
        return (2, share), f"segment {j} has no verdict and {holds}"
    others = disagreement.get((verdict.image_id, j), 0.0)
    if others >= _DISAGREES:
        return (1, others * share), f"{others:.0%} of the segments like segment {j} have the other verdict"
    return (0, share), f"segment {j} {holds}"
