"""The classifier before alignment: given, or trained here."""

import copy
import hashlib
from typing import Any

import torch
from torch import nn

from lvlm_va.data.imageset import ImageSet
from lvlm_va.data.splits import Splits
from lvlm_va.models.checkpoint import check_outputs, save_checkpoint
from lvlm_va.models.training import train
from lvlm_va.run import fingerprint
from lvlm_va.stages.context import Context, read_model, weights_fingerprint

__all__ = ["original_model"]


def original_model(context: Context) -> nn.Module:
    """The model to be aligned, in evaluation mode; also written to model.safetensors.

    Raises:
        ModelError: if its outputs do not fit the classes, or training diverges.
    """
    project, settings = context.project, context.config.model
    # The caller's module stays as it was, whether it is trained here or not.
    model = copy.deepcopy(project.model)
    path = context.run.file("model.safetensors")

    def compute() -> nn.Module:
        if not project.trained:
            with context.console.stage(f"Training {settings.name} for {settings.epochs} epochs"):
                train(
                    model,
                    project.splits.train,
                    epochs=settings.epochs,
                    batch=settings.batch,
                    learning_rate=settings.learning_rate,
                    seed=settings.seed,
                    progress=context.console.progress,
                )
        return model.eval()

    inputs = ["train", weights_fingerprint(model), data_fingerprint(project.splits)]
    if not project.trained:
        inputs.append(settings.model_dump_json(exclude={"weights", "name"}))
    trained, _ = context.run.stage(
        "train",
        fingerprint(*inputs),
        compute,
        save=lambda m: save_checkpoint(m, path),
        load=lambda: read_model(model, path),
        summarise=lambda _: {"model": settings.name, "trained_here": not project.trained},
    )
    first = torch.arange(min(8, len(project.splits.train)))
    check_outputs(
        trained, project.splits.train.images(first).to(project.device), len(project.splits.class_names)
    )
    return trained


def data_fingerprint(splits: Splits) -> str:
    """Of the ids, the labels and a sample of the pixels of every part: what other data would change."""
    parts: list[Any] = [splits.name]
    sets: dict[str, ImageSet | None] = {
        "train": splits.train,
        "validation": splits.validation,
        **splits.tests,
    }
    for name, pictures in sets.items():
        if pictures is not None:
            sample = torch.linspace(0, len(pictures) - 1, min(64, len(pictures))).long()
            digest = hashlib.sha256("\n".join(pictures.ids).encode())
            digest.update(pictures.labels.numpy().tobytes())
            digest.update(pictures.images(sample).numpy().tobytes())
            parts += [name, digest.hexdigest()]
    return fingerprint(*parts)
