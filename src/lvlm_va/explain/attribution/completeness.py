"""Completeness (local accuracy): do the attributions of an image sum to what they claim to explain?"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lvlm_va.errors import AttributionError, ModelError

__all__ = ["Explained", "completeness_error", "require_complete", "require_finite"]

_FLOOR = 0.1
"""Smallest denominator, in units of the largest |logit|: 1e-4 of it is some hundred float32 roundings."""


class Explained(NamedTuple):
    """What a method found for a batch of n images.

    Attributes:
        values: (n, H, W) Φ, channels summed.
        logits: (n, K) f(x).
        baseline_logits: (B, K) f(b).
    """

    values: Tensor
    logits: Tensor
    baseline_logits: Tensor


def require_finite(explained: Explained, first: int) -> None:
    """Refuse logits that are NaN or infinite.

    Args:
        explained: the batch.
        first: position of the batch's first image among all images, for the message.

    Raises:
        ModelError: naming the images or baselines.
    """
    for kind, logits, offset in (
        ("baselines", explained.baseline_logits, 0),
        ("images", explained.logits, first),
    ):
        bad = (~logits.isfinite().all(1)).nonzero().flatten().add(offset).tolist()
        if bad:
            names = ", ".join(str(i) for i in bad[:10]) + (", ..." if len(bad) > 10 else "")
            raise ModelError(
                f"the model's logits are NaN or infinite for {kind} {names} (counted from 0); "
                "look at those images' pixels and at the model's weights"
            )


def completeness_error(explained: Explained, targets: Tensor) -> Tensor:
    """|ΣΦ − (f(x) − E f(b))| / |f(x) − E f(b)| per image.

    Where image and baselines have nearly the same logit the quotient would measure rounding only, so the
    denominator is at least a tenth of the image's largest |logit|.

    Args:
        explained: n images.
        targets: (n,) int64, the explained classes.

    Returns:
        (n,) float64, ≥ 0; NaN where Φ is not finite.
    """
    logits = explained.logits.double()
    f_x = logits.gather(1, targets[:, None]).squeeze(1)
    f_b = explained.baseline_logits.double().mean(0)[targets]
    gap = f_x - f_b
    scale = gap.abs().maximum(_FLOOR * logits.abs().amax(1)).clamp_min(torch.finfo(torch.float64).tiny)
    return (explained.values.double().sum((1, 2)) - gap).abs() / scale


def require_complete(error: Tensor, tolerance: float, first: int, remedy: Callable[[], str]) -> None:
    """Refuse a batch whose attributions do not sum to what they claim to explain.

    Args:
        error: (n,) from `completeness_error`.
        tolerance: the largest error allowed.
        first: position of the batch's first image among all images, for the message.
        remedy: tells why and what the user can do, one sentence or more.

    Raises:
        AttributionError: naming the worst image, its error and the remedy.
    """
    worst = int(error.nan_to_num(nan=torch.inf).argmax())
    if not bool(error[worst] <= tolerance):
        raise AttributionError(
            f"the attribution of image {first + worst} (counted from 0) misses f(x) − E f(b) by "
            f"{float(error[worst]):.2g} of its size; {tolerance:.2g} is allowed. {remedy()}"
        )
