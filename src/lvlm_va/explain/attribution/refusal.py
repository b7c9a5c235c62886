"""Why DeepLIFT is not exact for a model: the true reason, looked for where there is one to tell."""

import torch
from torch import Tensor, nn

from lvlm_va.explain.attribution.frozen import logits_of
from lvlm_va.explain.attribution.pairing import Probe
from lvlm_va.explain.attribution.rules import Rules

__all__ = ["probed", "why_not_exact"]

_CHOOSE = "integrated-gradients or gradient-shap instead (explain.attribution in a project, method in Python)"
_MEND = f"Mend that first: {_CHOOSE.replace(' instead', '')} would explain such answers no better"
_APART = 1e-3
"""How far two answers to one image may differ by rounding, in units of the largest logit."""


def probed(model: nn.Module, images: Tensor, targets: Tensor, baselines: Tensor) -> tuple[Probe, Rules]:
    """Show the model an image and noise, and the same in another order.

    Returns:
        how rows lie in its activations; and the names of what it called that has no rule.
    """
    noise = torch.rand(2, *images.shape[1:], generator=torch.Generator().manual_seed(0)).to(images)
    low, high = baselines.amin(), baselines.amax()
    rows = torch.cat([images[:1], low + (high - low) * noise])
    probe = Probe()
    for shown in (rows, rows.roll(-1, 0)):
        with torch.enable_grad(), Rules(probe) as rules:
            logits_of(model, shown.clone().requires_grad_().clone(), targets)
        probe.again()
    return probe, rules


def why_not_exact(model: nn.Module, images: Tensor, targets: Tensor, baselines: Tensor) -> str:
    """The reason, and what to do, in sentences.

    Args:
        model: frozen.
        images: (n, C, H, W), of which some are not explained exactly.
        targets: (n,) int64.
        baselines: (B, C, H, W).
    """
    several = torch.cat([images[:2], baselines[:2]])
    with torch.no_grad(), torch.random.fork_rng():
        answers = [logits_of(model, several.clone(), targets) for _ in range(2)]
        if _apart(*answers):
            return (
                "The model answers the same image differently each time: some randomness stays on in "
                f"evaluation (dropout, noise or dropped paths that do not heed self.training). {_MEND}"
            )
        alone = torch.cat([logits_of(model, row[None].clone(), targets) for row in several])
        if _apart(answers[0], alone):
            return (
                "The rows of a batch depend on each other: the model answers an image differently beside "
                f"other images than alone (statistics or attention over the batch). {_MEND}"
            )
    with torch.random.fork_rng():
        probe, rules = probed(model, images, targets, baselines)
    if rules.without_rule:
        named = _listed(rules.without_rule)
        return f"The model calls what DeepLIFT has no exact rule for: {named}. Choose {_CHOOSE}"
    if rules.cut:
        named = _listed(rules.cut)
        return (
            f"The model hides what depends on the image from differentiation: {named}. Let it show, or "
            f"choose {_CHOOSE}"
        )
    if None in probe.layouts:
        return (
            "The rows of a batch do not lie apart in some activation: they depend on each other (statistics "
            "or attention over the batch), or several views of the images are stacked in the batch in an "
            "order that cannot be followed. Stack one whole batch after the other (torch.cat) or all views "
            f"of an image together, or choose {_CHOOSE}"
        )
    return (
        "Each operation that shows has a rule, so it is rounding (half precision inside the model, very "
        "large activations that cancel; a float64 model rounds less) or an operation that does not show (an "
        f"autograd.Function, a scripted module). Choose {_CHOOSE}"
    )


def _apart(one: Tensor, other: Tensor) -> bool:
    return bool(((one - other).abs().amax() > _APART * one.abs().amax()).item())


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))
