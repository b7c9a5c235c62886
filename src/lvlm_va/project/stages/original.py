"""The classifier before alignment: given, or trained here; and how good it is."""

from torch import nn

from lvlm_va.data.imageset import ImageSet, groups_of
from lvlm_va.errors import ModelError
from lvlm_va.evaluate.accuracy import accuracy
from lvlm_va.evaluate.groups import group_accuracy
from lvlm_va.models.adapter import adapted
from lvlm_va.models.checkpoint import load_checkpoint, save_checkpoint
from lvlm_va.models.copying import copied
from lvlm_va.models.predict import logits
from lvlm_va.project.fingerprints import weights_fingerprint
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.trial import try_model
from lvlm_va.run.directory import RunDirectory, fingerprint
from lvlm_va.run.files import ORIGINAL_WEIGHTS
from lvlm_va.run.metrics import GroupMetrics, PartMetrics
from lvlm_va.training.process_group import ProcessGroup
from lvlm_va.training.resumption import Resumption
from lvlm_va.training.train import Trained, train

__all__ = ["original_accuracy", "original_model", "read_model", "save_model"]

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
    given, settings = context.inputs, context.config.model
    head = adapted(given.model).head
    if not head.plain or head.position is not None:  # of several labels, too
        context.console.note(f"Outputs of the model: {given.head}.")
    # Before it is trained for nothing, and again after: training may have led to NaN.
    _try(context, given.model, to_train=not given.trained, to_align=to_align)
    # The caller's module stays as it was, whether it is trained here or not.
    model = copied(given.model)

    inputs = ["train", weights_fingerprint(model), given.training_data]
    if not given.trained:
        inputs.append(
            settings.model_dump_json(
                exclude={"weights", "pretrained", "normalise", "name", "head", "outputs"}
            )
        )
        if settings.patience is not None:
            inputs.append(given.all_data)
    resumption = Resumption(context.run.file(UNFINISHED), fingerprint(*inputs))
    went: Trained | None = None

    def compute() -> nn.Module:
        nonlocal went
        if not given.trained:
            with context.console.stage(f"Training {settings.name} for {settings.epochs} epochs"):
                went = train(
                    model,
                    given.splits.train,
                    validation=given.splits.validation,
                    **{key: getattr(settings, key) for key in _RECIPE},
                    resumption=resumption,
                    progress=context.console.progress,
                    note=context.console.note,
                )
        return model.eval()

    def together(read: nn.Module | None) -> nn.Module:
        found = model if read is None else read
        ProcessGroup.here().broadcast_weights(found)
        return found.eval()

    trained, _ = context.run.stage(
        "train",
        resumption.inputs,
        compute,
        save=lambda m: save_model(context.run, ORIGINAL_WEIGHTS, m),
        load=lambda: read_model(context.run, ORIGINAL_WEIGHTS, model),
        summarise=lambda _: (
            {"model": settings.name, "trained_here": not given.trained}
            | ({} if went is None else went.to_dict())
        ),
        together=together,
    )
    if ProcessGroup.here().is_main:
        resumption.remove()
    if not given.trained:
        _try(context, trained, to_train=False, to_align=to_align)
    return trained


def _try(context: Context, model: nn.Module, *, to_train: bool, to_align: bool) -> None:
    """What `try_model` tries, once for the same model and settings."""
    config, training = context.config, context.inputs.splits.train
    context.run.stage(
        f"trial: {'before' if to_train else 'after'} training",
        fingerprint(
            weights_fingerprint(model),
            context.inputs.training_data,
            config.model_dump_json(include={"model", "explain", "align"}),
            to_train,
            to_align,
        ),
        lambda: try_model(model, training, config, to_train=to_train, to_align=to_align),
        save=lambda _: None,
        load=lambda: None,
    )


def original_accuracy(context: Context, model: nn.Module) -> dict[str, PartMetrics]:
    """How often the original model is right: "validation" and the name of each test set → its accuracy."""
    splits, stage = context.splits, "train: accuracy"
    parts = {} if splits.validation is None else {"validation": splits.validation}
    parts |= splits.tests

    def compute() -> dict[str, PartMetrics]:
        with context.console.stage("Measuring accuracy"):
            return {name: _measured(model, images) for name, images in parts.items()}

    result, _ = context.run.stage(
        stage,
        fingerprint("accuracy", weights_fingerprint(model), context.inputs.all_data),
        compute,
        save=lambda _: None,
        load=lambda: {
            name: PartMetrics.model_validate(part) for name, part in context.run.stages[stage].summary.items()
        },
        summarise=lambda measured: {name: part.model_dump(mode="json") for name, part in measured.items()},
    )
    return result


def _measured(model: nn.Module, images: ImageSet) -> PartMetrics:
    outputs, groups = logits(model, images), groups_of(images)
    return PartMetrics(
        images=len(images),
        accuracy=accuracy(outputs, images.labels),
        groups=None
        if groups is None or not len(images)
        else GroupMetrics.model_validate(group_accuracy(outputs, images.labels, groups)),
    )


def save_model(run: RunDirectory, file: str, model: nn.Module) -> None:
    """Keep a model's weights in a file of the run."""
    save_checkpoint(model, run.file(file))
    run.seal(file)


def read_model(run: RunDirectory, file: str, model: nn.Module) -> nn.Module:
    """Fill `model` from what `save_model` kept and set it to evaluation mode.

    Raises:
        ValueError: if there is no such file, or it is damaged: then it is made anew.
        RunError: if it holds other weights than the run's.
    """
    try:
        load_checkpoint(model, run.file(file))
    except ModelError as error:
        raise ValueError(str(error)) from None
    run.check_sealed(file)
    return model.eval()
