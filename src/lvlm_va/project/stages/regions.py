"""The regions that an image divides into, for segmentation by SAM or SLIC; found once for each image.

A map of regions depends on the image and on what finds them, not on attribution, J or model. Each is a
file of its own, so that an interrupted run goes on with the next image, and one with another J finds
nothing again.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lvlm_va.config.schema import ExplainConfig
from lvlm_va.explain.partition import paint
from lvlm_va.explain.sam import find_sam, load_sam, needs_transformers, segment_everything
from lvlm_va.explain.slic import scikit_image_version, slic_regions
from lvlm_va.project.fingerprints import tensor_fingerprint
from lvlm_va.project.stages.context import Context
from lvlm_va.run.directory import fingerprint

__all__ = ["REGIONS", "REGION_FINDERS", "RegionFinder", "read_regions", "regions_file", "regions_of"]

REGIONS = "segments/regions"
"""One 16-bit PNG for each image: the number of every pixel's region, 0 where there is none."""


@dataclass(frozen=True)
class RegionFinder:
    """How regions are found.

    Attributes:
        recipe: all that they depend on beside the image; also numbers worth showing.
        prepare: reads weights, if there are any, and returns the function from (H, W, 3) uint8 to (H, W)
            int16.
    """

    recipe: Mapping[str, Any]
    prepare: Callable[[], Callable[[Tensor], Tensor]]


def _sam(settings: ExplainConfig, device: torch.device) -> RegionFinder:
    needs_transformers()
    source = find_sam(settings.sam)

    def prepare() -> Callable[[Tensor], Tensor]:
        sam = load_sam(source, device)
        return lambda image: paint(segment_everything(sam, image, points_per_side=settings.points_per_side))

    return RegionFinder(
        {"by": "sam", "weights": source.version, "points_per_side": settings.points_per_side}, prepare
    )


def _slic(settings: ExplainConfig, device: torch.device) -> RegionFinder:  # noqa: ARG001
    superpixels = settings.superpixels
    recipe = {"by": "slic", "scikit-image": scikit_image_version(), "superpixels": superpixels}
    return RegionFinder(recipe, lambda: lambda image: slic_regions(image, superpixels))


REGION_FINDERS: Mapping[str, Callable[[ExplainConfig, torch.device], RegionFinder]] = {
    "sam": _sam,
    "slic": _slic,
}
"""`explain.segmentation` → how its regions are found, nothing loaded yet.

They raise ConfigError or ModelError if a package or weights are missing.
"""


def regions_of(context: Context, images: Tensor, finder: RegionFinder) -> Tensor:
    """(N, H, W) int16: the regions of (N, H, W, 3) uint8 images, read where they were found before."""
    find: Callable[[Tensor], Tensor] | None = None
    found = []
    for n, image in enumerate(images, start=1):
        name = f"{REGIONS}/{fingerprint(finder.recipe, list(image.shape), tensor_fingerprint(image))}.png"
        regions = read_regions(context.run.file(name), image.shape[:2])
        if regions is None:
            find = find or finder.prepare()
            regions = find(image)
            context.run.write(name, regions_file(regions))
        found.append(regions)
        context.console.progress(n, len(images))
    return torch.stack(found)


def regions_file(regions: Tensor) -> bytes:
    """(H, W) int16 regions as a 16-bit PNG."""
    file = io.BytesIO()
    Image.fromarray(regions.numpy().astype(np.uint16)).save(file, "PNG")
    return file.getvalue()


def read_regions(file: Path, size: tuple[int, ...]) -> Tensor | None:
    """(H, W) int16 of what `regions_file` made; None where there is no such file, or a damaged one."""
    try:
        with Image.open(file, formats=["PNG"]) as image:
            regions = np.asarray(image).astype(np.int16)
    except (OSError, UnidentifiedImageError, SyntaxError):  # Pillow calls a broken PNG a syntax error
        return None
    return torch.from_numpy(regions) if regions.shape == tuple(size) else None
