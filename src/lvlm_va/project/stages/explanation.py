"""Select N images, explain them, segment what speaks for the prediction (Sec. 4.1)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.verdict import Verdict
from lvlm_va.data.imageset import images_on, shown_images
from lvlm_va.data.splits import Splits
from lvlm_va.errors import DataError
from lvlm_va.explain.attribution import Attribution, attribute
from lvlm_va.explain.parts import with_parts
from lvlm_va.explain.sampling import Selection, describe, predictive_entropy, select
from lvlm_va.explain.segmentation import Segmentation
from lvlm_va.models.compute import full_float32
from lvlm_va.models.memory import in_parts
from lvlm_va.project.fingerprints import weights_fingerprint
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.explaining import PartExplained, explaining, scoring
from lvlm_va.project.stages.segmentation import segment
from lvlm_va.project.stages.shards import Work, forget_shards, in_shards, model_to_share, parts_of
from lvlm_va.run import artefacts
from lvlm_va.run.directory import fingerprint
from lvlm_va.run.files import IMAGES

__all__ = [
    "Explained",
    "attribution_settings",
    "explain",
    "explain_classes",
    "predicted_classes",
    "select_and_attribute",
    "to_uint8_rgb",
    "training_baselines",
]


_SCORED = 512  # training images of one part


@dataclass(frozen=True, eq=False)
class Explained:
    """N critiqued images, explained and segmented.

    Attributes:
        ids: N names.
        selection: which, and how sure the model is of them.
        attribution: Φ(x, y, f).
        targets: (N,) int64, y, the classes that it explains.
        predicted: (N,) int64.
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
        names, labels = splits.class_names, splits.train.labels[indices].tolist()
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


def predicted_classes(context: Context, model: nn.Module, images: Tensor) -> Tensor:
    """(n,) int64 of (n, C, H, W) images."""
    device = context.inputs.device

    def predicted(rows: slice) -> Tensor:
        outputs: Tensor = model(images[rows].to(device))
        return outputs.argmax(1).cpu()

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
    classes = len(context.splits.class_names)

    def described(indices: Tensor, chosen_entropy: Tensor) -> Selection:
        entropy = torch.zeros(len(images), dtype=torch.float64)
        entropy[indices] = chosen_entropy
        truth, carries = images.spurious_masks(indices), None
        if truth is not None:
            carries = torch.zeros(len(images), dtype=torch.bool)
            carries[indices] = truth.flatten(1).any(1)
        return describe(
            indices,
            entropy,
            images.labels,
            strategy=settings.sampling,
            num_classes=classes,
            spurious=carries,
        )

    def compute() -> Selection:
        with context.console.stage(f"Selecting {settings.num_images} images ({settings.sampling})"):
            entropy = predictive_entropy(torch.cat(in_shards(context, scores)))
            indices = select(
                entropy,
                images.labels,
                settings.num_images,
                strategy=settings.sampling,
                num_classes=classes,
                seed=settings.seed,
            )
            return described(indices, entropy[indices])

    def load() -> Selection:
        indices, entropy = artefacts.read_selection(path)
        if [i for i in indices.tolist() if not 0 <= i < len(images)] or len(indices) != settings.num_images:
            raise ValueError(f"{path}: is not the selection that was written there")
        return described(indices, entropy)

    if settings.num_images > len(images):
        raise DataError(
            f"explain.num_images asks for {settings.num_images} images, but the training set has "
            f"{len(images)}; choose at most that many"
        )
    weights, home = weights_fingerprint(model), _home(context)
    rows = parts_of(len(images), _SCORED)
    scores = Work(
        "select",
        fingerprint("score", weights, context.inputs.training_data),
        [part.stop - part.start for part in rows],
        lambda n: (images_on(images, torch.arange(rows[n].start, rows[n].stop), home),),
        partial(scoring, model_to_share(context, model), context.config.device),
        lambda scored: artefacts.tensors_file({"logits": scored}),
        lambda path: artefacts.read_tensors(path)[0]["logits"],
    )
    selection, _ = context.run.stage(
        "select",
        fingerprint(
            "select",
            weights,
            context.inputs.training_data,
            settings.model_dump(include={"num_images", "sampling", "seed"}),
        ),
        compute,
        save=lambda s: context.run.write(
            "selection.csv", artefacts.selection_file(s, images.ids, images.labels)
        ),
        load=load,
        summarise=lambda s: {
            "images": len(s.indices),
            "strategy": s.strategy,
            "per_class": list(s.class_counts),
            "spurious_share": s.spurious_share,
        },
        together=context.run.group.broadcast_read,
    )
    forget_shards(context, "select")
    return selection


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
        {"baseline": settings.baseline, "target": settings.target} | attribution_settings(context),
    )

    def compute() -> PartExplained:
        with context.console.stage(f"Explaining them ({context.method.name})"):
            if settings.baseline == "black":
                baselines = torch.zeros(1, *context.splits.in_shape)
            else:
                baselines = training_baselines(context)
            rows = parts_of(len(chosen), options["batch_size"])

            def give(n: int) -> tuple[int, Tensor, Tensor | None]:
                part = chosen[rows[n]]
                targets = training.labels[part] if settings.target == "label" else None
                return rows[n].start, training.images(part), targets

            parts = in_shards(
                context,
                Work(
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
                    ),
                    lambda part: artefacts.attribution_file(*part),
                    artefacts.read_attribution,
                ),
            )
            attributions, *classes = zip(*parts, strict=True)
            values, errors = (
                torch.cat([getattr(a, field) for a in attributions])
                for field in ("values", "completeness_error")
            )
            targets, predicted = (torch.cat(part) for part in classes)
            return Attribution(values, errors, attributions[0].method), targets, predicted

    def save(result: PartExplained) -> None:
        tensors = {
            "images": torch.stack(
                [to_uint8_rgb(image) for image in shown_images(training, selection.indices)]
            ),
            "labels": training.labels[selection.indices],
        }
        truth = training.spurious_masks(selection.indices)
        if truth is not None:
            tensors["spurious"] = truth
        content = artefacts.tensors_file(
            tensors,
            ids=[training.ids[i] for i in selection.indices.tolist()],
            class_names=list(context.splits.class_names),
        )
        context.run.write(IMAGES, content)
        context.run.write(name, artefacts.attribution_file(*result))

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
        together=context.run.group.broadcast_read,
    )
    forget_shards(context, "explain")
    return result


def _largest(attribution: Attribution) -> float | None:
    """The largest completeness error; None where none is claimed."""
    largest = float(attribution.completeness_error.max())
    return None if math.isnan(largest) else largest
