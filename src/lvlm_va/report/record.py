"""What a run's directory says, read once and without the data set: the material of every report."""

from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence, ValuesView
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.store import Exchange
from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import RunError
from lvlm_va.explain.segmentation import Segmentation
from lvlm_va.report.critiques import Critique, critique_of
from lvlm_va.run import artefacts
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import (
    CRITIC_VERDICTS,
    CRITIQUES,
    EXPLANATIONS,
    IMAGES,
    MASKS,
    METRICS,
    PARTS,
    SEGMENTS,
    VERDICTS,
    open_store,
)
from lvlm_va.run.metrics import RunMetrics
from lvlm_va.run.verdict_table import Overruled, read_verdicts, reconcile

__all__ = [
    "Critiques",
    "Explanations",
    "Images",
    "Judged",
    "edited_since",
    "read_critiques",
    "read_exchanges",
    "read_explanations",
    "read_images",
    "read_judged",
    "read_masks",
    "read_metrics",
    "specifications_asked",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Images:
    """The critiqued images.

    Attributes:
        explained_images: id → image, explanation and segments, in the order of selection. An image
            that was set aside has no segment.
        set_aside: id → why the image could not be segmented.
        segmentation: the segments of all of them, in the same order.
    """

    explained_images: Mapping[str, ExplainedImage]
    set_aside: Mapping[str, str]
    segmentation: Segmentation


@dataclass(frozen=True)
class Judged:
    """The verdicts.

    Attributes:
        said: what the critic and the judge said.
        in_force: the same, except where a person overruled it.
        overruled: what a person changed.
    """

    said: Sequence[Verdict]
    in_force: Sequence[Verdict]
    overruled: Sequence[Overruled]

    @cached_property
    def said_of(self) -> Mapping[str, Sequence[Verdict]]:
        """Image → what was said of its segments."""
        return _by_image(self.said)

    @cached_property
    def in_force_of(self) -> Mapping[str, Sequence[Verdict]]:
        """Image → its verdicts in force."""
        return _by_image(self.in_force)


@dataclass(frozen=True, eq=False)
class Explanations:
    """n test images, explained before and after alignment.

    Attributes:
        ids: n names.
        images: (n, H, W, 3) uint8.
        labels: n class names.
        before, after: (n, H, W) float32, Φ of the class predicted by each model.
        predicted_before, predicted_after: n class names.
        spurious: (n, H, W) bool, where the planted feature is; None where that is unknown.
    """

    ids: Sequence[str]
    images: NDArray[np.uint8]
    labels: Sequence[str]
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    predicted_before: Sequence[str]
    predicted_after: Sequence[str]
    spurious: NDArray[np.bool_] | None


def _by_image(verdicts: Sequence[Verdict]) -> Mapping[str, Sequence[Verdict]]:
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.image_id, []).append(verdict)
    return found


def read_images(run: RunDirectory) -> Images:
    """The critiqued images with their explanations and segments; divided where the verdicts are on parts.

    Raises:
        RunError: if a file is missing or damaged.
    """
    tensors, notes = _read(run, IMAGES, artefacts.read_tensors)
    attribution, targets, predicted = _read(
        run, "segments/attribution.safetensors", artefacts.read_attribution
    )
    segmentation = _read(run, SEGMENTS, artefacts.read_segmentation)
    if run.file(CRITIC_VERDICTS).exists():
        said = _read(run, CRITIC_VERDICTS, read_verdicts)
        if any(verdict.segment > segmentation.pi.shape[1] for verdict in said):
            segmentation = _read(run, PARTS, artefacts.read_segmentation)
    with _explained(run, IMAGES):
        ids, names = notes["ids"], notes["class_names"]
        shapes = {tensors["images"].shape[:3], segmentation.labels.shape, attribution.values.shape}
        if len(shapes) > 1 or len(ids) != len(targets):
            raise RunError(f"{run.path}: the files in segments/ are of different runs; {_AGAIN}")
        truth = tensors["spurious"].numpy() if "spurious" in tensors else None
        # Views of what is mapped: of many images only those are read that are looked at.
        pixels, segments = tensors["images"].numpy(), segmentation.labels.to(torch.int16).numpy()
        values, shares = attribution.values.to(torch.float32).numpy(), segmentation.pi.tolist()
        classes = (tensors["labels"].tolist(), predicted.tolist(), targets.tolist())
        explained_images = {
            image_id: ExplainedImage(
                image_id=image_id,
                image=pixels[n],
                segments=segments[n],
                attribution=values[n],
                shares=tuple(shares[n]),
                class_name=names[label],
                predicted=names[chosen],
                target=names[target],
                spurious=None if truth is None else truth[n],
            )
            for n, (image_id, label, chosen, target) in enumerate(zip(ids, *classes, strict=True))
        }
        set_aside = {ids[n]: reason for n, reason in sorted(segmentation.set_aside.items())}
    return Images(explained_images, set_aside, segmentation)


def read_masks(run: RunDirectory, images: Images) -> dict[str, NDArray[np.bool_]]:
    """Image → A, (H, W) bool: what of it was corrected by the verdicts that made the model.

    Raises:
        RunError: if the file is missing or damaged, or lacks one of the images that have segments.
    """
    tensors, notes = _read(run, MASKS, artefacts.read_tensors)
    with _explained(run, MASKS):
        masks = dict(zip(notes["ids"], tensors["masks"].numpy(), strict=True))
    if masks.keys() != images.explained_images.keys() - images.set_aside.keys():
        raise RunError(f"{run.path}: {MASKS} is of other images than segments.safetensors; {_AGAIN}")
    return masks


