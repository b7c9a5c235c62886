"""What every stage may ask of a set of labelled images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lvlm_va.data.labels import known_labels, label_answers, label_problem, several_labels
from lvlm_va.errors import DataError

__all__ = [
    "ArrayImageSet",
    "Groups",
    "HasContent",
    "HasGroups",
    "HasImagesOn",
    "HasRelevantMasks",
    "HasShownImages",
    "ImageSet",
    "as_floats",
    "content_of",
    "groups_of",
    "images_on",
    "lacks",
    "relevant_masks",
    "shown_images",
]


@dataclass(frozen=True, eq=False)
class Groups:
    """Which group each of N images belongs to: for evaluation, never for alignment.

    Attributes:
        names: G unique names, e.g. "healthy, with a tag".
        of: (N,) int64, 0 ≤ group < G; where images have several labels (N, K), one for each label, −1 where
            it is unknown, see `groups_of`.
    """

    names: tuple[str, ...]
    of: Tensor

    @property
    def sizes(self) -> Tensor:
        """(G,) int64: how many images each group has."""
        return torch.bincount(self.of[self.of >= 0], minlength=len(self.names))


@runtime_checkable
class ImageSet(Protocol):
    """N labelled images, held in memory or read when asked for."""

    @property
    def ids(self) -> Sequence[str]:
        """N unique names, stable across runs."""
        ...

    @property
    def labels(self) -> Tensor:
        """(N,) int64, 0 ≤ label < len(class_names); or, where an image may have several labels or none,
        (N, K): 1 has it, 0 has not, NaN or −1 unknown.
        """
        ...

    @property
    def class_names(self) -> Sequence[str]:
        """K class names in the order of the model's outputs."""
        ...

    def __len__(self) -> int: ...

    def images(self, indices: Tensor) -> Tensor:
        """(n, C, H, W) float32 in [0, 1] for int64 `indices` (n,): what the model is given."""
        ...

    def spurious_masks(self, indices: Tensor) -> Tensor | None:
        """(n, H, W) bool ground truth A^(GT), True where the planted feature is; None where unknown."""
        ...


# What a set may know or be able to do beside that. None of it is needed; `data.counterparts` has one more.


@runtime_checkable
class HasGroups(Protocol):
    """A set whose images belong to groups, by which accuracy is reported, too."""

    @property
    def groups(self) -> Groups | None:
        """The group of each image; None where it is not known after all."""
        ...


@runtime_checkable
class HasRelevantMasks(Protocol):
    """A set that knows what a sound decision rests on, such as the lesion. For evaluation only."""

    def relevant_masks(self, indices: Tensor) -> Tensor | None:
        """(n, H, W) bool, True on what is relevant; None where it is not known after all."""
        ...


@runtime_checkable
class HasContent(Protocol):
    """A set that can tell, without reading its images again, whether any of them changed."""

    @property
    def content(self) -> str | None:
        """A text that changes with any image or mask; None where it is not known after all."""
        ...


@runtime_checkable
class HasImagesOn(Protocol):
    """A set that brings its images to a device faster than as floats made on the CPU."""

    def images_on(self, indices: Tensor, device: torch.device) -> Tensor:
        """(n, C, H, W) float32 in [0, 1] on `device`, to the bit what `images` gives."""
        ...


@runtime_checkable
class HasShownImages(Protocol):
    """A set whose images, as the model is given them, are nothing that a person could look at."""

    def shown_images(self, indices: Tensor) -> Tensor:
        """(n, 1 or 3, H, W) float32 in [0, 1]: what a person and the critic see, of the same size."""
        ...


def shown_images(images: ImageSet, indices: Tensor) -> Tensor:
    """(n, C, H, W) float32 in [0, 1], as a person and the critic see them; by default the images."""
    if isinstance(images, HasShownImages):
        return images.shown_images(indices)
    return images.images(indices)


def lacks(images: object) -> list[str]:
    """What an object lacks of an `ImageSet`."""
    needed = ("ids", "labels", "class_names", "__len__", "images", "spurious_masks")
    return [name for name in needed if not hasattr(images, name)]


