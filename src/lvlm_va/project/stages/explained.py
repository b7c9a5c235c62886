"""The critiqued images, explained and segmented, and as a person sees them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.verdict import Verdict
from lvlm_va.data.imageset import ImageSet, shown_images
from lvlm_va.data.labels import label_answers
from lvlm_va.data.splits import Splits
from lvlm_va.errors import DataError
from lvlm_va.explain.attribution import Attribution
from lvlm_va.explain.parts import with_parts
from lvlm_va.explain.sampling import Selection
from lvlm_va.explain.segmentation import Segmentation

__all__ = [
    "Explained",
    "ShownImages",
    "answer_names",
    "seen",
    "seen_in_parts",
    "spurious_in_parts",
    "to_uint8_rgb",
]


@dataclass(frozen=True, eq=False)
class ShownImages:
    """N critiqued images as a person sees them.

    Attributes:
        images: (N, H, W, 3) uint8.
        spurious: (N, H, W) bool, where the planted feature is; None where that is unknown.
    """

    images: Tensor
    spurious: Tensor | None

    @staticmethod
    def drawn(images: ImageSet, indices: Tensor) -> "ShownImages":
        """Asked for anew."""
        return ShownImages(seen(images, indices), images.spurious_masks(indices))


@dataclass(frozen=True, eq=False)
class Explained:
    """N critiqued images, explained and segmented.

    Attributes:
        ids: N names.
        selection: which, and how sure the model is of them.
        attribution: Φ(x, y, f).
        targets: (N,) int64, y, the classes that it explains.
        predicted: (N,) int64; of several labels what is said of the one explained, see `label_answers`.
        segmentation: C and its components.
        shown: the images as a person sees them, where they are kept; else they are drawn again.
    """

    ids: Sequence[str]
    selection: Selection
    attribution: Attribution
    targets: Tensor
    predicted: Tensor
    segmentation: Segmentation
    shown: ShownImages | None = None

    @property
    def usable(self) -> list[int]:
        """Positions of the images that could be segmented."""
        return [n for n in range(len(self.ids)) if n not in self.segmentation.set_aside]

    def with_parts_of(self, verdicts: Iterable[Verdict]) -> "Explained":
        """The same with those segments divided whose parts have the verdicts; see `explain.parts`.

        Raises:
            DataError: if verdicts are on other segments.
        """
        left: dict[str, list[int]] = {}
        for verdict in verdicts:
            left.setdefault(verdict.image_id, []).append(verdict.segment)
        found = with_parts(
            self.segmentation,
            self.attribution.values,
            {n: left[image_id] for n, image_id in enumerate(self.ids) if image_id in left},
        )
        return self if found is self.segmentation else replace(self, segmentation=found)

    def explained_images(self, splits: Splits) -> list[ExplainedImage]:
        """What the critic is asked about: every usable image."""
        indices = self.selection.indices
        shown = self.shown or ShownImages.drawn(splits.train, indices)
        images, truth = shown.images, shown.spurious
        names, labels = answer_names(splits), self.selection.classes.tolist()
        return [
            ExplainedImage(
                image_id=self.ids[n],
                image=images[n].numpy(),
                segments=self.segmentation.labels[n].numpy().astype(np.int16, copy=False),
                attribution=self.attribution.values[n].float().numpy(),
                shares=tuple(self.segmentation.pi[n].tolist()),
                class_name=names[labels[n]],
                predicted=names[int(self.predicted[n])],
                target=names[int(self.targets[n])],
                spurious=None if truth is None else truth[n].numpy(),
            )
            for n in self.usable
        ]


def answer_names(splits: Splits) -> tuple[str, ...]:
    """What is said of an image: a class; of several labels the presence or absence of the explained one."""
    return label_answers(splits.class_names) if splits.several_labels else splits.class_names


def seen(images: ImageSet, indices: Tensor) -> Tensor:
    """(n, H, W, 3) uint8 images, as a person would see them."""
    return torch.cat(list(seen_in_parts(images, indices)))


def seen_in_parts(images: ImageSet, indices: Tensor) -> Iterator[Tensor]:
    """(≤ 256, H, W, 3) uint8 after one another: as floats, all of them may not fit."""
    for part in torch.split(indices, 256):
        yield torch.stack([to_uint8_rgb(image) for image in shown_images(images, part)])


def spurious_in_parts(images: ImageSet, indices: Tensor) -> Iterator[Tensor]:
    """(≤ 256, H, W) bool after one another: the ground truth, where it is known."""
    for part in torch.split(indices, 256):
        truth = images.spurious_masks(part)
        assert truth is not None
        yield truth


def to_uint8_rgb(image: Tensor) -> Tensor:
    """(C, H, W) in [0, 1] to (H, W, 3) uint8, as a person would see it.

    Raises:
        DataError: if it has neither 1 nor 3 channels.
    """
    if image.shape[0] not in (1, 3):
        raise DataError(f"images have {image.shape[0]} channels; a critic can be shown 1 (grey) or 3 (RGB)")
    levels = (image.expand(3, -1, -1) * 255).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(1, 2, 0).contiguous()
