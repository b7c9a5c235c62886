"""A segment that holds two things, divided in two: PPEPS-WGM once more, inside it. Not in the paper.

A mixture of two Gaussians is fitted to the positive attribution of the segment alone, and each of its pixels
goes to the likelier one. The two parts are disjoint and together the segment, and their shares S sum to its.
They take the next free numbers of their image, those of the segment with the lower number first; the segment
itself keeps its number, without a pixel and with share 0. Only parts are divided again. So which segments
were divided, and in which round, follows from the numbers that are left: one that was not divided is left.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from lvlm_va.errors import DataError
from lvlm_va.explain.segmentation import Segmentation, ppeps_wgm

__all__ = ["Halves", "divide", "number_parts", "with_parts"]


@dataclass(frozen=True, eq=False)
class Halves:
    """The two parts of one segment; the first has the larger share.

    Attributes:
        masks: (2, H, W) bool, disjoint, together the segment, neither empty.
        pi: (2,) float64, their shares of the segment's positive attribution, as fitted; they sum to 1.
        mu: (2, 2) float64, means (u, v), pixels.
        sigma: (2, 2, 2) float64, covariances, pixels².
    """

    masks: Tensor
    pi: Tensor
    mu: Tensor
    sigma: Tensor


def divide(labels: Tensor, attribution: Tensor, segments: Iterable[int]) -> dict[int, Halves]:
    """Divide segments of one image.

    Args:
        labels: (H, W) integer, C.
        attribution: (H, W) float, Φ, signed.
        segments: which to divide.

    Returns:
        segment → its parts, in ascending order; one that cannot be divided (fewer than two pixels with
        positive attribution, or all pixels in one part) is left out.
    """
    halves = {segment: _halves(labels == segment, attribution) for segment in sorted(segments)}
    return {segment: found for segment, found in halves.items() if found is not None}


_KNOWN: dict[bytes, Halves | None] = {}
"""What was divided lately: a review is replayed whenever somebody asks what is still open."""
_MOST_KNOWN = 512  # at 224 × 224 pixels, 50 MB


def _halves(inside: Tensor, attribution: Tensor) -> Halves | None:
    """The parts of one segment, (H, W) bool; None if it cannot be divided."""
    within = torch.where(inside, attribution, 0.0)
    key = sha256(inside.numpy().tobytes() + within.numpy().tobytes()).digest()
    if key not in _KNOWN:
        mixture = ppeps_wgm(within[None], 2)
        masks = torch.stack([inside & (mixture.labels[0] == half) for half in (1, 2)])
        whole = bool(masks.flatten(1).any(1).all())
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        found = Halves(masks, mixture.pi[0], mixture.mu[0], mixture.sigma[0]) if whole else None
        _KNOWN[key] = found
    return _KNOWN[key]


def number_parts(
    labels: Tensor, shares: Sequence[float], parts: Mapping[int, Halves]
) -> tuple[Tensor, tuple[float, ...]]:
    """Labels and shares of an image with its divided segments replaced by their parts.

    Args:
        labels: (H, W) integer, C.
        shares: of the numbers in use, 1, 2, ...
        parts: see `divide`.
    """
    labels, numbered = labels.clone(), list(shares)
    for segment, halves in parts.items():
        whole, numbered[segment - 1] = numbered[segment - 1], 0.0
        for mask, pi in zip(halves.masks, halves.pi.tolist(), strict=True):
            numbered.append(whole * pi)
            labels[mask] = len(numbered)
    return labels, tuple(numbered)


def with_parts(
    segmentation: Segmentation, attribution: Tensor, left: Mapping[int, Iterable[int]]
) -> Segmentation:
    """The segments of N images, those divided that are no longer there.

    Args:
        segmentation: as it was before anything was divided.
        attribution: (N, H, W) float, Φ, as it was segmented.
        left: index → the numbers of all segments that image n has in the end; other images stay as they are.

    Returns:
        A segmentation with J′ ≥ J numbers; the shares no longer fall with the number, and numbers that an
        image has not have no pixel and share 0.

    Raises:
        DataError: if numbers are not of these segments.
    """
    found: dict[int, tuple[Tensor, tuple[float, ...], list[Halves]]] = {}
    J = segmentation.pi.shape[1]
    for n, numbers in left.items():
        wanted = set(numbers)
        labels, shares = segmentation.labels[n], tuple(segmentation.pi[n].tolist())
        halves: list[Halves] = []
        while gone := set(np.unique(labels.numpy()).tolist()) - wanted - {0}:
            parts = divide(labels, attribution[n].float(), gone)
            if parts.keys() != gone:
                raise DataError(f"image {n} has no segments {sorted(wanted)}: they are of other segments")
            labels, shares = number_parts(labels, shares, parts)
            halves += parts.values()
        if halves:
            found[n] = labels, shares, halves
    extra = max((len(shares) for _, shares, _ in found.values()), default=J) - J
    if not extra:
        return segmentation
    N = len(segmentation.labels)
    labels = segmentation.labels.clone()
    pi = torch.cat([segmentation.pi, segmentation.pi.new_zeros(N, extra)], 1)
    mu = torch.cat([segmentation.mu, segmentation.mu.new_zeros(N, extra, 2)], 1)
    unit = torch.eye(2, dtype=segmentation.sigma.dtype).expand(N, extra, 2, 2)
    sigma = torch.cat([segmentation.sigma, unit], 1)
    for n, (divided, shares, halves) in found.items():
        labels[n] = divided
        pi[n, : len(shares)] = pi.new_tensor(shares)
        mu[n, J : len(shares)] = torch.cat([one.mu for one in halves])
        sigma[n, J : len(shares)] = torch.cat([one.sigma for one in halves])
    return replace(segmentation, labels=labels, pi=pi, mu=mu, sigma=sigma)
