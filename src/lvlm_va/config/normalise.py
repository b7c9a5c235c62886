"""What a model does to images in [0, 1] before it looks at them."""

import math
from collections.abc import Iterable, Mapping

from lvlm_va.errors import ConfigError

__all__ = ["IMAGENET", "Normalise", "read_normalise"]

Normalise = str | Mapping[str, Iterable[float]] | None
"""None or "none", "imagenet", or {"mean": one number per channel, "std": one number per channel}."""

IMAGENET: tuple[tuple[float, ...], tuple[float, ...]] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet, RGB in [0, 1], as torchvision and timm use them."""


def read_normalise(normalise: Normalise) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """(mean, std), one number per channel each; None where nothing is to be done.

    Raises:
        ConfigError: saying what can be written.
    """
    if normalise is None or normalise == "none":
        return None
    if normalise == "imagenet":
        return IMAGENET
    if isinstance(normalise, Mapping) and set(normalise) == {"mean", "std"}:
        try:
            mean, std = (tuple(float(value) for value in normalise[key]) for key in ("mean", "std"))
        except (TypeError, ValueError):
            mean, std = (), ()
        if mean and len(mean) == len(std) and min(std) > 0 and all(map(math.isfinite, (*mean, *std))):
            return mean, std
    raise ConfigError(
        "normalise must be none, imagenet, or {mean: [...], std: [...]} with one number per channel each and "
        "std above 0"
    )
