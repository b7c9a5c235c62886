"""What a project trains on, chooses by and is measured on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from lvlm_va.data.imageset import ImageSet, lacks
from lvlm_va.data.labels import label_problem, several_labels
from lvlm_va.data.leaks import Leak
from lvlm_va.errors import DataError

__all__ = ["Splits"]


@dataclass(frozen=True)
class Splits:
    """The parts of a data set.

    Attributes:
        name: of the data set.
        train: the training set, from which the critiqued images are taken.
        validation: where λ is chosen; None if λ is given.
        tests: name → test set; the first is the main one.
        source: where the images came from, in words.
        planted: the planted feature in words, where there is one, e.g. "a grey patch in a corner".
        set_aside: name of a file → why it could not be used.
        leaks: images that are in two parts.
        remarks: sentences about what was found that may not be what was meant.
        shorter_side: of the training images before they were resized, pixels, the median; None where unknown.
        normalise: how the model wants the images normalised, where the data set's own transform says so and
            was undone; `Project` then takes it for `model.normalise`.
    """

    name: str
    train: ImageSet
    validation: ImageSet | None = None
    tests: Mapping[str, ImageSet] = field(default_factory=dict)
    source: str = ""
    planted: str | None = None
    set_aside: Mapping[str, str] = field(default_factory=dict)
    leaks: Sequence[Leak] = ()
    remarks: Sequence[str] = ()
    shorter_side: int | None = None
    normalise: Mapping[str, Sequence[float]] | None = None

    def __post_init__(self) -> None:
        others = {"validation": self.validation, **self.tests}
        for name, part in {"train": self.train, **others}.items():
            if part is not None and (lacking := lacks(part)):
                raise DataError(
                    f"{self.name}: {name} is no set of images: {type(part).__name__} has no "
                    f"{', '.join(lacking)}; see lvlm_va.ImageSet"
                )
        for name, part in {"train": self.train, **others}.items():
            if part is not None and len(part) == 0:
                raise DataError(f"{self.name}: {name} holds no image; leave it out, or give it some")
        names = tuple(self.train.class_names)
        for name, part in others.items():
            if part is not None and tuple(part.class_names) != names:
                raise DataError(
                    f"{self.name}: the training set has the classes {', '.join(names)}, but {name} has "
                    f"{', '.join(part.class_names)}"
                )
        for name, part in {"train": self.train, **others}.items():
            if part is None:
                continue
            if several_labels(part.labels) != self.several_labels:
                raise DataError(
                    f"{self.name}: labels of train have the shape {tuple(self.train.labels.shape)}, those of "
                    f"{name} {tuple(part.labels.shape)}; give all parts one class an image, or all several "
                    "labels"
                )
            if self.several_labels and (problem := label_problem(part.labels, names)):
                raise DataError(f"{self.name}, {name}: {problem}")

    @property
    def several_labels(self) -> bool:
        """Whether an image may have several labels, or none."""
        return several_labels(self.train.labels)

    @property
    def class_names(self) -> tuple[str, ...]:
        """K class names in the order of the model's outputs."""
        return tuple(self.train.class_names)

    @property
    def in_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image, as the model is given it."""
        channels, height, width = self.train.images(torch.tensor([0])).shape[1:]
        return channels, height, width
