"""μ_align: the share of the explanation that lies where it may (Sec. 5.1)."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["MuAlign", "mu_align"]


@dataclass(frozen=True)
class MuAlign:
    """μ_align of a set of images.

    Attributes:
        mean: average over images, in [0, 1]; 1 means that no attribution lies on the planted feature.
        std: standard deviation over images.
        per_image: (n,) float64; NaN where an image has no attribution at all.
        undefined: how many images have no attribution and are left out.
    """

    mean: float
    std: float
    per_image: Tensor
    undefined: int


def mu_align(attribution: Tensor, spurious: Tensor) -> MuAlign:
    """μ_align = mean_n (1 − Σ_i A^(GT)_ni |Φ_i(x_n, y_n, f)| / Σ_i |Φ_i(x_n, y_n, f)|) (Sec. 5.1).

    The absolute value counts reliance in both directions: a model that decides *against* a class
    because of a patch leans on the patch as well.

    Args:
        attribution: (n, H, W) Φ(x_n, y_n, f), of the label's class y_n.
        spurious: (n, H, W) bool, A^(GT).
    """
    magnitude = attribution.double().abs().flatten(1)
    total = magnitude.sum(1)
    inside = (magnitude * spurious.flatten(1)).sum(1)
    per_image = torch.where(total > 0, 1 - inside / total, torch.nan)
    defined = per_image[total > 0]
    return MuAlign(
        mean=float(defined.mean()) if len(defined) else float("nan"),
        std=float(defined.std(correction=0)) if len(defined) else float("nan"),
        per_image=per_image,
        undefined=int((total <= 0).sum()),
    )