def read_judged(run: RunDirectory) -> Judged:
    """The verdicts, as they stand in the tables now.

    Raises:
        RunError: if there are none, or verdicts.csv was edited into something that cannot be read.
    """
    said = _read(run, CRITIC_VERDICTS, read_verdicts)
    rows = _read(run, VERDICTS, read_verdicts)
    in_force, overruled = reconcile(said, rows, where=run.file(VERDICTS))
    return Judged(said, in_force, overruled)


def edited_since(metrics: RunMetrics, judged: Judged) -> bool:
    """Whether verdicts.csv was edited after the numbers were measured."""
    then = {(o.image_id, o.segment, o.person) for o in metrics.verdicts.overruled}
    now = {(o.person.image_id, o.person.segment, o.person.spurious) for o in judged.overruled}
    return then != now


def read_exchanges(run: RunDirectory, image_id: str | None = None) -> Mapping[str, Sequence[Exchange]]:
    """Image → what was asked about it and answered, oldest first; of one image or all.

    Raises:
        RunError: if the store is missing, damaged or in use by another process.
    """
    _present(run, CRITIQUES)
    found: dict[str, list[Exchange]] = {}
    with open_store(run) as store:
        for exchange in store.exchanges(image_id):
            found.setdefault(exchange.image_id, []).append(exchange)
    return found


class Critiques(Mapping[str, Critique]):
    """Image → the critique from which its verdicts were drawn; images without one are left out.

    A text is read from the store when it is asked for; `items` and `values` read all of them.
    """

    def __init__(self, run: RunDirectory, judged: Judged) -> None:
        _present(run, CRITIQUES)
        self._run = run
        self._said = judged.said_of
        with open_store(run) as store:
            there = store.criticised()
        self._ids = {image_id: None for image_id in self._said if image_id in there}
        self._read: dict[str, Critique] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._ids

    def __getitem__(self, image_id: str) -> Critique:
        if image_id not in self._ids:
            raise KeyError(image_id)
        if image_id not in self._read:
            self._take(image_id, read_exchanges(self._run, image_id)[image_id])
        return self._read[image_id]

    def items(self) -> ItemsView[str, Critique]:
        """All of them, in the order of the verdicts."""
        if len(self._read) < len(self):
            for image_id, exchanges in read_exchanges(self._run).items():
                if image_id in self._ids:
                    self._take(image_id, exchanges)
        return super().items()

    def values(self) -> ValuesView[Critique]:
        """Likewise."""
        self.items()
        return super().values()

    def _take(self, image_id: str, exchanges: Sequence[Exchange]) -> None:
        found = critique_of(exchanges, self._said[image_id])
        assert found is not None, "a critic answered"
        self._read[image_id] = found


def read_critiques(run: RunDirectory, judged: Judged) -> Mapping[str, Critique]:
    """Image → the critique from which its verdicts were drawn; images without one are left out.

    Raises:
        RunError: if the store is missing, damaged or in use by another process; now, or when a text is asked
            for.
    """
    return Critiques(run, judged)


def specifications_asked(
    images: Images, critiques: Mapping[str, Critique], classes: Sequence[str]
) -> list[tuple[str, Critique]]:
    """(class, a critique that was asked with its specification), for every class that was asked about."""
    first: dict[str, str] = {}
    for image_id in critiques:
        first.setdefault(images.explained_images[image_id].class_name, image_id)
    return [(name, critiques[first[name]]) for name in classes if name in first]


def read_metrics(run: RunDirectory) -> RunMetrics:
    """metrics.json.

    Raises:
        RunError: if it is missing or damaged.
    """
    return _read(run, METRICS, lambda path: RunMetrics.model_validate_json(path.read_bytes()))


def read_explanations(run: RunDirectory) -> Explanations | None:
    """The test images explained before and after; None where the run has no test set.

    Raises:
        RunError: if the file is missing although there is a test set, or damaged.
    """
    if not read_metrics(run).data.tests:
        return None
    tensors, notes = _read(run, EXPLANATIONS, artefacts.read_tensors)
    with _explained(run, EXPLANATIONS):
        names = notes["class_names"]

        def classes(key: str) -> list[str]:
            return [names[k] for k in tensors[key].tolist()]

        return Explanations(
            ids=notes["ids"],
            images=tensors["images"].numpy(),
            labels=classes("labels"),
            before=tensors["before_attribution"].to(torch.float32).numpy(),
            after=tensors["after_attribution"].to(torch.float32).numpy(),
            predicted_before=classes("before_predicted"),
            predicted_after=classes("after_predicted"),
            spurious=tensors["spurious"].numpy() if "spurious" in tensors else None,
        )


_AGAIN = "finish the run with the command that started it, then ask for the report again"


def _read(run: RunDirectory, name: str, load: Callable[[Path], T]) -> T:
    _present(run, name)
    with _explained(run, name):
        return load(run.file(name))


def _present(run: RunDirectory, name: str) -> None:
    if not run.file(name).exists():
        raise RunError(f"{run.path}: {name} is missing, the run is not finished; {_AGAIN}")


@contextmanager
def _explained(run: RunDirectory, name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise RunError(f"{run.file(name)}: cannot be read ({error}); delete it and {_AGAIN}") from None
