"""Images of a Hugging Face `datasets` object, from Python. The library itself is not imported here."""

import dataclasses
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from PIL import Image

from lvlm_va.data.assemble import assemble
from lvlm_va.data.listing import TRAIN, Listing, Options, Preparation, Record, label_classes, split_name
from lvlm_va.data.reading import Pixels, from_pillow, read_image, read_stream
from lvlm_va.data.splits import Splits
from lvlm_va.errors import DataError, LvlmVaError
from lvlm_va.io.hints import did_you_mean

__all__ = ["from_huggingface"]


def from_huggingface(
    data: Any,
    *,
    image: str = "image",
    label: str = "label",
    groups: Sequence[str] = (),
    classes: Sequence[str] | None = None,
    log: Callable[[str], None] = lambda _: None,
    **options: Unpack[Options],
) -> Splits:
    """Images of a `datasets.Dataset` or `datasets.DatasetDict`.

    The parts of a `DatasetDict` are recognised by their names; what is missing of validation and test is
    held out of the training images, class by class. Image 17 of the part train is called "train-17".

    Args:
        data: a dataset, or a mapping from names of parts to datasets.
        image: the column with the images.
        label: the column with the labels: a `ClassLabel`, numbers or texts.
        groups: columns whose values, with the class, make the groups that accuracy is also reported by.
        classes: the classes in the order of the model's outputs; those of the `ClassLabel`, else sorted.
        log: told, a sentence at a time, what was held out, set aside or found suspicious.
        options: see `Preparation`.

    Raises:
        DataError: if a column or part is missing or has another type, naming the nearest.
    """
    preparation = Preparation(**options)
    parts: dict[str, Any] = dict(data) if isinstance(data, Mapping) else {TRAIN: data}
    first = next(iter(parts.values()), None)
    if first is None or not hasattr(first, "features"):
        raise DataError("not a datasets.Dataset or DatasetDict with at least one part")
    for name, part in parts.items():
        for column in (image, label, *groups):
            if column not in part.features:
                hint = did_you_mean(column, part.features)
                raise DataError(f"{name}: the dataset has no column {column!r}; {hint}")
    named = getattr(first.features[label], "names", None)
    if any(isinstance(value, list) for part in parts.values() for value in part[label][:1]):
        raise DataError(
            f"the column {label!r} holds lists, as of images with several labels, which are not read here; "
            "give the data set to lvlm_va.from_torch, under a transform that makes a vector of K floats "
            "of each"
        )
    places = [
        (_label(value, named), f"{name}, row {n}")
        for name, part in parts.items()
        for n, value in enumerate(part[label])
    ]
    names, labels = label_classes(places, classes or named, where="the dataset")

    records: list[Record] = []
    rows: list[tuple[Any, int]] = []
    for name, part in parts.items():
        split = split_name(name)
        values = list(zip(*(part[column] for column in groups), strict=True)) if groups else [()] * len(part)
        for n in range(len(part)):
            texts = tuple(str(value) for value in values[n])
            records.append(Record(f"{name}-{n}", len(rows), labels[len(rows)], split, groups=texts))
            rows.append((part, n))

    # The library would decode with every format that Pillow knows, of which one starts a program (EPS).
    encoded = {id(part): _without_decoding(part, image) for part in parts.values()}

    def read(row: int) -> Pixels:
        part, n = rows[row]
        try:
            value = encoded[id(part)][n][image]
        except LvlmVaError:  # Interrupted, above all
            raise
        except Exception as error:  # decoders meet damage anywhere and raise anything
            raise DataError(f"cannot be decoded ({str(error) or type(error).__name__})") from error
        if isinstance(value, Mapping) and {"bytes", "path"} <= value.keys():
            return _decoded(value, preparation)
        if not isinstance(value, Image.Image):
            raise DataError(f"the column {image!r} holds {type(value).__name__}, not images")
        return from_pillow(value, bits=preparation.bits, frame=preparation.frame)

    return assemble(
        Listing(
            name=str(getattr(first.info, "dataset_name", None) or "data"),
            source="a Hugging Face dataset",
            class_names=names,
            records=records,
            names=[[_fingerprint(part), image, n, *preparation.reading] for part, n in rows],
            read=read,
            group_columns=tuple(groups),
            workers=1,  # a dataset's reader is not said to be safe in threads
        ),
        preparation,
        log=log,
    )


def _label(value: Any, named: Sequence[str] | None) -> str:
    """A label as text; the number of a `ClassLabel` as its name."""
    if named is not None and isinstance(value, int) and 0 <= value < len(named):
        return str(named[value])
    return str(value)


def _without_decoding(part: Any, image: str) -> Any:
    """The part with its images as files, where they are kept so."""
    feature = part.features[image]
    if (
        dataclasses.is_dataclass(feature)
        and not isinstance(feature, type)
        and getattr(feature, "decode", False)
    ):
        return part.cast_column(image, dataclasses.replace(feature, decode=False))
    return part


def _decoded(value: Mapping[str, Any], preparation: Preparation) -> Pixels:
    """An image file in memory, or where it lies."""
    how: dict[str, Any] = {
        "bits": preparation.bits,
        "max_pixels": preparation.max_pixels,
        "frame": preparation.frame,
        "side": preparation.side,
    }
    if value["bytes"] is None:
        return read_image(Path(value["path"]), **how)
    suffix = Path(value["path"] or "").suffix
    return read_stream(io.BytesIO(value["bytes"]), suffix=suffix, **how)


def _fingerprint(part: Any) -> str:
    """What changes with the dataset; without its own fingerprint, all it says of itself."""
    own = getattr(part, "_fingerprint", None)
    return str(own) if own else hashlib.sha256(repr(part.info).encode()).hexdigest()
