"""Exact DeepLIFT-SHAP: DeepLIFT's contributions averaged over baselines (Lundberg & Lee 2017, Sec. 4.2)."""

import torch
from torch import Tensor, nn

from lvlm_va.errors import ModelError
from lvlm_va.explain.attribution.completeness import Explained
from lvlm_va.explain.attribution.frozen import logits_of
from lvlm_va.explain.attribution.rules import Pairing, Rules

__all__ = ["deeplift_shap"]


def deeplift_shap(
    model: nn.Module, images: Tensor, targets: Tensor, baselines: Tensor, *, baseline_chunk: int
) -> Explained:
    """Φ_i = E_b Σ_c m_ci (x_ci − b_ci), m the multiplier of the target's logit for pixel i and channel c.

    Args:
        model: frozen (see `frozen`), on the images' device and of their dtype.
        images: (n, C, H, W).
        targets: (n,) int64.
        baselines: (B, C, H, W).
        baseline_chunk: baselines at a time; n + baseline_chunk rows are in memory at once.

    Raises:
        ModelError: if the model's outputs do not fit the targets or carry no gradient.
    """
    chunks = [_one_chunk(model, images, targets, b) for b in torch.split(baselines, baseline_chunk)]
    return Explained(
        values=torch.stack([c.values for c in chunks]).sum(0) / len(baselines),
        logits=chunks[0].logits,
        baseline_logits=torch.cat([c.baseline_logits for c in chunks]),
    )


def _one_chunk(model: nn.Module, images: Tensor, targets: Tensor, baselines: Tensor) -> Explained:
    """The sum over (not the mean of) a few baselines."""
    n = len(images)
    pairing = Pairing(n, len(baselines))
    batch = torch.cat([images, baselines])
    with torch.enable_grad():
        inputs = batch.detach().requires_grad_()
        with Rules(pairing):
            # A copy, since a model may begin with an in-place operation, which no leaf allows.
            logits = logits_of(model, inputs.clone(), targets)
    if not logits.requires_grad:
        raise ModelError(
            "the model's logits do not depend differentiably on its input; remove `detach` and `no_grad` "
            "from its forward pass"
        )
    values = images.new_zeros(n, *images.shape[2:])
    for last in pairing.passes():
        seed = torch.zeros_like(logits)
        for (rows, _, _), i in zip(pairing.blocks(batch), pairing.pictures_of_pass(), strict=True):
            seed[rows, targets[i]] = 1
        (m,) = torch.autograd.grad(logits, inputs, seed, retain_graph=not last)
        for (rows, x, b), i in zip(pairing.blocks(batch), pairing.pictures_of_pass(), strict=True):
            values[i] += (m[rows] * (x - b)).sum((0, 1))
    return Explained(values, logits[:n].detach(), logits[n:].detach())
