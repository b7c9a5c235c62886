"""Verdicts counted against what was planted."""

from dataclasses import dataclass

from lvlm_va.critique.question import ExplainedImage

__all__ = ["Tally"]

_LEAST = 0.05  # of the planted feature, which a segment holds that is no sliver


@dataclass
class Tally:
    """Counts over the segments of one kind of images.

    Attributes:
        segments, unscored, condemned: how many.
        right: condemned ones that hold at least one pixel of the planted feature.
        holds: those that hold at least 5 % of it.
        found: condemned ones of these.
    """

    segments: int = 0
    unscored: int = 0
    condemned: int = 0
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
        self.right += spurious is True and held > 0
        if held >= _LEAST * max(1, explained.spurious.sum()):
            self.holds += 1
            self.found += spurious is True
        return held

    def counts(self) -> dict[str, int | float | None]:
        """Everything as it is written; precision and recall are None where nothing is to be divided by."""
        return {
            "segments": self.segments,
            "unscored": self.unscored,
            "condemned": self.condemned,
            "right": self.right,
            "precision": None if self.condemned == 0 else round(self.right / self.condemned, 3),
            "holds": self.holds,
            "found": self.found,
            "recall": None if self.holds == 0 else round(self.found / self.holds, 3),
        }
