"""Segments that anybody's method finds.

    class Quadrants:
        name = "quadrants"

        def segment(self, image, attribution, J):
            rows, columns = np.indices(attribution.shape)
            return 1 + 2 * (rows >= len(rows) // 2) + (columns >= len(columns) // 2)

An object like this is taken wherever a segmentation's name is, and so is a function of these arguments;
neither needs to import anything of this package. Another package offers one by name with an entry point in
the group `lvlm_va.segmentations`.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lvlm_va.config.names import Foreign
from lvlm_va.errors import LvlmVaError
from lvlm_va.explain.mixture import PixelCloud, components_of_cells
from lvlm_va.explain.segmentation import (
    Segmentation,
    check_attribution,
    set_aside_all,
    unusable_images,
)
from lvlm_va.io.raised import place

__all__ = ["SegmentationMethod", "own_segments"]


@runtime_checkable
class SegmentationMethod(Protocol):
    """Divides an image into at most J segments.

    One attribute is optional. `version` says which of its kind it is: with another one all images are
    segmented anew.

    Attributes:
        name: stands in the report.
    """

    name: str

    def segment(
        self, image: NDArray[np.uint8], attribution: NDArray[np.float32], J: int
    ) -> NDArray[np.integer]:
        """The segments of one image.

        Args:
            image: (H, W, 3) uint8, as a person would see it.
            attribution: (H, W) float32, Φ, signed.
            J: how many segments are wanted.

        Returns:
            (H, W) integers in 0..J; 0 for what belongs to no segment. Their order is of no account: segments
            are numbered by their share of the positive attribution.
        """
        ...


def own_segments(
    method: Foreign,
    images: Tensor,
    attribution: Tensor,
    J: int,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Segmentation:
    """Divide each image as `method` says.

    Images that PPEPS-WGM would set aside are set aside without asking, so that both are compared on the same
    ones; so are those whose segments hold no positive attribution.

    Args:
        method: whose `call` is a `SegmentationMethod.segment`.
        images: (N, H, W, 3) uint8.
        attribution: (N, H, W) float, Φ, signed, any unit.
        J: number of segments, 1 ≤ J ≤ H·W.
        progress: called with (images done, N) after every image.

    Raises:
        ConfigError: if J is out of range.
        DataError: if the attribution is not floating point of shape (N, H, W).
        ExtensionError: if the method raises, or returns something else than labels.
    """
    check_attribution(attribution, J)
    values = attribution.detach().float().cpu()
    N, H, W = values.shape
    found = set_aside_all(N, J, H, W, values.device, unusable_images(values, J), method.name)
    for n in range(N):
        if n not in found.set_aside:
            _enter(found, n, _labels(method, images[n], values[n], J), values[n].clamp_min(0))
        if progress is not None:
            progress(n + 1, N)
    return found.to(attribution.device)


def _labels(method: Foreign, image: Tensor, attribution: Tensor, J: int) -> Tensor:
    """(H, W) int64 in 0..J.

    Raises:
        ExtensionError: if the method raises, or returns something else.
    """
    try:
        # Copies, which it may write into.
        said = method.call(image.numpy().copy(), attribution.numpy().copy(), J)
        labels = np.asarray(said)
    except LvlmVaError:
        raise
    except Exception as error:
        raise method.complaint(f"segment raised {type(error).__name__}: {error}{place(error)}") from error
    shape = tuple(attribution.shape)
    if labels.shape != shape or not np.issubdtype(labels.dtype, np.integer):
        raise method.complaint(
            f"segment must return integers of shape (H, W) = {shape}, not {labels.dtype} of shape "
            f"{labels.shape}"
        )
    if labels.min() < 0 or labels.max() > J:
        raise method.complaint(
            f"segment returned labels from {labels.min()} to {labels.max()}; they must be in 0..{J}, 0 for "
            "what belongs to no segment"
        )
    return torch.from_numpy(labels.astype(np.int64))


def _enter(found: Segmentation, n: int, labels: Tensor, positive: Tensor) -> None:
    """Number the segments of image n by share and write them into `found`, or set it aside."""
    J = found.pi.shape[1]
    if not float(positive[labels > 0].sum()):
        found.set_aside[n] = "no segment holds positive attribution"
        return
    cloud = PixelCloud.of(positive[None])
    cells = (labels - 1) % (J + 1)  # what belongs to no segment is one more cell, the last
    components = components_of_cells(cloud, cells.flatten()[cloud.pixel], J + 1)
    pi, mu, sigma = (x[0][:J] for x in (components.pi, components.mu, components.sigma))
    order = pi.argsort(descending=True, stable=True)
    number = torch.zeros(J + 1, dtype=torch.int16)
    number[order + 1] = torch.arange(1, J + 1, dtype=torch.int16)
    found.labels[n] = number[labels]
    found.pi[n], found.mu[n], found.sigma[n] = pi[order], mu[order], sigma[order]
    found.converged[n] = True
