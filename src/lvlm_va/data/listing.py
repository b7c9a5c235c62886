"""What a folder, a manifest or a Hugging Face data set says before any picture is opened."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from lvlm_va.config.names import MAX_PIXELS
from lvlm_va.data.preprocess import Channels, Fit
from lvlm_va.data.reading import Pixels
from lvlm_va.errors import ConfigError, DataError
from lvlm_va.io.hints import did_you_mean

__all__ = [
    "TRAIN",
    "VALIDATION",
    "Listing",
    "Options",
    "Preparation",
    "Record",
    "label_classes",
    "split_name",
]

TRAIN, VALIDATION = "train", "validation"
_SPELLINGS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    VALIDATION: VALIDATION,
}
_SHOWN = 5  # mistakes in a message


@dataclass(frozen=True)
class Record:
    """One picture.

    Attributes:
        id: its unique name.
        row: into `Listing.read`.
        label: its class, 0 ≤ label < K.
        split: `TRAIN`, `VALIDATION` or a name that begins with "test"; None where it is not said.
        mask: row into `Listing.read_mask`; None where it has none.
        groups: its values in the group columns.
    """

    id: str
    row: int
    label: int
    split: str | None = None
    mask: int | None = None
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Listing:
    """A data set before any picture is opened.

    Attributes:
        name: of the data set.
        source: where it is, in words.
        class_names: K names.
        records: its pictures.
        names: per row of `read`, a plain value that changes when the picture does.
        read: row → pixels; a `DataError` says why not.
        mask_names: likewise for masks; empty where the planted feature is unknown.
        read_mask: row → (H, W) uint8, 0 or 255.
        group_columns: names of what `Record.groups` holds.
        set_aside: name → reason, for what is no picture by its name.
        workers: threads that may call `read` at once; None for as many as there are cores.
    """

    name: str
    source: str
    class_names: tuple[str, ...]
    records: Sequence[Record]
    names: Sequence[object]
    read: Callable[[int], Pixels]
    mask_names: Sequence[object] = ()
    read_mask: Callable[[int], Pixels] | None = None
    group_columns: tuple[str, ...] = ()
    set_aside: Mapping[str, str] = field(default_factory=dict)
    workers: int | None = None


@dataclass(frozen=True)
class Preparation:
    """How pictures are prepared and divided.

    Attributes:
        size: side of the square that the model is given, pixels.
        fit: "crop", "pad" or "stretch", see `Preprocess`.
        channels: "grey", "rgb", or "auto": rgb if any picture has colour channels.
        bits: of pictures deeper than 8 bits (not DICOM): how many are in use.
        max_pixels: a picture with more is set aside before it is decoded.
        validation: pictures held out of training where the data set has no validation part: a share below
            1 or a number; 0 for none.
        test: likewise for the test part.
        seed: of what is held out.
    """

    size: int = 224
    fit: Fit = "crop"
    channels: Channels | Literal["auto"] = "auto"
    bits: int = 16
    max_pixels: int = MAX_PIXELS
    validation: float = 0.15
    test: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("validation", self.validation), ("test", self.test)):
            if value < 0 or (value >= 1 and value != int(value)):
                raise ConfigError(f"{name} = {value}: give a share below 1 or a whole number of pictures")


class Options(TypedDict, total=False):
    """The attributes of `Preparation` as keyword arguments."""

    size: int
    fit: Fit
    channels: Channels | Literal["auto"]
    bits: int
    max_pixels: int
    validation: float
    test: float
    seed: int


def split_name(said: str) -> str:
    """`TRAIN`, `VALIDATION`, or a name that begins with "test", from what people call them.

    Raises:
        DataError: naming the nearest, if it is none of them.
    """
    name = said.strip().lower()
    if name.startswith("test"):
        return name
    if name not in _SPELLINGS:
        raise DataError(f"unknown split {said!r}; {did_you_mean(name, [TRAIN, VALIDATION, 'test'])}")
    return _SPELLINGS[name]


def label_classes(
    labels: Iterable[tuple[str, str]], classes: Sequence[str] | None, *, where: str
) -> tuple[tuple[str, ...], list[int]]:
    """Class names, and the class of every label.

    A label is a class name, or, where no class has that name, its number in `classes`, from 0.

    Args:
        labels: pairs of label and place, the place for messages.
        classes: the K names in the order of the model's outputs; the labels in order (numbers by value)
            when not given.
        where: names the data set in messages.

    Raises:
        DataError: naming the labels that are no class and their places, or if there are fewer than two.
    """
    pairs = list(labels)
    names = tuple(sorted({label for label, _ in pairs}, key=_number_first) if classes is None else classes)
    if len(set(names)) != len(names):
        raise DataError(f"{where}: a class is named twice: {', '.join(names)}")
    if len(names) < 2:
        raise DataError(f"{where}: a classifier needs two classes; found {', '.join(names) or 'none'}")
    index = {name: k for k, name in enumerate(names)}
    numbers = {str(k): k for k in range(len(names))}
    found, wrong = [], []
    for label, place in pairs:
        k = index.get(label, numbers.get(label))
        if k is None:
            wrong.append(f"{place}: label {label!r} is no class; {did_you_mean(label, names)}")
        else:
            found.append(k)
    if wrong:
        more = f"\n... and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise DataError("\n".join(wrong[:_SHOWN]) + more)
    return names, found


def _number_first(label: str) -> tuple[bool, int, str]:
    number = label.isdecimal()
    return not number, int(label) if number else 0, label
