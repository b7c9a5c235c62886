"""Exact DeepLIFT-SHAP: DeepLIFT's contributions averaged over baselines (Lundberg & Lee 2017, Sec. 4.2)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lvlm_va.errors import AttributionError, ModelError
from lvlm_va.explain.attribution.completeness import Explained
from lvlm_va.explain.attribution.frozen import logits_of
from lvlm_va.explain.attribution.layout import Layout
from lvlm_va.explain.attribution.pairing import Pairing
from lvlm_va.explain.attribution.refusal import probed, why_not_exact
from lvlm_va.explain.attribution.rules import Rules

__all__ = ["Learnt", "deeplift_shap"]


@dataclass
class Learnt:
    """What the first images taught about a model.

    Attributes:
        layouts: how rows lie in what the rules keep, in order; None as long as that needed no probe.
    """

    layouts: list[Layout] | None = None


def deeplift_shap(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    baselines: Tensor,
    *,
    baseline_chunk: int,
    learnt: Learnt | None = None,
) -> Explained:
    """Φ_i = E_b Σ_c m_ci (x_ci − b_ci), m the multiplier of the target's logit for pixel i and channel c.

    The rules from which m follows stand in `operations`.

    Args:
        model: frozen (see `frozen`), on the images' device and of their dtype.
        images: (n, C, H, W).
        targets: (n,) int64.
        baselines: (B, C, H, W).
        baseline_chunk: baselines at a time. What the rules keep of n + baseline_chunk rows is in memory at
            once; a quarter of these rows goes through the model at once.
        learnt: of the same model, filled and used.

    Raises:
        ModelError: if the model's outputs do not fit the targets or carry no gradient.
        AttributionError: if rows of the batch do not stay apart, with the reason.
    """
    learnt = Learnt() if learnt is None else learnt
    chunks = [_one_chunk(model, images, targets, b, learnt) for b in torch.split(baselines, baseline_chunk)]
    return Explained(
        values=torch.stack([c.values for c in chunks]).sum(0) / len(baselines),
        logits=chunks[0].logits,
        baseline_logits=torch.cat([c.baseline_logits for c in chunks]),
    )


def _one_chunk(
    model: nn.Module, images: Tensor, targets: Tensor, baselines: Tensor, learnt: Learnt
) -> Explained:
    """The sum over (not the mean of) a few baselines."""
    batch, n = torch.cat([images, baselines]), len(images)
    pairing = Pairing(n, len(baselines), size=-(-len(batch) // 4), layouts=learnt.layouts)
    inputs = batch[: pairing.size].clone().requires_grad_()
    answers: list[Tensor] = []
    for rows in pairing.slices():
        with torch.enable_grad(), Rules(pairing):
            # A copy, since a model may begin with an in-place operation, which no leaf allows.
            leaf = batch[rows].requires_grad_() if answers else inputs
            y = logits_of(model, leaf.clone(), targets)
        if pairing.unsure:
            learnt.layouts = _layouts(model, images, targets, baselines)
            return _one_chunk(model, images, targets, baselines, learnt)
        # Of the first slice the graph is needed, of the others only the answers.
        answers.append(y.detach() if answers else y)
    carrier, logits = answers[0], torch.cat(answers).detach()
    if not carrier.requires_grad:
        raise ModelError(
            "the model's logits do not depend differentiably on its input; remove `detach` and `no_grad` "
            "from its forward pass"
        )
    values = images.new_zeros(n, *images.shape[2:])
    for last in pairing.passes():
        seed = torch.zeros_like(carrier)
        for rows, i, _, _ in pairing.blocks(batch):
            seed[rows, targets[i]] = 1
        (m,) = torch.autograd.grad(carrier, inputs, seed, retain_graph=not last)
        for rows, i, x, b in pairing.blocks(batch):
            values[i] += (m[rows] * (x - b)).sum((0, 1))
    return Explained(values, logits[:n], logits[n:])


def _layouts(model: nn.Module, images: Tensor, targets: Tensor, baselines: Tensor) -> list[Layout]:
    probe, _ = probed(model, images, targets, baselines)
    layouts = [layout for layout in probe.layouts if layout is not None]
    if len(layouts) < len(probe.layouts):
        why = why_not_exact(model, images, targets, baselines)
        raise AttributionError(f"DeepLIFT-SHAP cannot explain this model. {why}")
    return layouts
