"""Plausible background where something is taken out of an image: push-pull filling.

Pull: the image is halved again and again, each time averaging what is known only, until everything is
known. Push: back up, whatever is unknown at a level is interpolated from the level above. The result is
smooth, continues what surrounds the hole, and takes a few milliseconds for a batch (Gortler et al. 1996,
"The Lumigraph", Sec. 3.4).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from lvlm_va.errors import DataError

__all__ = ["fill"]


def fill(images: Tensor, masks: Tensor) -> Tensor:
    """Replace the masked pixels by what their surroundings suggest.

    Args:
        images: (n, C, H, W) float.
        masks: (n, H, W) bool or weights in [0, 1]: 1 is replaced, 0 is kept to the bit.

    Returns:
        (n, C, H, W). Each value lies within the range of the image's known pixels (and of the image
        itself where a weight is fractional).

    Raises:
        DataError: if the shapes do not fit, or a mask leaves nothing of its image.
    """
    if masks.shape != (len(images), *images.shape[-2:]):
        raise DataError(
            f"images of shape {tuple(images.shape)} and masks of shape {tuple(masks.shape)}: "
            "there must be one mask per image, of its size"
        )
    hole = masks.unsqueeze(1).to(images.dtype)
    if bool((hole >= 1).flatten(1).all(1).any()):
        raise DataError("a mask covers its whole image: there are no surroundings to continue")
    known = 1 - hole
    levels = [(images * known, known)]
    while max(levels[-1][0].shape[-2:]) > 1:
        levels.append((_halved(levels[-1][0]), _halved(levels[-1][1])))
    values, weights = levels.pop()
    filled = values / weights
    for values, weights in reversed(levels):
        above = F.interpolate(filled, size=values.shape[-2:], mode="bilinear", align_corners=False)
        # values = weight · average of what is known, so this is weight · average + (1 − weight) · above.
        filled = values + (1 - weights) * above
    return torch.where(hole > 0, filled, images)


def _halved(planes: Tensor) -> Tensor:
    """Means of 2 × 2 pixels; at an odd edge of those that are there."""
    return F.avg_pool2d(planes, 2, ceil_mode=True, count_include_pad=False)
