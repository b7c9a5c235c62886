"""SLIC superpixels (Achanta et al. 2012): regions of like colour, compact, without any weights."""

from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

from lvlm_va.errors import ConfigError

__all__ = ["scikit_image_version", "slic_regions"]


def scikit_image_version() -> str:
    """Of the library that finds the superpixels.

    Raises:
        ConfigError: if it is not installed.
    """
    try:
        return version("scikit-image")
    except PackageNotFoundError:
        raise ConfigError(
            "explain.segmentation: slic needs scikit-image: pip install 'lvlm-va[slic]'"
        ) from None


def slic_regions(image: Tensor, superpixels: int) -> Tensor:
    """Divide an image into about so many superpixels, by scikit-image at its default compactness.

    Args:
        image: (H, W, 3) uint8.
        superpixels: how many to begin with; those that are too small join a neighbour.

    Returns:
        (H, W) int16, 1, 2, ...; every region is connected, and no pixel is without one.

    Raises:
        ConfigError: if scikit-image is not installed.
    """
    scikit_image_version()
    from skimage.segmentation import slic

    return torch.from_numpy(slic(image.numpy(), n_segments=superpixels, start_label=1)).short()
