"""The classifier before alignment: given, or trained here; and how good it is."""

from typing import Any

from torch import nn

from lvlm_va.data.imageset import ImageSet, groups_of
from lvlm_va.evaluate.groups import group_accuracy
from lvlm_va.models.checkpoint import save_checkpoint
from lvlm_va.models.copying import copied
from lvlm_va.models.predict import accuracy, logits
from lvlm_va.project.stages.context import Context, read_model, weights_fingerprint
from lvlm_va.project.stages.trial import try_model
from lvlm_va.run.directory import fingerprint
from lvlm_va.training.process_group import Crew
from lvlm_va.training.resumption import Resumption
from lvlm_va.training.train import Trained, train

__all__ = ["ORIGINAL_WEIGHTS", "original_accuracy", "original_model"]

ORIGINAL_WEIGHTS = "model.safetensors"
UNFINISHED = "training.unfinished.pt"

_RECIPE = (
    "epochs",
    "batch",
    "learning_rate",
    "optimizer",
    "weight_decay",
    "precision",
    "flip",
    "patience",
    "seed",
)


def original_model(context: Context, *, to_align: bool = False) -> nn.Module:
    """The model to be aligned, in evaluation mode; also written to model.safetensors.

    Args:
        context: of the run.
        to_align: whether it will be aligned, which is then tried too.

    Raises:
        ModelError: if it cannot be used for what will be done with it, or training diverges.
    """
    project, settings = context.project, context.config.model
    path = context.run.file(ORIGINAL_WEIGHTS)
    # Before it is trained for nothing, and again after: training may have led to NaN.
    training, config = project.splits.train, context.config
    try_model(project.model, training, config, to_train=not project.trained, to_align=to_align)
    # The caller's module stays as it was, whether it is trained here or not.
    model = copied(project.model)

    inputs = ["train", weights_fingerprint(model), project.training_data]
    if not project.trained:
        inputs.append(settings.model_dump_json(exclude={"weights", "pretrained", "normalise", "name"}))
        if settings.patience is not None:
            inputs.append(project.all_data)
    resumption = Resumption(context.run.file(UNFINISHED), fingerprint(*inputs))
    went: Trained | None = None

    def compute() -> nn.Module:
        nonlocal went
        if not project.trained:
            arguments = {key: getattr(settings, key) for key in _RECIPE}
            Crew.here().agree(("train", arguments))
            with context.console.stage(f"Training {settings.name} for {settings.epochs} epochs"):
                went = train(
                    model,
                    project.splits.train,
                    validation=project.splits.validation,
                    **arguments,
                    resumption=resumption,
                    progress=context.console.progress,
                    note=context.console.note,
                )
        return model.eval()

    trained, _ = context.run.stage(
        "train",
        resumption.inputs,
        compute,
        save=lambda m: save_checkpoint(m, path),
        load=lambda: read_model(model, path),
        summarise=lambda _: (
            {"model": settings.name, "trained_here": not project.trained}
            | ({} if went is None else went.to_dict())
        ),
    )
    resumption.remove()
    if not project.trained:
        try_model(trained, training, config, to_train=False, to_align=to_align)
    return trained


def original_accuracy(context: Context, model: nn.Module) -> dict[str, dict[str, Any]]:
    """How often the original model is right.

    Returns:
        "validation" and the name of each test set → {"pictures", "accuracy", "groups"}: how many, the plain
        average over them, and a `GroupAccuracy` as a mapping, or None where groups are not known.
    """
    splits, stage = context.splits, "train: accuracy"
    parts = {} if splits.validation is None else {"validation": splits.validation}
    parts |= splits.tests

    def compute() -> dict[str, dict[str, Any]]:
        with context.console.stage("Measuring accuracy"):
            return {name: _measured(model, pictures) for name, pictures in parts.items()}

    result, _ = context.run.stage(
        stage,
        fingerprint("accuracy", weights_fingerprint(model), context.project.all_data),
        compute,
        save=lambda _: None,
        load=lambda: dict(context.run.stages[stage].summary),
        summarise=lambda measured: measured,
    )
    return result


def _measured(model: nn.Module, pictures: ImageSet) -> dict[str, Any]:
    outputs, groups = logits(model, pictures), groups_of(pictures)
    return {
        "pictures": len(pictures),
        "accuracy": accuracy(outputs, pictures.labels),
        "groups": None if groups is None else group_accuracy(outputs, pictures.labels, groups).to_dict(),
    }
