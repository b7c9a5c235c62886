"""Chosen images of another set, some of them more than once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lvlm_va.data.imageset import (
    Groups,
    ImageSet,
    content_of,
    groups_of,
    images_on,
    relevant_masks,
    shown_images,
)
from lvlm_va.data.long_ids import Picked
from lvlm_va.errors import DataError

__all__ = ["View"]


@dataclass(frozen=True, eq=False)
class View:
    """An `ImageSet` of images of another one; nothing is copied.

    Args:
        base: the other set of M images.
        positions: (N,) int64, 0 ≤ position < M, in any order and as often as wanted.

    Raises:
        DataError: if a position is outside of the set.
    """

    base: ImageSet
    positions: Tensor

    def __post_init__(self) -> None:
        M = len(self.base)
        outside = (self.positions < 0) | (self.positions >= M)
        if outside.any():
            raise DataError(f"position {int(self.positions[outside][0])} is outside of a set of {M} images")

    def __len__(self) -> int:
        return len(self.positions)

    @cached_property
    def ids(self) -> Sequence[str]:
        """N unique names: "id" where an image comes first, then "id#2", "id#3", ..."""
        if int(self.positions.bincount(minlength=1).max()) < 2:
            return Picked(self.base.ids, self.positions)
        names, taken, met = self.base.ids, set(self.base.ids), dict[int, int]()
        unique = []
        for position in self.positions.tolist():
            name, number = names[position], met.get(position, 0) + 1
            if number > 1:
                # Another image may really be called "id#2".
                while f"{name}#{number}" in taken:
                    number += 1
                taken.add(f"{name}#{number}")
            unique.append(name if number == 1 else f"{name}#{number}")
            met[position] = number
        return unique

    @cached_property
    def labels(self) -> Tensor:
        """(N,) int64, or (N, K)."""
        return self.base.labels[self.positions]

    @property
    def class_names(self) -> Sequence[str]:
        """K names, those of the other set."""
        return self.base.class_names

    @cached_property
    def groups(self) -> Groups | None:
        """The group of each image; None where the other set knows none."""
        groups = groups_of(self.base)
        return None if groups is None else Groups(groups.names, groups.of[self.positions])

    @property
    def content(self) -> str | None:
        """The other set's, if it knows it; which images are taken is told by the ids."""
        return content_of(self.base)

    def images(self, indices: Tensor) -> Tensor:
        """(n, C, H, W) float32 in [0, 1]."""
        return self.base.images(self.positions[indices])

    def images_on(self, indices: Tensor, device: torch.device) -> Tensor:
        """The same on a device, as the other set brings them there."""
        return images_on(self.base, self.positions[indices], device)

    def shown_images(self, indices: Tensor) -> Tensor:
        """(n, C, H, W) float32 in [0, 1], as a person and the critic see them."""
        return shown_images(self.base, self.positions[indices])

    def spurious_masks(self, indices: Tensor) -> Tensor | None:
        """(n, H, W) bool, or None where the planted feature is not known."""
        return self.base.spurious_masks(self.positions[indices])

    def relevant_masks(self, indices: Tensor) -> Tensor | None:
        """(n, H, W) bool, or None where it is not known what a sound decision rests on."""
        return relevant_masks(self.base, self.positions[indices])
