"""Weighted Gaussian mixtures on the pixel lattice, fitted to many images at once.

Each image is a set of points z = (u, v), its pixels, with masses p that sum to 1. EM maximises
Σ_i p_i log Σ_j π_j N(z_i; μ_j, Σ_j). All that a Gaussian needs to know of a point is
T(z) = [1, u, v, u², uv, v²], so with natural parameters Θ (J, 6) a step is two matrix products,

    logits = Θ T(z)ᵀ        log π_j N(z_i; μ_j, Σ_j), then a softmax over j        (E-step)
    stats  = (p · R) T(z)   mass, mean and second moments of every component       (M-step)

Inside, coordinates are centred and scaled so that the longer side spans [-1, 1], and the arithmetic is
float64: second moments about the centre lose eps · 12 · (side / 2)² of the smallest variance, for an image
of 224 pixels 2 % in float32 and 3 · 10⁻¹¹ in float64.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "PIXEL_VARIANCE",
    "Components",
    "MixtureFit",
    "PixelCloud",
    "components_of_cells",
    "fit",
    "log_joint",
    "seed_components",
]

PIXEL_VARIANCE = 1 / 12
"""Smallest variance of a component along any direction, pixels²: that of one pixel, a unit square.

Without a floor the likelihood is unbounded (a component that shrinks onto one pixel), the reason for
scikit-learn's `reg_covar` too. That one is added to every covariance; this one binds only components
thinner than a pixel: eigenvalues are clipped, which is the exact M-step under the constraint
Σ_j ⪰ PIXEL_VARIANCE · I, so the likelihood never falls.
"""

_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True, eq=False)
class Components:
    """The parameters of B mixtures of J Gaussians, float64.

    Attributes:
        pi: (B, J) shares, ≥ 0, Σ_j π_j = 1.
        mu: (B, J, 2) means (u, v): column, then row, in pixels; the centre of the upper left pixel
            is (0, 0).
        sigma: (B, J, 2, 2) covariances in the same order, pixels².
    """

    pi: Tensor
    mu: Tensor
    sigma: Tensor

    def __getitem__(self, index: Tensor | slice) -> "Components":
        """The mixtures that `index` picks along B."""
        return Components(self.pi[index], self.mu[index], self.sigma[index])


@dataclass(frozen=True, eq=False)
class MixtureFit:
    """B fitted mixtures.

    Attributes:
        components: their parameters.
        log_likelihood: (B,) float64, Σ_i p_i log Σ_j π_j N(z_i; μ_j, Σ_j) of these parameters, nats.
        iterations: (B,) int64, EM steps taken.
        converged: (B,) bool, False where the iterations ran out first.
    """

    components: Components
    log_likelihood: Tensor
    iterations: Tensor
    converged: Tensor


@dataclass(frozen=True, eq=False)
class PixelCloud:
    """The pixels of B images that carry mass, padded to the longest list P with massless points.

    Attributes:
        features: (B, 6, P) float64, T(z)ᵀ in centred and scaled coordinates, 0 where padded.
        mass: (B, P) float64, p; Σ p = 1, 0 where padded.
        pixel: (B, P) int64, where in the image, row by row; 0 where padded.
        size: (H, W) of the lattice, pixels.
    """

    features: Tensor
    mass: Tensor
    pixel: Tensor
    size: tuple[int, int]

    @staticmethod
    def of(weight: Tensor) -> "PixelCloud":
        """Collect the pixels of `weight`: (B, H, W), finite, ≥ 0, a positive sum in each image."""
        B, H, W = weight.shape
        flat = weight.reshape(B, H * W).double()
        image, pixel = flat.nonzero(as_tuple=True)
        slot = (flat > 0).cumsum(1)[image, pixel] - 1
        longest = int(slot.max()) + 1
        features = flat.new_zeros(B, 6, longest)
        mass = flat.new_zeros(B, longest)
        features[image, :, slot] = _features(H, W, flat.device).T[pixel]
        mass[image, slot] = flat[image, pixel]
        place = pixel.new_zeros(B, longest)
        place[image, slot] = pixel
        return PixelCloud(features, mass / mass.sum(1, keepdim=True), place, (H, W))


def fit(
    cloud: PixelCloud,
    start: Components,
    *,
    tolerance: float,
    max_iterations: int,
    floor: float = PIXEL_VARIANCE,
) -> MixtureFit:
    """Expectation-maximisation from `start`, for B images at once.

    An image leaves the batch when its log-likelihood rises by less than `tolerance` (nats) in one step,
    so slow images hold up nobody; which others are in the batch changes nothing beyond rounding.

    Args:
        cloud: the pixels and masses of B images.
        start: B mixtures to begin with.
        tolerance: smallest rise worth another step.
        max_iterations: most steps to take.
        floor: smallest eigenvalue of a covariance, pixels².
    """
    features, mass = cloud.features, cloud.mass
    current = _to_frame(start, cloud.size)
    floor = floor / _frame(*cloud.size)[0] ** 2
    B = len(mass)
    active = torch.arange(B, device=mass.device)
    pi, mu, sigma = (torch.empty_like(x) for x in (current.pi, current.mu, current.sigma))
    log_likelihood = mass.new_empty(B)
    iterations = active.new_empty(B)
    converged = active.new_empty(B, dtype=torch.bool)
    previous = mass.new_full((B,), -math.inf)

    for step in range(max_iterations + 1):
        stats, likelihood = _expectation(features, mass, _natural(current))
        settled = likelihood - previous < tolerance
        leaving = settled if step < max_iterations else torch.ones_like(settled)
        if leaving.any():
            out, stay = active[leaving], ~leaving
            pi[out], mu[out], sigma[out] = current.pi[leaving], current.mu[leaving], current.sigma[leaving]
            log_likelihood[out], iterations[out], converged[out] = likelihood[leaving], step, settled[leaving]
            if not stay.any():
                break
            active, features, mass = active[stay], features[stay], mass[stay]
            stats, likelihood = stats[stay], likelihood[stay]
        current, previous = _maximisation(stats, floor), likelihood

    scale, _ = _frame(*cloud.size)
    components = _from_frame(Components(pi, mu, sigma), cloud.size)
    # A density per square pixel, not per unit of the frame.
    return MixtureFit(components, log_likelihood - 2 * math.log(scale), iterations, converged)


def seed_components(cloud: PixelCloud, draws: Tensor, *, floor: float = PIXEL_VARIANCE) -> Components:
    """Starting mixtures by weighted k-means++: spread-out pixels, then one M-step on their cells.

    The j-th seed is drawn with probability ∝ p · (distance to the nearest seed so far)². All images
    share the same `draws`, so an image's start does not depend on its neighbours in the batch.

    Args:
        cloud: B images, each with at least J pixels that carry mass.
        draws: (J,) float64 in [0, 1), uniform random numbers.
        floor: smallest eigenvalue of a covariance, pixels².
    """
    position, mass = cloud.features[:, 1:3], cloud.mass
    weight = mass
    nearest = torch.full_like(mass, math.inf)
    cell = torch.zeros_like(mass, dtype=torch.int64)
    for j, draw in enumerate(draws.tolist()):
        cumulative = weight.cumsum(1)
        # A draw next to 1 must not round up to the total, beyond the last pixel.
        target = min(draw, 1 - 1e-12) * cumulative[:, -1:]
        chosen = torch.searchsorted(cumulative, target, right=True)
        seed = position.gather(2, chosen[:, None].expand(-1, 2, -1))
        squared = (position - seed).square().sum(1)
        cell = torch.where(squared < nearest, j, cell)
        nearest = torch.minimum(nearest, squared)
        weight = mass * nearest
    return components_of_cells(cloud, cell, len(draws), floor=floor)


def components_of_cells(
    cloud: PixelCloud, cell: Tensor, J: int, *, floor: float = PIXEL_VARIANCE
) -> Components:
    """Share, mean and covariance of the mass in each of J cells: one M-step with each pixel in one cell.

    Args:
        cloud: B images.
        cell: (B, P) int64 in 0..J − 1, the cell of every pixel of the cloud.
        J: number of cells. One without mass has share 0 and means nothing else.
        floor: smallest eigenvalue of a covariance, pixels².
    """
    mass = cloud.mass
    share = mass.new_zeros(len(mass), J, mass.shape[1]).scatter_(1, cell[:, None], mass[:, None])
    scale, _ = _frame(*cloud.size)
    return _from_frame(_maximisation(share @ cloud.features.mT, floor / scale**2), cloud.size)


def log_joint(components: Components, size: tuple[int, int]) -> Tensor:
    """(B, J, H, W) float64: log π_j N(z; μ_j, Σ_j) at every pixel; a softmax over j gives R."""
    H, W = size
    theta = _natural(_to_frame(components, size))
    scale, _ = _frame(H, W)
    logits = theta @ _features(H, W, theta.device) - 2 * math.log(scale)
    return logits.view(*components.pi.shape, H, W)


def _expectation(features: Tensor, mass: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Sufficient statistics (B, J, 6) and log-likelihood (B,) under natural parameters (B, J, 6)."""
    # In place and to base 2: at 224² this array is the whole cost of a step, and torch's exp2 takes a third
    # of the time of its exp.
    logits = (theta / math.log(2)) @ features
    peak = logits.amax(1)
    joint = logits.sub_(peak[:, None]).exp2_()
    density = joint.sum(1)
    likelihood = (mass * (peak + density.log2())).sum(1) * math.log(2)
    responsibility = joint.mul_((mass / density)[:, None])
    return responsibility @ features.mT, likelihood


