"""Attribution by gradients along straight paths: for models that multiply or normalise activations.

Both methods are means of (x − b) ∇f(b + α (x − b)) and differ in where they put (b, α). They need nothing of
a model but its gradient, and are complete only in the limit of many points.
"""

import numpy as np
import torch
from torch import Tensor, nn

from lvlm_va.errors import ModelError
from lvlm_va.explain.attribution.completeness import Explained
from lvlm_va.explain.attribution.frozen import logits_of

__all__ = ["Paths", "integrated_gradients_paths", "path_gradients", "sampled_paths"]

Paths = tuple[Tensor, Tensor, Tensor]
"""(N, S) int64 index of the baseline, (N, S) float64 α in (0, 1), (N, S) float64 weight, rows sum to 1."""


def integrated_gradients_paths(images: int, baselines: int, steps: int) -> Paths:
    """Each baseline's path at the `steps` Gauss-Legendre nodes (Sundararajan et al. 2017, Eq. 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    alpha = torch.from_numpy((nodes + 1) / 2).repeat(baselines)
    weight = torch.from_numpy(weights / 2 / baselines).repeat(baselines)
    index = torch.arange(baselines).repeat_interleave(steps)
    # Views: the same for all images, of which there may be many.
    return index.expand(images, -1), alpha.expand(images, -1), weight.expand(images, -1)


def sampled_paths(images: int, baselines: int, steps: int, seed: int) -> Paths:
    """`steps` random baselines and places per image (gradient SHAP: Erion et al. 2021, Eq. 3)."""
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(baselines, (images, steps), generator=generator)
    alpha = torch.rand(images, steps, generator=generator, dtype=torch.float64)
    return index, alpha, torch.full_like(alpha, 1 / steps)


def path_gradients(
    model: nn.Module, images: Tensor, targets: Tensor, baselines: Tensor, paths: Paths, *, rows: int
) -> Explained:
    """Φ_i = Σ_s w_s Σ_c (x_ci − b_ci) ∂f/∂x_ci at b + α_s (x − b).

    Args:
        model: frozen (see `frozen`), on the images' device and of their dtype.
        images: (n, C, H, W).
        targets: (n,) int64.
        baselines: (B, C, H, W).
        paths: the points, n rows.
        rows: points that the model sees at once.

    Raises:
        ModelError: if the model's outputs do not fit the targets or carry no gradient.
    """
    n, steps = paths[0].shape
    index, alpha, weight = (p.flatten().to(images.device) for p in paths)
    values = images.new_zeros(n, *images.shape[2:])
    for points in torch.split(torch.arange(n * steps, device=images.device), rows):
        i = points // steps
        x, b = images[i], baselines[index[points]]
        place, w = (t[points].to(images.dtype)[:, None, None, None] for t in (alpha, weight))
        with torch.enable_grad():
            at = torch.lerp(b, x, place).requires_grad_()
            # A copy, since a model may begin with an in-place operation, which no leaf allows.
            logits = logits_of(model, at.clone(), targets)
            if not logits.requires_grad:
                raise ModelError(
                    "the model's logits do not depend differentiably on its input; remove `detach` and "
                    "`no_grad` from its forward pass"
                )
            (gradient,) = torch.autograd.grad(logits.gather(1, targets[i, None]).sum(), at)
        values.index_add_(0, i, (w * gradient * (x - b)).sum(1))
    with torch.no_grad():
        f_x, f_b = (
            torch.cat([logits_of(model, some.clone(), targets) for some in torch.split(batch, rows)])
            for batch in (images, baselines)
        )
    return Explained(values, f_x, f_b)
