"""Select N images, explain them, segment what speaks for the prediction (Sec. 4.1)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lvlm_va.config.schema import ExplainConfig
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.verdict import Verdict
from lvlm_va.data.imageset import shown_images
from lvlm_va.data.labels import label_answers
from lvlm_va.data.splits import Splits
from lvlm_va.errors import ConfigError, DataError
from lvlm_va.explain.attribution import Attribution, attribute
from lvlm_va.explain.parts import with_parts
from lvlm_va.explain.sampling import Selection, describe, predictive_entropy, select
from lvlm_va.explain.segmentation import Segmentation
from lvlm_va.io.hints import did_you_mean
from lvlm_va.models.compute import full_float32
from lvlm_va.models.likelihood import Likelihood
from lvlm_va.models.memory import in_parts
from lvlm_va.models.predict import logits
from lvlm_va.project.fingerprints import weights_fingerprint
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.segmentation import segment
from lvlm_va.run import artefacts
from lvlm_va.run.directory import fingerprint
from lvlm_va.run.files import IMAGES

__all__ = [
    "Explained",
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
class Explained:
    """N critiqued images, explained and segmented.

    Attributes:
        ids: N names.
        selection: which, and how sure the model is of them.
        attribution: Φ(x, y, f).
        targets: (N,) int64, y, the classes that it explains.
        predicted: (N,) int64; of several labels what is said of the one explained, see `label_answers`.
        segmentation: C and its components.
    """

    ids: Sequence[str]
    selection: Selection
    attribution: Attribution
    targets: Tensor
    predicted: Tensor
    segmentation: Segmentation

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
        images, truth = shown_images(splits.train, indices), splits.train.spurious_masks(indices)
        names, labels = answer_names(splits), self.selection.classes.tolist()
        return [
            ExplainedImage(
                image_id=self.ids[n],
                image=to_uint8_rgb(images[n]).numpy(),
                segments=self.segmentation.labels[n].numpy().astype(np.int16),
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

    def images() -> Tensor:
        seen = shown_images(context.splits.train, selection.indices)
        return torch.stack([to_uint8_rgb(image) for image in seen])

    segmentation = segment(context, images, attribution.values)
    ids = [context.splits.train.ids[i] for i in selection.indices.tolist()]
    return Explained(ids, selection, attribution, targets, predicted, segmentation)


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
    settings, device = context.config.explain, context.inputs.device
    return attribute(
        model,
        images,
        classes,
        baselines,
        method=context.method,
        tolerance=settings.tolerance,
        steps=settings.steps,
        # Larger batches save most of the overhead; they cost little memory where images are small, and a
        # GPU's (5 GB for ResNet-50 at 224²) are halved where it does not suffice.
        batch_size=100 if images[0].numel() < 10_000 or device.type == "cuda" else 10,
        seed=settings.seed,
        progress=context.console.progress,
        note=context.console.note,
    )


def attribution_settings(context: Context) -> dict[str, Any]:
    """What Φ depends on, but for the model, the images and `explain.baseline`."""
    method = context.method
    steps = {"steps"} if method.takes_steps else set()
    read = context.config.explain.model_dump(include={"baselines", "tolerance", "seed"} | steps)
    version = {} if method.version is None else {"version": method.version}
    return {"attribution": method.name} | read | version


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
            outputs = logits(model, images, note=context.console.note)
            classes = Likelihood.explained(outputs, images.labels, only) if several else images.labels
            # Of several labels, how sure the model is of the one that was asked for, else of all.
            asked = outputs if only is None else outputs[:, only, None]
            entropy = predictive_entropy(asked, several=several)
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

    check_selection(settings, context.splits)
    selection, _ = context.run.stage(
        "select",
        fingerprint(
            "select",
            weights_fingerprint(model),
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
    )
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


def _attribute(
    context: Context, model: nn.Module, selection: Selection
) -> tuple[Attribution, Tensor, Tensor]:
    settings, training = context.config.explain, context.splits.train
    name = "segments/attribution.safetensors"

    def compute() -> tuple[Attribution, Tensor, Tensor]:
        with context.console.stage(f"Explaining them ({context.method.name})"):
            images = training.images(selection.indices)
            if settings.baseline == "black":
                baselines = torch.zeros_like(images[:1])
            else:
                baselines = training_baselines(context)
            explained = selection.classes if context.splits.several_labels else None
            predicted = predicted_classes(context, model, images, explained)
            answered = settings.target == "predicted" and explained is None
            targets = predicted if answered else selection.classes
            return explain_classes(context, model, images, targets, baselines), targets, predicted

    def save(result: tuple[Attribution, Tensor, Tensor]) -> None:
        tensors = {
            "images": torch.stack(
                [to_uint8_rgb(image) for image in shown_images(training, selection.indices)]
            ),
            "labels": selection.classes,
        }
        truth = training.spurious_masks(selection.indices)
        if truth is not None:
            tensors["spurious"] = truth
        content = artefacts.tensors_file(
            tensors,
            ids=[training.ids[i] for i in selection.indices.tolist()],
            class_names=list(answer_names(context.splits)),
        )
        context.run.write(IMAGES, content)
        context.run.write(name, artefacts.attribution_file(*result))

    def load() -> tuple[Attribution, Tensor, Tensor]:
        artefacts.read_tensors(context.run.file(IMAGES))  # the report needs them
        return artefacts.read_attribution(context.run.file(name))

    result, _ = context.run.stage(
        "explain",
        fingerprint(
            "explain",
            weights_fingerprint(model),
            context.inputs.training_data,
            selection.indices.tolist(),
            *([selection.classes.tolist()] if context.splits.several_labels else []),
            {"baseline": settings.baseline, "target": settings.target} | attribution_settings(context),
        ),
        compute,
        save,
        load,
        summarise=lambda r: {
            "method": r[0].method,
            "baseline": "black" if settings.baseline == "black" else f"{settings.baselines} training images",
            "largest_completeness_error": _largest(r[0]),
        },
    )
    return result


def _largest(attribution: Attribution) -> float | None:
    """The largest completeness error; None where none is claimed."""
    largest = float(attribution.completeness_error.max())
    return None if math.isnan(largest) else largest