def _maximisation(stats: Tensor, floor: float) -> Components:
    """The mixture that maximises the likelihood for given statistics (B, J, 6), Σ_j ⪰ floor · I.

    A component that lost its mass keeps π_j ≈ 0 and stays out.
    """
    share = stats[..., 0]
    moments = stats[..., 1:] / share.clamp_min(_TINY)[..., None]
    mu = moments[..., :2]
    u, v = mu.unbind(-1)
    uu, uv, vv = (moments[..., 2:] - torch.stack([u * u, u * v, v * v], -1)).unbind(-1)
    # Eigenvalues mean ± radius; S − low · I is 2 · radius times the projector on the larger one's axis.
    mean, radius = (uu + vv) / 2, torch.hypot((uu - vv) / 2, uv)
    low, high = mean - radius, mean + radius
    clipped = low < floor
    stretch = torch.where(clipped, (high - floor).clamp_min(0) / (2 * radius).clamp_min(_TINY), 1.0)
    shift = torch.where(clipped, floor - stretch * low, 0.0)
    uu, uv, vv = stretch * uu + shift, stretch * uv, stretch * vv + shift
    sigma = torch.stack([uu, uv, uv, vv], -1).view(*uu.shape, 2, 2)
    return Components(share / share.sum(-1, keepdim=True), mu, sigma)


