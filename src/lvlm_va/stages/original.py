"""The classifier before alignment: given, or trained here."""

import copy

import torch
from torch import nn

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
    first = project.splits.train.images(torch.arange(min(8, len(project.splits.train))))
    # Before it is trained for nothing, and again after: training may have led to NaN.
    check_outputs(model, first.to(project.device), len(project.splits.class_names))

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

    inputs = ["train", weights_fingerprint(model), project.training_data]
    if not project.trained:
        inputs.append(settings.model_dump_json(exclude={"weights", "pretrained", "normalise", "name"}))
    trained, _ = context.run.stage(
        "train",
        fingerprint(*inputs),
        compute,
        save=lambda m: save_checkpoint(m, path),
        load=lambda: read_model(model, path),
        summarise=lambda _: {"model": settings.name, "trained_here": not project.trained},
    )
    check_outputs(trained, first.to(project.device), len(project.splits.class_names))
    return trained
