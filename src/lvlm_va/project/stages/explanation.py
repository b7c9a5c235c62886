"""Select N images, explain them, segment what speaks for the prediction (Sec. 4.1)."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lvlm_va.explain.attribution import Attribution, attribute
from lvlm_va.explain.sampling import Selection
from lvlm_va.models.likelihood import Likelihood
from lvlm_va.models.predict import logits_of_images
from lvlm_va.project.fingerprints import weights_fingerprint
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.explained import (
    Explained,
    ShownImages,
    answer_names,
    seen_in_parts,
    spurious_in_parts,
)
from lvlm_va.project.stages.explaining import PartExplained, explaining
from lvlm_va.project.stages.segmentation import segment
from lvlm_va.project.stages.selection import select_images
from lvlm_va.project.stages.shards import Work, forget_shards, model_to_share, parts_of, shards
from lvlm_va.run import artefacts
from lvlm_va.run.directory import fingerprint
from lvlm_va.run.files import IMAGES

__all__ = [
    "attribution_settings",
    "explain",
    "explain_classes",
    "predicted_classes",
    "select_and_attribute",
    "training_baselines",
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
    selection = select_images(context, model)
    return selection, *_attribute(context, model, selection)


def training_baselines(context: Context) -> Tensor:
    """(B, C, H, W): random training images to compare with."""
    settings, images = context.config.explain, context.splits.train
    generator = torch.Generator().manual_seed(settings.seed)
    return images.images(torch.randperm(len(images), generator=generator)[: settings.baselines])


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
    return Likelihood.answers(logits_of_images(model, images, note=context.console.note), explained)


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
                (len(chosen), *result[0].values.shape[1:], 3), torch.uint8, seen_in_parts(training, chosen)
            ),
            "labels": selection.classes,
        }
        if training.spurious_masks(chosen[:1]) is not None:
            tensors["spurious"] = artefacts.InParts(
                (len(chosen), *result[0].values.shape[1:]), torch.bool, spurious_in_parts(training, chosen)
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


def _largest(attribution: Attribution) -> float | None:
    """The largest completeness error; None where none is claimed."""
    largest = float(attribution.completeness_error.max())
    return None if math.isnan(largest) else largest
