"""Images of a `torch.utils.data.Dataset`, from Python, with whatever its own transform does to them."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lvlm_va.config.normalise import Normalise, read_normalise
from lvlm_va.data.held_out import how_many, stratified_apart
from lvlm_va.data.labels import label_strata, several_labels
from lvlm_va.data.listing import TRAIN, VALIDATION, split_name
from lvlm_va.data.long_ids import Numbered
from lvlm_va.data.splits import Splits
from lvlm_va.data.torch_items import Labels, as_label, as_pixels, item
from lvlm_va.data.view import View
from lvlm_va.errors import DataError

__all__ = ["TorchImageSet", "from_torch"]

_ROUNDING = 1e-3  # how far beyond [0, 1] an undone normalisation may lead


@dataclass(frozen=True, eq=False)
class TorchImageSet:
    """An `ImageSet` over a torch data set, whose images are asked for when they are needed.

    Attributes:
        data: gives (image, label) for 0 ≤ n < N, the same whenever it is asked.
        labels: (N,) int64; or (N, K) float32, where an image may have several labels.
        ids: N unique names.
        class_names: K names, indexed by label.
        normalise: (mean, std) per channel that the data set's own transform applies, undone here; None where
            there is none.
        shown: from (n, C, H, W) as the model is given them to what a person and the critic see, in [0, 1];
            None where that is the same.
    """

    data: Any
    labels: Tensor
    ids: Sequence[str]
    class_names: Sequence[str]
    normalise: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    shown: Callable[[Tensor], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def _shape(self) -> torch.Size:
        return self._image(0).shape

    def _image(self, n: int) -> Tensor:
        """(C, H, W) as the data set gives it."""
        return as_pixels(item(self.data, n, f"image {self.ids[n]}")[0], f"image {self.ids[n]}")

    def images(self, indices: Tensor) -> Tensor:
        """(n, C, H, W) float32, in [0, 1] unless `shown` is given.

        Raises:
            DataError: if the data set raises, or its images are not of one size or not in [0, 1].
        """
        # Each into its place: a list of images, then stacked, would be two copies of the batch.
        batch = torch.empty(len(indices), *self._shape)
        for row, n in zip(batch, indices.tolist(), strict=True):
            image = self._image(n)
            if image.shape != self._shape:
                raise DataError(
                    f"image {self.ids[n]} is {tuple(image.shape)}, image {self.ids[0]} {tuple(self._shape)}; "
                    "give all of them one size in the data set's transform"
                )
            row.copy_(image)
            if image.dtype == torch.uint8:
                row.div_(255)
        if self.shown is not None:
            return batch
        if self.normalise is not None:
            mean, std = (torch.tensor(values)[:, None, None] for values in self.normalise)
            batch = batch * std + mean
        low, high = (float(v) for v in batch.aminmax()) if batch.numel() else (0.0, 1.0)
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
            raise DataError(
                f"images hold values from {low:.3g} to {high:.3g}, not from 0 to 1. If the data set's "
                "transform normalises, say how (normalise={'mean': [...], 'std': [...]}); if it does "
                "something else, say how an image is made of them (shown=function)"
            )
        return batch.clamp_(0, 1)

    def shown_images(self, indices: Tensor) -> Tensor:
        """(n, C, H, W) float32 in [0, 1], as a person and the critic see them."""
        batch = self.images(indices)
        if self.shown is None:
            return batch
        seen = self.shown(batch)
        if not isinstance(seen, Tensor) or seen.shape[-2:] != batch.shape[-2:] or seen.shape[0] != len(batch):
            raise DataError(
                f"shown made {tuple(getattr(seen, 'shape', ())) or type(seen).__name__} of "
                f"{tuple(batch.shape)}; it gives (n, C, H, W) of the same height and width"
            )
        if seen.numel() and not (float(seen.min()) >= -_ROUNDING and float(seen.max()) <= 1 + _ROUNDING):
            raise DataError(
                f"shown made values from {float(seen.min()):.3g} to {float(seen.max()):.3g}, not from 0 to 1"
            )
        return seen.detach().float().clamp(0, 1)

    def spurious_masks(self, indices: Tensor) -> Tensor | None:  # noqa: ARG002
        """None: the planted feature is not known."""
        return None


def from_torch(
    data: Any,
    *,
    classes: Sequence[str] | None = None,
    normalise: Normalise | str = "auto",
    shown: Callable[[Tensor], Tensor] | None = None,
    validation: float = 0.15,
    test: float = 0.2,
    seed: int = 0,
    log: Callable[[str], None] = lambda _: None,
) -> Splits:
    """Images of a `torch.utils.data.Dataset` of (image, label), such as torchvision's.

    The data set's own transform prepares them; it must be that of evaluation, which gives an image the same
    way whenever it is asked. An image is a Pillow image, bytes, or floats; a mapping with image and label, as
    Hugging Face's data sets give under a transform, will do as well. A label is a class, or, where an image
    may have several labels, a vector of K floats: 1 has it, 0 has not, NaN unknown. What is missing of
    validation and test is held out of the training images, class by class.

    Args:
        data: a data set, or a mapping from names of parts (train, val, test) to data sets.
        classes: the classes in the order of the model's outputs; the data set's own `classes`, else sorted.
        normalise: how the transform normalises what was in [0, 1]: it is undone here, and the model's input
            normalised again (`model.normalise`). "auto" finds a `Normalize` at the end of `transform`.
        shown: where the transform does something else than normalise: from (n, C, H, W) as the model is given
            them to what a person and the critic are to see, (n, 1 or 3, H, W) in [0, 1].
        validation: images held out where no part is named so: a share below 1 or a number; 0 for none.
        test: likewise.
        seed: of what is held out.
        log: told, a sentence at a time, what was found.

    Raises:
        DataError: if it is no such data set, or its images or labels cannot be used.
    """
    named: dict[str, Any] = dict(data) if isinstance(data, Mapping) else {TRAIN: data}
    parts: dict[str, Any] = {}
    for name, part in named.items():
        split = split_name(str(name))
        if split in parts:
            raise DataError(f"two data sets for {split}: {', '.join(map(str, named))}")
        parts[split] = part
    if TRAIN not in parts:
        raise DataError(f"no data set for train among {', '.join(map(str, named)) or 'none'}")
    for name, part in parts.items():
        if not (hasattr(part, "__getitem__") and hasattr(part, "__len__")):
            raise DataError(
                f"{name}: a {type(part).__name__} without length or items; a map-style data set is needed"
            )
        if not len(part):
            raise DataError(f"{name}: the data set is empty")
    raw = _one_form({name: _labels(part, name, log) for name, part in parts.items()}, log)
    names = _class_names(parts, raw, classes)
    applied = _normalisation(parts, normalise, log) if shown is None else None
    sets: dict[str, Any] = {}
    for name, part in parts.items():
        ids = _ids(part, name)
        sets[name] = TorchImageSet(part, _as_numbers(raw[name], names, name), ids, names, applied, shown)
        _check_repeatable(sets[name], name)
    if len({(type(s), s._shape) for s in sets.values()}) > 1:
        told = ", ".join(f"{name} {tuple(s._shape)}" for name, s in sets.items())
        raise DataError(f"the parts have images of different sizes: {told}")
    _hold_out(sets, validation, test, seed, log)
    training = sets.pop(TRAIN)
    return Splits(
        name=type(data if not isinstance(data, Mapping) else parts[TRAIN]).__name__,
        train=training,
        validation=sets.pop(VALIDATION, None),
        tests=sets,
        source="a torch data set",
        normalise=None if applied is None else {"mean": list(applied[0]), "std": list(applied[1])},
    )


def _layers(data: Any) -> Iterator[Any]:
    """The data set, and those inside of it (`Subset`)."""
    while data is not None:
        yield data
        data = getattr(data, "dataset", None)


def _one_form(
    raw: dict[str, list[int | str | Labels]], log: Callable[[str], None]
) -> dict[str, list[int | str | Labels]]:
    """The labels of all parts; as classes where all are vectors of which exactly one number is 1."""
    every = [label for labels in raw.values() for label in labels]
    vectors = [label for label in every if isinstance(label, tuple)]
    if not vectors:
        return raw
    if len(vectors) < len(every) or len({len(label) for label in vectors}) > 1:
        raise DataError(
            "some labels are classes and some vectors, or vectors of different lengths; give one form"
        )
    if all(label.count(1.0) == 1 and -1.0 not in label for label in vectors):
        log("Of every label vector exactly one number is 1: every image has one class.")
        return {
            name: [label.index(1.0) if isinstance(label, tuple) else label for label in labels]
            for name, labels in raw.items()
        }
    single = sum(label.count(1.0) == 1 for label in vectors)
    told = f"{len(vectors) - single:,} of {len(vectors):,} images have several labels or none"
    unknown = sum(label.count(-1.0) for label in vectors)
    left_out = f"; {unknown:,} labels are unknown and have no part in loss and measures" if unknown else ""
    log(f"{told}, so that an image may have several{left_out}.")
    return raw


def _labels(data: Any, name: str, log: Callable[[str], None]) -> list[int | str | Labels]:
    """N labels: as the data set keeps them, where it does, else by asking for every item."""
    kept = _kept_labels(data)
    if kept is not None and all(
        as_label(item(data, n, f"{name}-{n}")[1], f"{name}-{n}") == kept[n]
        for n in sorted({0, len(kept) // 2, len(kept) - 1})
    ):
        return kept
    log(f"{name}: labels are read with their images, {len(data)} of them.")
    return [as_label(item(data, n, f"{name}-{n}")[1], f"{name}-{n}") for n in range(len(data))]


def _kept_labels(data: Any) -> list[int | str | Labels] | None:
    if hasattr(data, "indices") and hasattr(data, "dataset"):  # Subset
        inner = _kept_labels(data.dataset)
        return None if inner is None else [inner[int(i)] for i in data.indices]
    for attribute in ("targets", "labels", "_labels"):
        values = getattr(data, attribute, None)
        if values is not None and hasattr(values, "__len__") and len(values) == len(data):
            if _are_indices(values):
                return list(values.tolist())
            try:
                return [as_label(value, attribute) for value in values]
            except DataError:
                return None
    return None


def _are_indices(values: Any) -> bool:
    """Whether these are class indices in a tensor or an array: a million are then read at once."""
    if isinstance(values, Tensor):
        whole = not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)
    else:
        whole = isinstance(values, np.ndarray) and values.dtype.kind in "iu"
    return whole and values.ndim == 1 and len(values) > 0 and int(values.min()) >= 0


def _class_names(
    parts: Mapping[str, Any], raw: Mapping[str, Sequence[int | str | Labels]], classes: Sequence[str] | None
) -> tuple[str, ...]:
    if classes is None:
        own = next(
            (
                d.classes
                for d in _layers(parts[TRAIN])
                if isinstance(getattr(d, "classes", None), list | tuple)
            ),
            None,
        )
        found = {label for labels in raw.values() for label in labels}
        if own is not None:
            classes = [str(name) for name in own]
        elif vectors := [label for label in found if isinstance(label, tuple)]:
            classes = [str(k) for k in range(len(vectors[0]))]
        elif all(isinstance(label, int) for label in found):
            classes = [str(k) for k in range(max(k for k in found if isinstance(k, int)) + 1)]
        else:
            classes = sorted(map(str, found))
    names = tuple(str(name) for name in classes)
    if len(names) < 2 or len(set(names)) < len(names):
        raise DataError(
            f"a classifier needs two classes, each with a name of its own; found {', '.join(names)}"
        )
    return names


def _as_numbers(labels: Sequence[int | str | Labels], names: Sequence[str], part: str) -> Tensor:
    """(N,) int64 classes, or (N, K) float32 of several labels."""
    index = {name: k for k, name in enumerate(names)}
    found: list[int | Labels] = []
    for n, label in enumerate(labels):
        if isinstance(label, tuple):
            if len(label) != len(names):
                raise DataError(
                    f"{part}-{n}: {len(label)} labels, but {len(names)} names: {', '.join(names)}"
                )
            found.append(label)
            continue
        k = label if isinstance(label, int) else index.get(label, -1)
        if not 0 <= k < len(names):
            raise DataError(f"{part}-{n}: label {label!r} is no class of {', '.join(names)}")
        found.append(k)
    return torch.tensor(found)


def _ids(data: Any, part: str) -> Sequence[str]:
    """File names from the data set's folder where it keeps them (`samples`, `root`), else "train-17"."""
    files = _files(data)
    return files if files is not None and len(set(files)) == len(files) else Numbered(part, len(data))


