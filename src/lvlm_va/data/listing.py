"""What a folder, a manifest or a Hugging Face data set says before any image is opened."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Literal, TypedDict

from lvlm_va.config.names import MAX_PIXELS
from lvlm_va.data.names import name_problem, shown
from lvlm_va.data.preprocess import Channels, Resize, Size, sides_of
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
    "names_a_part",
    "parts_in",
    "split_name",
    "whole_number",
]

TRAIN, VALIDATION = "train", "validation"
_UNCLEAR = "unclear"
_SPELLINGS = {
    **dict.fromkeys(("train", "training", "trn"), TRAIN),
    **dict.fromkeys(("val", "valid", VALIDATION), VALIDATION),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    # A development set is for training where physicians write, for validation where engineers do.
    **dict.fromkeys(("dev", "devel", "development", "eval", "evaluation", "holdout"), _UNCLEAR),
}
# Said beside the above, they change nothing: training_set, test images.
_BESIDE = frozenset(
    {"set", "sets", "subset", "data", "dataset", "split", "part", "folder", "files", "samples", "cases"}
    | {"image", "images", "img", "imgs", "pics", "photos"}
)
# As pandas reads and writes what is not there. "none" in lower case is more often an answer.
_NO_LABEL = frozenset({"", "nan", "-nan", "na", "n/a", "<na>", "#n/a", "#na", "null", "nat"})
_SHOWN = 5  # mistakes in a message


@dataclass(frozen=True)
class Record:
    """One image.

    Attributes:
        id: its unique name.
        row: into `Listing.read`.
        label: its class, 0 ≤ label < K; or K numbers, where an image may have several labels: 1 has it, 0 has
            not, −1 unknown.
        split: `TRAIN`, `VALIDATION` or a name that begins with "test"; None where it is not said.
        mask: row into `Listing.read_mask`; None where it has none.
        groups: its values in the group columns.
    """

    id: str
    row: int
    label: int | tuple[float, ...]
    split: str | None = None
    mask: int | None = None
    groups: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[int, ...]:
        """Its class, or those of several labels that it has."""
        if isinstance(self.label, int):
            return (self.label,)
        return tuple(k for k, value in enumerate(self.label) if value == 1)


@dataclass(frozen=True, eq=False)
class Listing:
    """A data set before any image is opened.

    Attributes:
        name: of the data set.
        source: where it is, in words.
        class_names: K names.
        records: its images.
        names: per row of `read`, a plain value that changes when the image does.
        read: row → pixels; a `DataError` says why not.
        mask_names: likewise for masks; empty where the planted feature is unknown.
        read_mask: row → (H, W) uint8, 0 or 255.
        group_columns: names of what `Record.groups` holds.
        set_aside: name → reason, for what cannot be an image: by its name, or as the system says.
        remarks: sentences about what was found that may not be what was meant.
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
    remarks: Sequence[str] = ()
    workers: int | None = None


@dataclass(frozen=True)
class Preparation:
    """How images are prepared and divided.

    Attributes:
        size: side of the square that the model is given, or its (height, width), pixels.
        resize: "crop", "pad" or "stretch", see `Preprocess`.
        channels: "grey", "rgb", or "auto": rgb if any image has colour channels.
        bits: of images deeper than 8 bits (not DICOM): how many are in use.
        max_pixels: an image with more is set aside before it is decoded.
        frame: which image of files that hold several, from 0.
        validation: images held out of training where the data set has no validation part: a share below
            1 or a number; 0 for none.
        test: likewise for the test part.
        seed: of what is held out.
    """

    size: Size = 224
    resize: Resize = "crop"
    channels: Channels | Literal["auto"] = "auto"
    bits: int = 16
    max_pixels: int = MAX_PIXELS
    frame: int | None = None
    validation: float = 0.15
    test: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("validation", self.validation), ("test", self.test)):
            if value < 0 or (value >= 1 and value != int(value)):
                raise ConfigError(f"{name} = {value}: give a share below 1 or a whole number of images")

    @property
    def side(self) -> int:
        """Pixels of the shorter side of an image that is read, at least: the longer one of what is wanted."""
        return max(sides_of(self.size))

    @property
    def reading(self) -> tuple[int, ...]:
        """What changes the pixels that are read, beside the file."""
        return (self.bits,) if self.frame is None else (self.bits, self.frame)


class Options(TypedDict, total=False):
    """The attributes of `Preparation` as keyword arguments."""

    size: Size
    resize: Resize
    channels: Channels | Literal["auto"]
    bits: int
    max_pixels: int
    frame: int | None
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
    kinds = {_SPELLINGS.get(word) for word in _words(said) if word not in _BESIDE}
    if kinds == {_UNCLEAR}:
        raise DataError(f"unknown split {said!r}: is it train, validation or test?")
    if len(kinds) != 1 or None in kinds:
        raise DataError(f"unknown split {said!r}; {did_you_mean(name, [TRAIN, VALIDATION, 'test'])}")
    (kind,) = kinds
    assert kind is not None
    return kind