@dataclass(frozen=True)
class ArrayImageSet:
    """An `ImageSet` whose images are in memory.

    Args:
        pixels: (N, C, H, W) uint8 in 0..255 or float32 in [0, 1].
        labels: (N,) int64; or (N, K) of 1, 0 and unknown (NaN, −1), where an image may have several labels.
        ids: N unique names.
        class_names: K names, indexed by label.
        spurious: (N, H, W) bool ground truth of the planted feature, or None.
        groups: the group of each image, or None; see `groups_of`.

    Raises:
        DataError: if lengths disagree, a label or group has no name, or an id occurs twice.
    """

    pixels: Tensor
    labels: Tensor
    ids: Sequence[str]
    class_names: Sequence[str]
    spurious: Tensor | None = None
    groups: Groups | None = None

    def __post_init__(self) -> None:
        n = len(self.pixels)
        if self.pixels.ndim != 4:
            raise DataError(f"images must have shape (N, C, H, W), not {tuple(self.pixels.shape)}")
        if self.pixels.dtype not in (torch.uint8, torch.float32):
            raise DataError(
                f"images must be uint8 (0..255) or float32 ([0, 1]), not {self.pixels.dtype}; "
                "convert them first"
            )
        if len(self.labels) != n or len(self.ids) != n:
            raise DataError(
                f"{n} images, {len(self.labels)} labels and {len(self.ids)} ids: the numbers must agree"
            )
        if self.spurious is not None and self.spurious.shape != (n, *self.pixels.shape[-2:]):
            raise DataError(
                f"spurious masks have shape {tuple(self.spurious.shape)}, "
                f"expected {(n, *self.pixels.shape[-2:])}"
            )
        if several_labels(self.labels):
            if problem := label_problem(self.labels, self.class_names):
                raise DataError(problem)
        elif n and not (0 <= int(self.labels.min()) and int(self.labels.max()) < len(self.class_names)):
            raise DataError(
                f"labels run from {int(self.labels.min())} to {int(self.labels.max())}, "
                f"but there are {len(self.class_names)} classes: {', '.join(self.class_names)}"
            )
        if len(set(self.ids)) != n:
            raise DataError("image ids must be unique")
        if self.groups is not None:
            _check_groups(self.groups, n)

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, indices: Tensor) -> Tensor:
        """(n, C, H, W) float32 in [0, 1]."""
        return as_floats(self.pixels[indices])

    def images_on(self, indices: Tensor, device: torch.device) -> Tensor:
        """The same on a device, to which bytes travel as bytes."""
        return as_floats(self.pixels[indices].to(device))

    def spurious_masks(self, indices: Tensor) -> Tensor | None:
        """(n, H, W) bool, or None where the planted feature is not known."""
        return None if self.spurious is None else self.spurious[indices]


def images_on(images: ImageSet, indices: Tensor, device: torch.device) -> Tensor:
    """(n, C, H, W) float32 in [0, 1] on `device`, to the bit what `images.images` gives.

    By the set itself where it can (`HasImagesOn`): bytes are a quarter of floats to bring to a GPU, and
    making floats of them takes a CPU longer than a GPU takes for the training step.
    """
    if isinstance(images, HasImagesOn):
        return images.images_on(indices, device)
    return images.images(indices).to(device)


def as_floats(pixels: Tensor) -> Tensor:
    """uint8 in 0..255 to float32 in [0, 1], the same on every device; float32 as it is."""
    if pixels.dtype != torch.uint8:
        return pixels
    # By a tensor, since on a GPU torch multiplies by the reciprocal of a number, which rounds differently.
    return pixels.float().div_(torch.full((), 255.0, device=pixels.device))


def groups_of(images: ImageSet) -> Groups | None:
    """The groups of a set that knows them (`HasGroups`).

    Of images with several labels, a set's own groups are those of the images, such as "with a tag" and
    "without". With the presence or absence of a label they make the groups of that label, so that every image
    is in K of them: "effusion, with a tag", "no mass, with a tag", ...
    """
    groups = images.groups if isinstance(images, HasGroups) else None
    if groups is None or not several_labels(images.labels) or groups.of.ndim == 2:
        return groups
    labels, G = images.labels, len(groups.names)
    answers = torch.arange(labels.shape[1]) + labels.shape[1] * (labels == 0)
    return Groups(
        tuple(f"{label}, {name}" for label in label_answers(images.class_names) for name in groups.names),
        torch.where(known_labels(labels), answers * G + groups.of[:, None], -1),
    )


def relevant_masks(images: ImageSet, indices: Tensor) -> Tensor | None:
    """(n, H, W) bool, True on what a sound decision rests on; None where unknown (`HasRelevantMasks`)."""
    return images.relevant_masks(indices) if isinstance(images, HasRelevantMasks) else None


def content_of(images: ImageSet) -> str | None:
    """What changes with any image of a set that can tell (`HasContent`)."""
    return images.content if isinstance(images, HasContent) else None


def _check_groups(groups: Groups, n: int) -> None:
    if len(groups.of) != n:
        raise DataError(f"{n} images, but {len(groups.of)} groups: the numbers must agree")
    if len(set(groups.names)) != len(groups.names):
        raise DataError(f"group names must be unique: {', '.join(groups.names)}")
    lowest = -1 if groups.of.ndim == 2 else 0
    if n and not (lowest <= int(groups.of.min()) and int(groups.of.max()) < len(groups.names)):
        raise DataError(
            f"groups run from {int(groups.of.min())} to {int(groups.of.max())}, but there are "
            f"{len(groups.names)}: {', '.join(groups.names)}"
        )
