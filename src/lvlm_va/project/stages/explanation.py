"""Select N images, explain them, segment what speaks for the prediction (Sec. 4.1)."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lvlm_va.config.schema import ExplainConfig
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.verdict import Verdict
from lvlm_va.data.imageset import ImageSet, images_on, shown_images
from lvlm_va.data.labels import label_answers
from lvlm_va.data.splits import Splits
from lvlm_va.errors import ConfigError, DataError
from lvlm_va.explain.attribution import Attribution, attribute
from lvlm_va.explain.parts import with_parts
from lvlm_va.explain.sampling import Selection, describe, select
from lvlm_va.explain.segmentation import Segmentation
from lvlm_va.io.hints import did_you_mean
from lvlm_va.models.compute import full_float32
from lvlm_va.models.likelihood import Likelihood
from lvlm_va.models.memory import in_parts
from lvlm_va.project.fingerprints import weights_fingerprint
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.explaining import PartExplained, explaining, scoring
from lvlm_va.project.stages.segmentation import segment
from lvlm_va.project.stages.shards import Work, forget_shards, model_to_share, parts_of, shards
from lvlm_va.run import artefacts
from lvlm_va.run.directory import fingerprint
from lvlm_va.run.files import IMAGES

__all__ = [
    "Explained",
    "ShownImages",
    "answer_names",
    "attribution_settings",
    "check_selection",
    "explain",
    "explain_classes",
    "predicted_classes",
    "select_and_attribute",
    "to_uint8_rgb",
    "training_baselines",
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
        seen = torch.cat(list(_seen(images, indices)))
        return ShownImages(seen, images.spurious_masks(indices))


_SCORED = 512  # training images of one part


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


def explain(context: Context, model: nn.Module) -> Explained:
    """Stages select, explain and segment.

    Raises:
        DataError: if more images are asked for than there are.
        AttributionError: if the attributions do not add up.
        ConfigError, ModelError: if what segments is missing.
        ExtensionError: if somebody else's attribution or segmentation cannot be used.
    """
    selection, attribution, targets, predicted = select_and_attribute(context, model)

    shown = _kept_images(context)

    def images() -> Tensor:
        return (shown or ShownImages.drawn(context.splits.train, selection.indices)).images

    segmentation = segment(context, images, attribution.values)
    ids = [context.splits.train.ids[i] for i in selection.indices.tolist()]
    return Explained(ids, selection, attribution, targets, predicted, segmentation, shown)


def _kept_images(context: Context) -> ShownImages | None:
    """The images of stage explain, mapped from their file; None in a process that cannot read it."""
    try:
        tensors = artefacts.read_tensors(context.run.file(IMAGES))[0]
    except FileNotFoundError:
        return None
    return ShownImages(tensors["images"], tensors.get("spurious"))


def select_and_attribute(context: Context, model: nn.Module) -> tuple[Selection, Attribution, Tensor, Tensor]:
    """Stages select and explain: the chosen images, Φ, the classes (N,) it is of, and those predicted.

    Raises:
        DataError, AttributionError: as `explain`.
    """
    selection = _select(context, model)
    return selection, *_attribute(context, model, selection)


def training_baselines(context: Context) -> Tensor:
    """(B, C, H, W): random training images to compare with."""
    settings, images = context.config.explain, context.splits.train
    generator = torch.Generator().manual_seed(settings.seed)
    return images.images(torch.randperm(len(images), generator=generator)[: settings.baselines])


def answer_names(splits: Splits) -> tuple[str, ...]:
    """What is said of an image: a class; of several labels the presence or absence of the explained one."""
    return label_answers(splits.class_names) if splits.several_labels else splits.class_names


def predicted_classes(
    context: Context, model: nn.Module, images: Tensor, explained: Tensor | None = None
) -> Tensor:
    """What the model says of (n, C, H, W) images: (n,) int64, numbers of `answer_names`.

    Args:
        context: of the run.
        model: the model.
        images: the images.
        explained: (n,) int64, of several labels the one that is explained.
    """
    device = context.inputs.device

    def predicted(rows: slice) -> Tensor:
        outputs: Tensor = model(images[rows].to(device)).cpu()
        return outputs.argmax(1) if explained is None else Likelihood.answers(outputs, explained[rows])

    with torch.no_grad(), full_float32():
        return torch.cat(list(in_parts(len(images), 512, predicted, context.console.note)))


def explain_classes(
    context: Context, model: nn.Module, images: Tensor, classes: Tensor, baselines: Tensor
) -> Attribution:
    """Φ(x, y, f) of (n, C, H, W) images x and (n,) classes y."""
    return attribute(
        model,
        images,
        classes,
        baselines,
        **_attribution_options(context),
        progress=context.console.progress,
        note=context.console.note,
    )


def _attribution_options(context: Context) -> dict[str, Any]:
    settings = context.config.explain
    small = math.prod(context.splits.in_shape) < 10_000
    return {
        "method": context.attribution or settings.attribution,
        "tolerance": settings.tolerance,
        "steps": settings.steps,
        "seed": settings.seed,
        # Larger batches save most of the overhead; they cost little memory where images are small, and a
        # GPU's (5 GB for ResNet-50 at 224²) are halved where it does not suffice.
        "batch_size": 100 if small or context.inputs.device.type == "cuda" else 10,
    }


def attribution_settings(context: Context) -> dict[str, Any]:
    """What Φ depends on, but for the model, the images and `explain.baseline`."""
    method = context.method
    steps = {"steps"} if method.takes_steps else set()
    read = context.config.explain.model_dump(include={"baselines", "tolerance", "seed"} | steps)
    version = {} if method.version is None else {"version": method.version}
    return {"attribution": method.name} | read | version


def _seen(images: ImageSet, indices: Tensor) -> Iterator[Tensor]:
    """(≤ 256, H, W, 3) uint8 after one another: as floats, all of them may not fit."""
    for part in torch.split(indices, 256):
        yield torch.stack([to_uint8_rgb(image) for image in shown_images(images, part)])


def to_uint8_rgb(image: Tensor) -> Tensor:
    """(C, H, W) in [0, 1] to (H, W, 3) uint8, as a person would see it.

    Raises:
        DataError: if it has neither 1 nor 3 channels.
    """
    if image.shape[0] not in (1, 3):
        raise DataError(f"images have {image.shape[0]} channels; a critic can be shown 1 (grey) or 3 (RGB)")
    levels = (image.expand(3, -1, -1) * 255).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(1, 2, 0).contiguous()


def _select(context: Context, model: nn.Module) -> Selection:
    settings, images = context.config.explain, context.splits.train
    check_selection(settings, context.splits)
    path = context.run.file("selection.csv")
    names, several = context.splits.class_names, context.splits.several_labels
    only = None if settings.label is None else names.index(settings.label)

    def described(indices: Tensor, chosen_entropy: Tensor, chosen_classes: Tensor) -> Selection:
        entropy = torch.zeros(len(images), dtype=torch.float64)
        entropy[indices] = chosen_entropy
        classes = torch.zeros(len(images), dtype=torch.int64)
        classes[indices] = chosen_classes
        truth, carries = images.spurious_masks(indices), None
        if truth is not None:
            carries = torch.zeros(len(images), dtype=torch.bool)
            carries[indices] = truth.flatten(1).any(1)
        return describe(
            indices,
            entropy,
            classes,
            strategy=settings.sampling,
            num_classes=len(names),
            spurious=carries,
        )

    def compute() -> Selection:
        with context.console.stage(f"Selecting {settings.num_images} images ({settings.sampling})"):
            # Entropies are kept, not K logits an image: of a million images and a thousand classes 4 GB.
            scored = torch.empty(2, len(images), dtype=torch.float64)
            for number, part in shards(context, scores):
                scored[:, rows[number]] = part
            entropy, classes = scored[0], scored[1].long()
            candidates = (classes >= 0).nonzero()[:, 0]
            chosen = select(
                entropy[candidates],
                classes[candidates],
                settings.num_images,
                strategy=settings.sampling,
                num_classes=len(names),
                seed=settings.seed,
            )
            indices = candidates[chosen]
            return described(indices, entropy[indices], classes[indices])

    def load() -> Selection:
        indices, entropy = artefacts.read_selection(path)
        if [i for i in indices.tolist() if not 0 <= i < len(images)] or len(indices) != settings.num_images:
            raise ValueError(f"{path}: is not the selection that was written there")
        return described(indices, entropy, artefacts.read_selected_classes(path))

    weights, home = weights_fingerprint(model), _home(context)
    rows = parts_of(len(images), _SCORED)
    scores = Work(
        "select",
        fingerprint("score", weights, context.inputs.training_data, *([settings.label] if several else [])),
        [part.stop - part.start for part in rows],
        lambda n: (
            images_on(images, torch.arange(rows[n].start, rows[n].stop), home),
            images.labels[rows[n]],
        ),
        partial(scoring, model_to_share(context, model), context.config.device, only),
        lambda scored: artefacts.tensors_file({"scored": scored}),
        lambda path: artefacts.read_tensors(path)[0]["scored"],
    )
    selection, _ = context.run.stage(
        "select",
        fingerprint(
            "select",
            weights,
            context.inputs.training_data,
            settings.model_dump(include={"num_images", "sampling", "seed"})
            | ({} if only is None else {"label": settings.label}),
        ),
        compute,
        save=lambda s: context.run.write("selection.csv", artefacts.selection_file(s, images.ids)),
        load=load,
        summarise=lambda s: {
            "images": len(s.indices),
            "strategy": s.strategy,
            "per_class": list(s.class_counts),
            "spurious_share": s.spurious_share,
        },
        together=lambda read: context.run.group.broadcast_read(read),
    )
    forget_shards(context, "select")
    return selection


def check_selection(settings: ExplainConfig, splits: Splits) -> None:
    """Make sure, before any work, that N images can be chosen.

    Raises:
        ConfigError: if `explain.label` names no label.
        DataError: if more images are asked for than there are, or than have a label.
    """
    images, wanted, name = splits.train, settings.num_images, settings.label
    if name is not None and not splits.several_labels:
        raise ConfigError(
            "explain.label is for images with several labels, but here every image has one class; leave it "
            "out"
        )
    if name is not None and name not in splits.class_names:
        raise ConfigError(
            f"explain.label: there is no label {name!r}; {did_you_mean(name, splits.class_names)}"
        )
    if wanted > len(images):
        raise DataError(
            f"explain.num_images asks for {wanted} images, but the training set has {len(images)}; choose at "
            "most that many"
        )
    if splits.several_labels:
        has = images.labels == 1
        n = int((has.any(1) if name is None else has[:, splits.class_names.index(name)]).sum())
        if wanted > n:
            raise DataError(
                f"explain.num_images asks for {wanted} images, but only {n} training images have "
                f"{'a label' if name is None else 'the label ' + name}, which is what is explained; choose "
                "at most that many"
            )


def _home(context: Context) -> torch.device:
    """Where images are wanted for a part that is shared out."""
    return context.inputs.device if context.config.scheduler is None else torch.device("cpu")


def _attribute(context: Context, model: nn.Module, selection: Selection) -> PartExplained:
    settings, training = context.config.explain, context.splits.train
    name = "segments/attribution.safetensors"
    options, chosen = _attribution_options(context), selection.indices
    inputs = fingerprint(
        "explain",
        weights_fingerprint(model),
        context.inputs.training_data,
        chosen.tolist(),
        *([selection.classes.tolist()] if context.splits.several_labels else []),
        {"baseline": settings.baseline, "target": settings.target} | attribution_settings(context),
    )

    def compute() -> PartExplained:
        with context.console.stage(f"Explaining them ({context.method.name})"):
            if settings.baseline == "black":
                baselines = torch.zeros(1, *context.splits.in_shape)
            else:
                baselines = training_baselines(context)
            rows = parts_of(len(chosen), options["batch_size"])
            several = context.splits.several_labels
            answered = settings.target == "predicted" and not several

            def give(n: int) -> tuple[int, Tensor, Tensor | None]:
                part = chosen[rows[n]]
                targets = None if answered else selection.classes[rows[n]]
                return rows[n].start, training.images(part), targets

            work = Work(
                "explain",
                inputs,
                [part.stop - part.start for part in rows],
                give,
                partial(
                    explaining,
                    model_to_share(context, model),
                    context.config.device,
                    baselines,
                    len(chosen),
                    options,
                    several,
                ),
                lambda part: artefacts.attribution_file(*part),
                artefacts.read_attribution,
            )
            placed: list[Tensor] = []
            for number, (phi, *classes) in shards(context, work):
                columns = (phi.values, phi.completeness_error, *classes)
                if not placed:  # one copy of Φ, whatever N
                    placed = [column.new_empty(len(chosen), *column.shape[1:]) for column in columns]
                for whole, column in zip(placed, columns, strict=True):
                    whole[rows[number]] = column
            values, errors, targets, predicted = placed
            return Attribution(values, errors, phi.method), targets, predicted

    def save(result: PartExplained) -> None:
        tensors: dict[str, Tensor | artefacts.InParts] = {
            "images": artefacts.InParts(
                (len(chosen), *result[0].values.shape[1:], 3), torch.uint8, _seen(training, chosen)
            ),
            "labels": selection.classes,
        }
        if training.spurious_masks(chosen[:1]) is not None:
            tensors["spurious"] = artefacts.InParts(
                (len(chosen), *result[0].values.shape[1:]), torch.bool, _spurious(training, chosen)
            )
        content = artefacts.tensors_pieces(
            tensors,
            ids=[training.ids[i] for i in chosen.tolist()],
            class_names=list(answer_names(context.splits)),
        )
        context.run.write(IMAGES, content)
        context.run.write(name, artefacts.attribution_pieces(*result))

    def load() -> PartExplained:
        artefacts.read_tensors(context.run.file(IMAGES))  # the report needs them
        return artefacts.read_attribution(context.run.file(name))

    result, _ = context.run.stage(
        "explain",
        inputs,
        compute,
        save,
        load,
        summarise=lambda r: {
            "method": r[0].method,
            "baseline": "black" if settings.baseline == "black" else f"{settings.baselines} training images",
            "largest_completeness_error": _largest(r[0]),
        },
        together=lambda read: context.run.group.broadcast_read(read),
    )
    forget_shards(context, "explain")
    return result


def _spurious(images: ImageSet, indices: Tensor) -> Iterator[Tensor]:
    """(≤ 256, H, W) bool after one another: the ground truth, where it is known."""
    for part in torch.split(indices, 256):
        truth = images.spurious_masks(part)
        assert truth is not None
        yield truth


def _largest(attribution: Attribution) -> float | None:
    """The largest completeness error; None where none is claimed."""
    largest = float(attribution.completeness_error.max())
    return None if math.isnan(largest) else largest