def _files(data: Any) -> list[str] | None:
    if hasattr(data, "indices") and hasattr(data, "dataset"):
        inner = _files(data.dataset)
        return None if inner is None else [inner[int(i)] for i in data.indices]
    samples, root = getattr(data, "samples", None), getattr(data, "root", None)
    if not isinstance(samples, list) or len(samples) != len(data) or not isinstance(root, str | os.PathLike):
        return None
    try:
        names = [os.path.relpath(os.fspath(path), root).replace(os.sep, "/") for path, *_ in samples]
    except (TypeError, ValueError):
        return None
    return names if all(name.isprintable() for name in names) else None


def _normalisation(
    parts: Mapping[str, Any], said: Normalise | str, log: Callable[[str], None]
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if said != "auto":
        return read_normalise(said)
    found = {name: _last_normalize(part) for name, part in parts.items()}
    if len(set(found.values())) > 1:
        raise DataError(f"the parts are normalised in different ways: {found}; say normalise")
    (applied,) = set(found.values())
    if applied is not None:
        log(
            f"The transform normalises by mean {list(applied[0])}, std {list(applied[1])}: undone for what "
            "is shown."
        )
    return applied


def _last_normalize(data: Any) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std of a `Normalize` that the transform ends in."""
    step: Any = next((t for d in _layers(data) if (t := getattr(d, "transform", None)) is not None), None)
    while isinstance(inner := getattr(step, "transforms", None), list | tuple) and inner:
        step = inner[-1]
    if (
        step is None
        or type(step).__name__ != "Normalize"
        or not (hasattr(step, "mean") and hasattr(step, "std"))
    ):
        return None
    return read_normalise({"mean": _numbers(step.mean), "std": _numbers(step.std)})


def _numbers(values: Any) -> list[float]:
    return [float(v) for v in (values.flatten() if isinstance(values, Tensor) else values)]


def _check_repeatable(images: TorchImageSet, part: str) -> None:
    some = torch.linspace(0, len(images) - 1, min(4, len(images))).long()
    if not torch.equal(images.images(some), images.images(some)):
        raise DataError(
            f"{part}: the data set gives another image each time the same one is asked for; hand it over "
            "with the transform of evaluation, without random flips or crops"
        )
    images.shown_images(some)


def _hold_out(
    sets: dict[str, Any], validation: float, test: float, seed: int, log: Callable[[str], None]
) -> None:
    whole = sets[TRAIN]
    left = np.arange(len(whole))
    labels = np.array(label_strata(whole.labels)) if several_labels(whole.labels) else whole.labels.numpy()
    wanted = (
        ("test", any(n.startswith("test") for n in sets), test),
        (VALIDATION, VALIDATION in sets, validation),
    )
    for stream, (name, there, amount) in enumerate(wanted):
        count = 0 if there else how_many(amount, len(whole))
        if not count:
            continue
        if count >= len(left):
            raise DataError(f"{count} images are to be held out for {name}, but there are {len(left)}")
        chosen = stratified_apart(labels[left], count, (seed, stream))
        sets[name] = View(whole, torch.from_numpy(left[chosen]))
        left = np.delete(left, chosen)
        log(f"No {name} images are named: {count} of {len(whole)} training images are held out.")
    if len(left) < len(whole):
        sets[TRAIN] = View(whole, torch.from_numpy(left))
