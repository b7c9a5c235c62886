"""How good are the verdicts? Verdict accuracy as in Table 1, and its missing half, recall."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

__all__ = ["VerdictQuality", "segments_with_feature", "verdict_quality"]


@dataclass(frozen=True)
class VerdictQuality:
    """Verdicts against the ground truth, counted over segments.

    Attributes:
        flagged: segments with verdict spurious.
        flagged_right: those that contain part of the planted feature.
        spurious: segments that contain part of the planted feature, scored or not.
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
        """Share of flagged segments that contain part of the planted feature (Table 1); NaN if none."""
        return self.flagged_right / self.flagged if self.flagged else float("nan")

    @property
    def recall(self) -> float:
        """Share of segments with part of the planted feature that were flagged; an unscored one was not."""
        return self.flagged_right / self.spurious if self.spurious else float("nan")

    def to_dict(self) -> dict[str, float]:
        """All counts and both shares, for JSON."""
        return asdict(self) | {"accuracy": self.accuracy, "recall": self.recall}


def segments_with_feature(labels: Tensor, spurious: Tensor, J: int) -> Tensor:
    """(n, J) bool: does segment j + 1 contain at least one pixel of the planted feature?

    Args:
        labels: (n, H, W) integers C in 0..J.
        spurious: (n, H, W) bool, A^(GT).
        J: number of segments.
    """
    marks = torch.arange(1, J + 1)
    return ((labels.unsqueeze(1) == marks[:, None, None]) & spurious.unsqueeze(1)).flatten(2).any(2)


def verdict_quality(verdicts: Tensor, truth: Tensor) -> VerdictQuality:
    """Compare verdicts with the ground truth.

    Args:
        verdicts: (n, J) integers: 1 spurious, 0 valid, −1 unscored, −2 no such segment.
        truth: (n, J) bool from `segments_with_feature`.
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
