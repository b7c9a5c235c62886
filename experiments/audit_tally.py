"""Verdicts counted against what was planted."""

from dataclasses import dataclass

from lvlm_va.critique.question import ExplainedImage

__all__ = ["SLIVER", "Tally"]

SLIVER = 0.05
"""Share of the planted feature below which a segment holds but a sliver of it."""


@dataclass
class Tally:
    """Counts over the segments of one kind of images.

    Attributes:
        segments, unscored, condemned: how many.
        planted: those that hold at least one pixel of the planted feature.
        right: condemned ones of these.
        holds: those that hold at least 5 % of it.
        found: condemned ones of those.
    """

    segments: int = 0
    unscored: int = 0
    condemned: int = 0
    planted: int = 0
    right: int = 0
    holds: int = 0
    found: int = 0

    def add(self, explained: ExplainedImage, segment: int, spurious: bool | None) -> int:
        """Count one verdict; returns how many pixels of the planted feature the segment holds."""
        assert explained.spurious is not None
        held = int(((explained.segments == segment) & explained.spurious).sum())
        self.segments += 1
        self.unscored += spurious is None
        self.condemned += spurious is True
        self.planted += held > 0
        self.right += spurious is True and held > 0
        if held >= SLIVER * max(1, explained.spurious.sum()):
            self.holds += 1
            self.found += spurious is True
        return held

    @property
    def precision(self) -> float | None:
        """Share of the condemned segments that hold part of the feature; None where none is condemned."""
        return self.right / self.condemned if self.condemned else None

    @property
    def recall(self) -> float | None:
        """Share of those with at least 5 % of it that are condemned; None where there are none."""
        return self.found / self.holds if self.holds else None

    def counts(self) -> dict[str, int | float | None]:
        """What is written of it, to three digits."""
        return {
            "segments": self.segments,
            "unscored": self.unscored,
            "condemned": self.condemned,
            "right": self.right,
            "precision": None if self.precision is None else round(self.precision, 3),
            "holds": self.holds,
            "found": self.found,
            "recall": None if self.recall is None else round(self.recall, 3),
        }
