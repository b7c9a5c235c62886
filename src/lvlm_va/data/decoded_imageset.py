"""Images of a folder, a manifest or a Hugging Face data set as an `ImageSet`."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lvlm_va.data.decoded import Decoded
from lvlm_va.data.imageset import Groups, as_floats

__all__ = ["DecodedImageSet"]


@dataclass(frozen=True, eq=False)
class DecodedImageSet:
    """An `ImageSet` whose images are bytes in a memory-mapped file.

    Attributes:
        decoded: the images of all parts of the data set.
        rows: (N,) int64, which of them belong here.
        labels: (N,) int64.
        ids: N unique names.
        class_names: K names, indexed by label.
        masks: the ground truth of the planted feature, 0 or 255, one channel; None where unknown.
        mask_rows: (N,) int64 into `masks`; -1 where an image has no planted feature.
        groups: the group of each image, or None.
    """

    decoded: Decoded
    rows: Tensor
    labels: Tensor
    ids: Sequence[str]
    class_names: Sequence[str]
    masks: Decoded | None = None
    mask_rows: Tensor | None = None
    groups: Groups | None = None

    @cached_property
    def content(self) -> str:
        """24 hexadecimal digits that change with any image or mask, without reading them again."""
        digest = hashlib.sha256(str(self.decoded.pixels.shape[1:]).encode())
        for row in self.rows.tolist():
            digest.update(self.decoded.digests[row].encode())
        if self.masks is not None and self.mask_rows is not None:
            for row in self.mask_rows.tolist():
                digest.update(b"none" if row < 0 else self.masks.digests[row].encode())
        return digest.hexdigest()[:24]

    def __len__(self) -> int:
        return len(self.ids)

    def images(self, indices: Tensor) -> Tensor:
        """(n, C, H, W) float32 in [0, 1]."""
        return self.images_on(indices, torch.device("cpu"))

    def images_on(self, indices: Tensor, device: torch.device) -> Tensor:
        """The same on a device, to which bytes travel as bytes."""
        return as_floats(torch.from_numpy(self.decoded.pixels[self.rows[indices].numpy()]).to(device))

    def spurious_masks(self, indices: Tensor) -> Tensor | None:
        """(n, H, W) bool, or None where the planted feature is not known."""
        if self.masks is None or self.mask_rows is None:
            return None
        rows = self.mask_rows[indices]
        found = torch.from_numpy(self.masks.pixels[rows.clamp(min=0).numpy(), 0]) > 127
        return found & (rows >= 0)[:, None, None]
