"""Images that are wanted hundreds of times, held in memory in a quarter of it where they came from bytes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lvlm_va.data.imageset import ImageSet, as_floats, images_on

__all__ = ["HeldImages", "hold"]

_TOGETHER = 256  # images read at once


@dataclass(frozen=True, eq=False)
class HeldImages:
    """n images; an index gives some of them as (m, C, H, W) float32, to the bit what their set gives.

    Attributes:
        pixels: (n, C, H, W) uint8, where each value is one of 0/255, 1/255, ..., 1; else float32.
    """

    pixels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.pixels.device

    def __getitem__(self, index: Tensor) -> Tensor:
        return as_floats(self.pixels[index])


def hold(images: ImageSet, indices: Tensor, device: torch.device) -> HeldImages:
    """Read (n,) int64 `indices` of a set onto a device, a few hundred at a time."""
    held = None
    for first in range(0, max(1, len(indices)), _TOGETHER):
        part = images_on(images, indices[first : first + _TOGETHER], device)
        if held is None:
            held = torch.empty(len(indices), *part.shape[1:], dtype=torch.uint8, device=device)
        if held.dtype == torch.uint8:
            levels = (part * 255).round().clamp(0, 255).to(torch.uint8)
            if torch.equal(as_floats(levels), part):
                held[first : first + _TOGETHER] = levels
                continue
            before, held = held, torch.empty(held.shape, dtype=part.dtype, device=device)
            held[:first] = as_floats(before[:first])
        held[first : first + _TOGETHER] = part
    assert held is not None
    return HeldImages(held)
