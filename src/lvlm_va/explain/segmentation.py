"""PPEPS-WGM: a partition of each image by its positive attribution (Sec. 4.1).

Positive attribution Φ⁺ = max(Φ, 0), divided by its sum Z⁺, is a distribution p on the pixel lattice. A
Gaussian mixture fitted to it by weighted maximum likelihood gives J components with shares S_j = π_j, and
every pixel belongs to the component that most likely explains it: C ∈ {1..J}^{H×W}.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from lvlm_va.errors import ConfigError, DataError
from lvlm_va.explain.mixture import Components, MixtureFit, PixelCloud, fit, log_joint, seed_components

__all__ = [
    "Segmentation",
    "check_attribution",
    "joined",
    "parts_to_segment",
    "ppeps_wgm",
    "set_aside_all",
    "unusable_images",
]

_PART = 16
"""Images that are worth a part of their own, at least."""

_WORKING_SET = {"cpu": 4 << 20, "cuda": 1 << 28}
"""Bytes of responsibilities held at once: a CPU is fastest when they stay in its cache."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The segments of N images; segment 1 has the largest share, segment J the smallest.

    Images that were set aside have label 0 everywhere, share 0, and NaN for everything else. A
    component whose pixels are all better explained by others keeps its number and share, and no pixel.
    Where segments are regions of the image, or somebody else's, there is no mixture: each has the share,
    mean and covariance of the positive attribution in it, and there is no likelihood (NaN). Somebody else's
    may leave pixels to no segment: label 0, and the shares sum to less than 1.

    Attributes:
        labels: (N, H, W) int16 in 1..J, C: the component with the largest responsibility, for every
            pixel, whatever the sign of its attribution.
        pi: (N, J) float64, the shares S_j of positive attribution, descending, Σ_j S_j = 1.
        mu: (N, J, 2) float64, means (u, v): column, then row, in pixels.
        sigma: (N, J, 2, 2) float64, covariances in the same order, pixels².
        log_likelihood: (N,) float64, Σ_i p_i log Σ_j π_j N(z_i; μ_j, Σ_j), nats.
        iterations: (N,) int64, EM steps of the start that won.
        converged: (N,) bool, False where the iterations ran out first.
        set_aside: index → reason, for the images that cannot be segmented.
        method: how they were found: "ppeps-wgm" (from the attribution alone, the paper), "sam", "slic"
            (regions of the image that hold much of it, see `explain.partition`), or somebody else's.
    """

    labels: Tensor
    pi: Tensor
    mu: Tensor
    sigma: Tensor
    log_likelihood: Tensor
    iterations: Tensor
    converged: Tensor
    set_aside: dict[int, str]
    method: str = "ppeps-wgm"

    def to(self, device: torch.device) -> "Segmentation":
        """The same with all tensors on `device`."""
        kept: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        kept |= {name: value.to(device) for name, value in kept.items() if isinstance(value, Tensor)}
        return Segmentation(**kept)

    def rows(self, index: Sequence[int]) -> "Segmentation":
        """The segments of these images, in this order."""
        kept: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        kept |= {name: value[list(index)] for name, value in kept.items() if isinstance(value, Tensor)}
        aside = {n: self.set_aside[i] for n, i in enumerate(index) if i in self.set_aside}
        return Segmentation(**kept | {"set_aside": aside})

    def responsibilities(self, index: int) -> Tensor:
        """(J, H, W) float32, Σ_j = 1: how much each component explains each pixel of image `index`.

        Computed when asked for: of 1,024 images of 224 × 224 pixels and 7 segments all would take
        1.4 GB. NaN where the image was set aside. Of regions 1 for the region of the pixel, else 0.
        """
        if self.method != "ppeps-wgm" and index not in self.set_aside:
            numbers = torch.arange(1, self.pi.shape[1] + 1, device=self.labels.device)
            return (self.labels[index] == numbers.view(-1, 1, 1)).float()
        return self._log_joint(index).softmax(0).float()

    def _log_joint(self, index: int) -> Tensor:
        """(J, H, W) float64, log π_j N(z; μ_j, Σ_j) at every pixel z of image `index`."""
        one = slice(index, index + 1)
        components = Components(self.pi[one], self.mu[one], self.sigma[one])
        H, W = self.labels.shape[1:]
        return log_joint(components, (H, W))[0]


def ppeps_wgm(
    attribution: Tensor,
    J: int,
    *,
    n_init: int = 3,
    tolerance: float = 1e-5,
    max_iterations: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Segmentation:
    """Divide each image into J segments by its positive attribution.

    An image's result depends on its attribution (not on its scale) and on `seed`, not on the images
    beside it. Runs on the attribution's device.

    Args:
        attribution: (N, H, W) float, Φ, signed, any unit.
        J: number of segments, 1 ≤ J ≤ H·W.
        n_init: how many k-means++ starts to fit; the best likelihood wins.
        tolerance: EM stops when a step raises the log-likelihood by less, nats. At 1e-3 labels are
            still moving.
        max_iterations: most EM steps from one start.
        seed: of the starts.
        progress: called with (images done, N) after every batch.

    Raises:
        ConfigError: if J, `n_init`, `tolerance` or `max_iterations` is out of range.
        DataError: if `attribution` has not the shape (N, H, W) or is not floating point.
    """
    check_attribution(attribution, J)
    if n_init < 1 or max_iterations < 1:
        raise ConfigError(f"n_init = {n_init} and max_iterations = {max_iterations}: both must be at least 1")
    if not tolerance >= 0:
        raise ConfigError(f"tolerance = {tolerance}: it must be 0 or larger")
    N, H, W = attribution.shape
    attribution = attribution.detach()
    set_aside = unusable_images(attribution, J)
    segmentation = set_aside_all(N, J, H, W, attribution.device, set_aside)
    draws = torch.rand(n_init, J, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    done = len(set_aside)
    for batch in _batches(attribution, J, set_aside):
        cloud = PixelCloud.of(attribution[batch].clamp_min(0))
        fits = (
            fit(cloud, seed_components(cloud, draw), tolerance=tolerance, max_iterations=max_iterations)
            for draw in draws
        )
        _enter(segmentation, batch, reduce(_better, fits))
        done += len(batch)
        if progress is not None:
            progress(done, N)
    return segmentation


def parts_to_segment(attribution: Tensor, J: int) -> list[Tensor]:
    """Parts of the images that `ppeps_wgm` may segment one by one: indices of those that can be segmented.

    A part is made of whole batches of `ppeps_wgm`, so that each image's segments are to the bit those of all
    images at once; `joined` puts them together. The attribution must lie where it will be segmented.
    """
    parts: list[Tensor] = []
    room = 0
    for batch in _batches(attribution, J, unusable_images(attribution, J)):
        if room > 0:
            parts[-1] = torch.cat([parts[-1], batch])
        else:
            parts.append(batch)
            room = _PART
        room -= len(batch)
    return parts


def joined(
    attribution: Tensor, J: int, parts: Sequence[Tensor], segmentations: Sequence[Segmentation]
) -> Segmentation:
    """The segmentation of all images, of those of `parts_to_segment`; the others are set aside."""
    N, H, W = attribution.shape
    whole = set_aside_all(N, J, H, W, attribution.device, unusable_images(attribution, J))
    for part, found in zip(parts, segmentations, strict=True):
        for field in fields(found):
            value = getattr(found, field.name)
            if isinstance(value, Tensor):
                getattr(whole, field.name)[part] = value.to(attribution.device)
    return whole


def check_attribution(attribution: Tensor, J: int) -> None:
    """Refuse what cannot be divided into J segments.

    Raises:
        ConfigError: if J is out of range.
        DataError: if `attribution` has not the shape (N, H, W) or is not floating point.
    """
    if attribution.ndim != 3 or not attribution.is_floating_point():
        raise DataError(
            f"an attribution must be floating point of shape (N, H, W), not {attribution.dtype} of shape "
            f"{tuple(attribution.shape)}; sum over channels first"
        )
    H, W = attribution.shape[1:]
    if J < 1:
        raise ConfigError(f"J = {J} segments: choose at least 1")
    if J > H * W:
        raise ConfigError(
            f"J = {J} segments, but an image of {H}×{W} has only {H * W} pixels: choose a smaller J"
        )


def unusable_images(attribution: Tensor, J: int) -> dict[int, str]:
    """Index → reason, for the images that a mixture of J components cannot be fitted to.

    Regions could be, but methods are compared on the same images.
    """
    reasons = {}
    flat = attribution.flatten(1)
    finite = flat.isfinite().all(1).tolist()
    constant = (flat == flat[:, :1]).all(1).tolist()
    for i, positive in enumerate((flat > 0).sum(1).tolist()):
        if not finite[i]:
            reasons[i] = "the attribution holds NaN or infinite values"
        elif positive == 0:
            reasons[i] = "no pixel has positive attribution"
        elif positive < J:
            reasons[i] = f"{positive} pixels have positive attribution, fewer than J = {J} segments"
        elif constant[i] and J > 1:
            reasons[i] = "the attribution is the same at every pixel and points nowhere"
    return reasons


def set_aside_all(
    N: int,
    J: int,
    H: int,
    W: int,
    device: torch.device,
    set_aside: dict[int, str],
    method: str = "ppeps-wgm",
) -> Segmentation:
    """A segmentation in which every image is still set aside, to be filled batch by batch."""

    def nan(*shape: int) -> Tensor:
        return torch.full((N, *shape), torch.nan, dtype=torch.float64, device=device)

    return Segmentation(
        labels=torch.zeros(N, H, W, dtype=torch.int16, device=device),
        pi=torch.zeros(N, J, dtype=torch.float64, device=device),
        mu=nan(J, 2),
        sigma=nan(J, 2, 2),
        log_likelihood=nan(),
        iterations=torch.zeros(N, dtype=torch.int64, device=device),
        converged=torch.zeros(N, dtype=torch.bool, device=device),
        set_aside=set_aside,
        method=method,
    )


def _batches(attribution: Tensor, J: int, set_aside: dict[int, str]) -> Iterator[Tensor]:
    """Indices of the usable images, those with like numbers of positive pixels together (less padding)."""
    room = _WORKING_SET.get(attribution.device.type, _WORKING_SET["cpu"]) // (8 * J)
    positive = (attribution > 0).flatten(1).sum(1).cpu()
    batch: list[int] = []
    for i in positive.argsort(stable=True).tolist():
        if i in set_aside:
            continue
        if batch and int(positive[i]) * (len(batch) + 1) > room:
            yield torch.tensor(batch).to(attribution.device)
            batch = []
        batch.append(i)
    if batch:
        yield torch.tensor(batch).to(attribution.device)


def _better(one: MixtureFit, other: MixtureFit) -> MixtureFit:
    """For each image the fit with the larger likelihood; `one` where they tie."""
    wins = other.log_likelihood > one.log_likelihood

    def choose(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(wins.view(-1, *[1] * (a.ndim - 1)), b, a)

    return MixtureFit(
        Components(
            choose(one.components.pi, other.components.pi),
            choose(one.components.mu, other.components.mu),
            choose(one.components.sigma, other.components.sigma),
        ),
        choose(one.log_likelihood, other.log_likelihood),
        choose(one.iterations, other.iterations),
        choose(one.converged, other.converged),
    )


def _enter(segmentation: Segmentation, batch: Tensor, best: MixtureFit) -> None:
    """Number the components by share and write them, and the labels they give, into `segmentation`."""
    components = best.components
    order = components.pi.argsort(dim=1, descending=True, stable=True)
    segmentation.pi[batch] = components.pi.take_along_dim(order, 1)
    segmentation.mu[batch] = components.mu.take_along_dim(order[..., None], 1)
    segmentation.sigma[batch] = components.sigma.take_along_dim(order[..., None, None], 1)
    segmentation.log_likelihood[batch] = best.log_likelihood
    segmentation.iterations[batch] = best.iterations
    segmentation.converged[batch] = best.converged
    for i in batch.tolist():
        # One image at a time: the whole lattice, unlike the pixels that carry mass, may not fit. And `max`,
        # since torch's `argmax` takes ten times as long.
        segmentation.labels[i] = (segmentation._log_joint(i).max(0).indices + 1).short()
