"""Segments that are regions of the image, not of the attribution: what Table 2 sets beside PPEPS-WGM.

Whatever finds regions (SAM's masks, SLIC's superpixels) divides an image into numbered regions and a
remainder that belongs to none. Its attribution then says which of them matter: the J − 1 regions with the
largest shares S of positive attribution become segments, and all else is one more segment, the rest. The
rest takes its number by its share like the others, since a critic must be able to condemn it too.

Why a rest, and not every pixel to the nearest region: regions have edges that mean something, and a mask
that is condemned should end where the thing ends.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lvlm_va.errors import DataError
from lvlm_va.explain.mixture import PixelCloud, components_of_cells
from lvlm_va.explain.segmentation import (
    Segmentation,
    check_attribution,
    set_aside_all,
    unusable_images,
)

__all__ = ["paint", "segments_of_regions"]


def paint(masks: Tensor) -> Tensor:
    """Masks that overlap, as regions that do not: of two at one pixel the smaller is seen.

    A part lies on the whole that it belongs to, a tag on the background.

    Args:
        masks: (M, H, W) bool.

    Returns:
        (H, W) int16: 1..M for the masks by falling area, 0 where there is none. A mask that is covered by
        smaller ones has no pixel.
    """
    regions = torch.zeros(masks.shape[1:], dtype=torch.int16)
    order = masks.flatten(1).sum(1).argsort(descending=True, stable=True)
    for number, m in enumerate(order.tolist(), start=1):
        regions[masks[m]] = number
    return regions


def segments_of_regions(
    regions: Tensor,
    attribution: Tensor,
    J: int,
    *,
    method: str,
    progress: Callable[[int, int], None] | None = None,
) -> Segmentation:
    """The J − 1 regions of each image that hold most positive attribution, and the rest.

    Images that PPEPS-WGM would set aside are set aside, so that both are compared on the same ones. An
    image with fewer than J − 1 regions that hold any has segments without pixels, with share 0.

    Args:
        regions: (N, H, W) integer, 0 for what belongs to no region.
        attribution: (N, H, W) float, Φ, signed, any unit.
        J: number of segments, 1 ≤ J ≤ H·W.
        method: who found the regions.
        progress: called with (images done, N) after every image.

    Raises:
        ConfigError: if J is out of range.
        DataError: if the attribution is not floating point of shape (N, H, W), or the regions are of another.
    """
    check_attribution(attribution, J)
    if regions.shape != attribution.shape:
        raise DataError(
            f"regions of shape {tuple(regions.shape)} and an attribution of shape "
            f"{tuple(attribution.shape)}: they must be of the same images"
        )
    attribution = attribution.detach()
    N, H, W = attribution.shape
    set_aside = unusable_images(attribution, J)
    found = set_aside_all(N, J, H, W, attribution.device, set_aside, method)
    for n in range(N):
        if n not in set_aside:
            _enter(found, n, regions[n].to(attribution.device).long(), attribution[n].clamp_min(0))
        if progress is not None:
            progress(n + 1, N)
    return found


def _enter(found: Segmentation, n: int, regions: Tensor, positive: Tensor) -> None:
    """Number the segments of image n by share and write them into `found`."""
    J = found.pi.shape[1]
    mass = torch.bincount(regions.flatten(), positive.double().flatten())
    mass[0] = 0  # what belongs to no region is of the rest
    chosen = [r for r in mass.argsort(descending=True, stable=True)[: J - 1].tolist() if mass[r] > 0]
    cells = torch.full_like(regions, len(chosen))  # the rest
    for cell, region in enumerate(chosen):
        cells[regions == region] = cell
    cloud = PixelCloud.of(positive[None])
    components = components_of_cells(cloud, cells.flatten()[cloud.pixel], J)
    order = components.pi[0].argsort(descending=True, stable=True)
    number = torch.empty_like(order).scatter_(0, order, torch.arange(1, J + 1, device=order.device))
    found.labels[n] = number[cells].short()
    found.pi[n], found.mu[n], found.sigma[n] = (
        x[0][order] for x in (components.pi, components.mu, components.sigma)
    )
    found.converged[n] = True