def names_a_part(name: str) -> bool:
    """Is this how people call a part of a data set, and hardly what they call a class?"""
    words = [word.rstrip("0123456789") for word in _words(name)]
    words = [word for word in words if len(word) > 1 and word not in _BESIDE]  # test-b, train2
    return bool(words) and all(word in _SPELLINGS for word in words)


def parts_in(name: str) -> set[str]:
    """The parts that a longer name speaks of: {"train"} in seg_train."""
    return {_SPELLINGS[word] for word in _words(name) if word in _SPELLINGS}


def _words(name: str) -> list[str]:
    """In lower case, without a number before them; those written as one, such as trainset, apart."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.sub(r"^\s*\d+[\W_]+", "", name))
    words = []
    for word in re.findall(r"[^\W_]+", apart.lower()):
        word = re.sub(r"(?<=[a-z])(19|20)\d\d$", "", word)  # train2017
        ends = [end for end in _BESIDE if word.endswith(end) and word.removesuffix(end) in _SPELLINGS]
        words += [word.removesuffix(ends[0]), ends[0]] if ends else [word]
    return words


def label_classes(
    labels: Iterable[tuple[str, str]],
    classes: Sequence[str] | None,
    *,
    where: str,
    may_be_missing: bool = True,
) -> tuple[tuple[str, ...], list[int]]:
    """Class names, and the class of every label.

    A label is a class name, or, where no class is called by a number, its number in `classes`, from 0. Whole
    numbers are the same with a decimal point and without, and are written without.

    Args:
        labels: pairs of label and place, the place for messages.
        classes: the K names in the order of the model's outputs; the labels in order (numbers by value)
            when not given.
        where: names the data set in messages.
        may_be_missing: True where "nan" and its like say that there is no label, False for names of folders.

    Raises:
        DataError: naming the labels that are missing or no class and their places, or if there are fewer than
            two classes.
    """
    pairs = list(labels)
    given = {whole_number(name) for name in classes or ()}
    problems = []
    for label, place in pairs:
        if (problem := name_problem(label)) is not None:
            problems.append(f"{place}: label '{shown(label)}': {problem}")
        elif may_be_missing and whole_number(label) not in given and _is_missing(label):
            problems.append(
                f"{place}: has no label ({label!r}); give it one or leave it out"
                + (f" (if {label!r} is a class, name the classes: data.classes)" if label else "")
            )
    _refuse(problems)
    if classes is None:
        names = tuple(sorted({whole_number(label) for label, _ in pairs}, key=_number_first))
    else:
        names = tuple(classes)
    index = {whole_number(name): k for k, name in enumerate(names)}
    if len(index) != len(names):
        raise DataError(f"{where}: a class is named twice: {', '.join(names)}")
    if len(names) < 2:
        raise DataError(f"{where}: a classifier needs two classes; found {', '.join(names) or 'none'}")
    values: dict[Decimal, str] = {}
    for name in names:
        value = _value(name)
        if value is not None and values.setdefault(value, name) != name:
            raise DataError(
                f"{where}: the classes {values[value]!r} and {name!r} are one number, written in two ways; "
                "write it in one way"
            )
    # Where classes are called 1 and 2, a label 0 is a mistake, not the first of them.
    numbers = {} if values else {str(k): k for k in range(len(names))}
    found = []
    for label, place in pairs:
        k = index.get(whole_number(label), numbers.get(whole_number(label)))
        if k is None:
            problems.append(f"{place}: label {label!r} is no class; {did_you_mean(label, names)}")
        else:
            found.append(k)
    _refuse(problems)
    return names, found


def whole_number(text: str) -> str:
    """Without ".0", as pandas writes whole numbers beside missing ones; all else as it is."""
    number = re.fullmatch(r"([+-]?[0-9]+)\.0*", text)
    return text if number is None else number[1] if number[1].strip("+-0") else "0"


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        more = f"\n... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise DataError("\n".join(problems[:_SHOWN]) + more)


def _is_missing(label: str) -> bool:
    return label.strip().lower() in _NO_LABEL or label == "None"


def _value(label: str) -> Decimal | None:
    """What number a label is; None if it is none."""
    try:
        value = Decimal(label)
    except InvalidOperation:
        return None
    return value if value.is_finite() and "_" not in label else None


def _number_first(label: str) -> tuple[bool, Decimal, str]:
    value = _value(label)
    return value is None, Decimal() if value is None else value, label
