"""Is the classifier as often right as it is sure? Expected calibration error (ECE)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lvlm_va.data.labels import known_labels, several_labels
from lvlm_va.errors import ConfigError, DataError

__all__ = ["Calibration", "calibration"]


@dataclass(frozen=True)
class Calibration:
    """Images in M bins of equal width by confidence, the largest softmax probability.

    Attributes:
        images: M times how many images are in bin ((m−1)/M, m/M].
        confidence: M times their mean confidence; None where there is none.
        accuracy: M times the share of them that are classified rightly, likewise.
    """

    images: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]

    @property
    def ece(self) -> float:
        """ECE = Σ_m |B_m| / N · |acc(B_m) − conf(B_m)|, in [0, 1] (Guo et al. 2017, eq. 3).

        NaN without images.
        """
        N = sum(self.images)
        gaps = (
            n * abs(a - c)
            for n, a, c in zip(self.images, self.accuracy, self.confidence, strict=True)
            if a is not None and c is not None
        )
        return sum(gaps) / N if N else float("nan")


def calibration(outputs: Tensor, labels: Tensor, *, bins: int = 15) -> Calibration:
    """The reliability of the top label's probability.

    Args:
        outputs: (N, K) logits.
        labels: (N,) int64; or (N, K) of 1, 0 and unknown: every known label is then a decision of its own,
            between presence and absence.
        bins: M, of equal width.

    Raises:
        ConfigError: if there is no bin.
        DataError: if the numbers of images disagree.
    """
    if bins < 1:
        raise ConfigError(f"bins is {bins}: ECE needs at least one; 15 is usual")
    if len(outputs) != len(labels):
        raise DataError(f"{len(outputs)} outputs and {len(labels)} labels: they must agree")
    if several_labels(labels):
        known = known_labels(labels)
        half = outputs[known] / 2
        outputs, labels = torch.stack([-half, half], 1), labels[known].long()
    confidence, predicted = outputs.double().softmax(1).max(1)
    right = (predicted == labels).double()
    edges = torch.arange(1, bins, dtype=torch.float64) / bins
    which = torch.bucketize(confidence, edges)  # (m−1)/M < confidence ≤ m/M
    n = torch.bincount(which, minlength=bins)
    sums = (torch.bincount(which, weights=values, minlength=bins) for values in (confidence, right))
    mean_confidence, accuracy = (
        tuple(s / k if k else None for s, k in zip(total.tolist(), n.tolist(), strict=True)) for total in sums
    )
    return Calibration(tuple(n.tolist()), mean_confidence, accuracy)