def _natural(components: Components) -> Tensor:
    """Θ (B, J, 6) with Θ_j · T(z) = log π_j N(z; μ_j, Σ_j)."""
    u, v = components.mu.unbind(-1)
    uu, uv, _, vv = components.sigma.flatten(-2).unbind(-1)
    det = uu * vv - uv * uv
    a, b, c = vv / det, -uv / det, uu / det
    au, av = a * u + b * v, b * u + c * v
    constant = (
        components.pi.clamp_min(_TINY).log() - math.log(2 * math.pi) - (det.log() + au * u + av * v) / 2
    )
    return torch.stack([constant, au, av, -a / 2, -b, -c / 2], -1)


def _features(H: int, W: int, device: torch.device) -> Tensor:
    """(6, H·W) float64: T(z)ᵀ of all pixels in rows, in the frame's coordinates."""
    scale, (centre_u, centre_v) = _frame(H, W)
    row = (torch.arange(H, dtype=torch.float64, device=device) - centre_v) / scale
    column = (torch.arange(W, dtype=torch.float64, device=device) - centre_u) / scale
    v, u = (x.flatten() for x in torch.meshgrid(row, column, indexing="ij"))
    return torch.stack([torch.ones_like(u), u, v, u * u, u * v, v * v])


def _frame(H: int, W: int) -> tuple[float, tuple[float, float]]:
    """Scale (pixels per unit) and centre (u, v) of the coordinates used inside."""
    return max(H, W) / 2, ((W - 1) / 2, (H - 1) / 2)


def _to_frame(components: Components, size: tuple[int, int]) -> Components:
    scale, centre = _frame(*size)
    mu = (components.mu - components.mu.new_tensor(centre)) / scale
    return Components(components.pi, mu, components.sigma / scale**2)


def _from_frame(components: Components, size: tuple[int, int]) -> Components:
    scale, centre = _frame(*size)
    mu = components.mu * scale + components.mu.new_tensor(centre)
    return Components(components.pi, mu, components.sigma * scale**2)
