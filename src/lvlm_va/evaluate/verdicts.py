"""How good are the verdicts? Verdict accuracy as in Table 1, and its missing half, recall."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["VerdictQuality", "segments_beside", "segments_with_feature", "verdict_quality"]


@dataclass(frozen=True)
class VerdictQuality:
    """Verdicts against the ground truth, counted over segments.

    Attributes:
        flagged: segments with verdict spurious.
        flagged_right: those that contain part of the planted feature (or whatever else makes a segment
            truly spurious, see `truth` of `verdict_quality`).
        spurious: truly spurious segments, scored or not.
        scored: segments with a verdict.
        unscored: segments without one.
    """

    flagged: int
    flagged_right: int
    spurious: int
    scored: int
    unscored: int

    @property
    def accuracy(self) -> float:
        """Share of flagged segments that are truly spurious (Table 1); NaN if none is flagged."""
        return self.flagged_right / self.flagged if self.flagged else float("nan")

    @property
    def recall(self) -> float:
        """Share of truly spurious segments that were flagged; an unscored one was not."""
        return self.flagged_right / self.spurious if self.spurious else float("nan")


def segments_with_feature(labels: Tensor, spurious: Tensor, J: int) -> Tensor:
    """(n, J) bool: does segment j + 1 contain at least one pixel of the planted feature?

    Args:
        labels: (n, H, W) integers C in 0..J.
        spurious: (n, H, W) bool, A^(GT).
        J: number of segments.
    """
    segment_ids = torch.arange(1, J + 1)
    return ((labels.unsqueeze(1) == segment_ids[:, None, None]) & spurious.unsqueeze(1)).flatten(2).any(2)


def segments_beside(labels: Tensor, relevant: Tensor, J: int) -> Tensor:
    """(n, J) bool: does segment j + 1 lie beside what a sound decision rests on?

    It does if less than 2 % of its pixels are relevant and less than 5 % of the relevant pixels are its own:
    segments tile an image, and one that only grazes the object is not of it. Where nothing is relevant,
    no segment is called beside it.

    Args:
        labels: (n, H, W) integers C in 0..J.
        relevant: (n, H, W) bool, e.g. the lesion.
        J: number of segments.
    """
    segment_ids = torch.arange(1, J + 1)
    segments = (labels.unsqueeze(1) == segment_ids[:, None, None]).flatten(2)
    inside = relevant.flatten(1).unsqueeze(1)
    common = (segments & inside).sum(2)
    size, whole = segments.sum(2), inside.sum(2)
    return (size > 0) & (whole > 0) & (common < 0.02 * size) & (common < 0.05 * whole)


def verdict_quality(verdicts: Tensor, truth: Tensor) -> VerdictQuality:
    """Compare verdicts with the ground truth.

    Args:
        verdicts: (n, J) integers: 1 spurious, 0 valid, −1 unscored, −2 no such segment.
        truth: (n, J) bool from `segments_with_feature` or `segments_beside`.
    """
    scored = verdicts >= 0
    flagged = verdicts == 1
    return VerdictQuality(
        flagged=int(flagged.sum()),
        flagged_right=int((flagged & truth).sum()),
        spurious=int((truth & (verdicts != -2)).sum()),
        scored=int(scored.sum()),
        unscored=int((verdicts == -1).sum()),
    )
