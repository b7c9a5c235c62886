"""What a run works on: images, model, specifications; given, or loaded as a project file says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lvlm_va.config.schema import Config, ModelConfig
from lvlm_va.critique.specification import ClassSpecification, load_specifications, specification_template
from lvlm_va.data.sources import load
from lvlm_va.data.splits import Splits
from lvlm_va.errors import ConfigError, SpecificationError
from lvlm_va.models.adapter import Adapted, in_full_precision, unwrapped
from lvlm_va.models.checkpoint import load_checkpoint, load_pretrained
from lvlm_va.models.copying import copied
from lvlm_va.models.deciding import decide_head
from lvlm_va.models.factory import MODELS, make_model
from lvlm_va.models.head import Head
from lvlm_va.models.parts import check_parts
from lvlm_va.models.weights import find_imagenet
from lvlm_va.project.fingerprints import set_fingerprint
from lvlm_va.project.presets import preset_specifications
from lvlm_va.run.directory import fingerprint

__all__ = [
    "Given",
    "Inputs",
    "build_model",
    "choose_device",
    "given_inputs",
    "load_inputs",
    "load_model",
    "load_splits",
    "read_specifications",
]


@dataclass(frozen=True)
class Inputs:
    """What a run works on.

    Attributes:
        config: the settings.
        splits: the images.
        model: from (n, C, H, W) in [0, 1] to (n, K) logits; on its device.
        trained: False if the model is to be trained first.
        specifications: class name → V_k.
        initial_weights: where the weights came from before anything was trained here, in words.
    """

    config: Config
    splits: Splits
    model: nn.Module
    trained: bool
    specifications: Mapping[str, ClassSpecification]
    initial_weights: str = "given"

    @cached_property
    def training_data(self) -> str:
        """Fingerprint of the training set."""
        return set_fingerprint(self.splits.train)

    @cached_property
    def all_data(self) -> str:
        """Fingerprint of all parts."""
        validation, tests = self.splits.validation, self.splits.tests
        return fingerprint(
            self.training_data,
            None if validation is None else set_fingerprint(validation),
            {name: set_fingerprint(images) for name, images in tests.items()},
        )

    @property
    def head(self) -> str:
        """What the model's outputs are, in words."""
        return self.model.head.words(self.splits.class_names) if isinstance(self.model, Adapted) else ""

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))


@dataclass(frozen=True)
class Given:
    """The caller's own model and images.

    Attributes:
        model: as the caller has it.
        splits: the images.
        trained: False if the model is to be trained first.
        specifications: a file, or the same as a mapping; None where none are needed.
    """

    model: nn.Module
    splits: Splits
    trained: bool
    specifications: str | Path | Mapping[str, Any] | None

    def adapted(self, config: Config, device: torch.device) -> Adapted:
        """A copy of the model, from images in [0, 1] to logits, on its device."""
        mine = copied(unwrapped(self.model))  # a copy is not compiled
        check_parts(mine)
        module = in_full_precision(mine).to(device)
        return adapt(
            module,
            config.model,
            self.splits.in_shape,
            self.splits.class_names,
            several=self.splits.several_labels,
        )

    def read_specifications(self) -> dict[str, ClassSpecification]:
        """Class name → V_k; empty where none are given."""
        if self.specifications is None:
            return {}
        return load_specifications(self.specifications, self.splits.class_names)


def given_inputs(config: Config, given: Given, *, specified: bool = True) -> Inputs:
    """The caller's own model and images.

    Args:
        config: the settings.
        given: what the caller has; the model is copied.
        specified: False leaves the specifications out, for training alone.

    Raises:
        ConfigError, ModelError, SpecificationError: what is wrong, where, and what to do.
    """
    return Inputs(
        config=config,
        splits=given.splits,
        model=given.adapted(config, choose_device(config.device)),
        trained=given.trained,
        specifications=given.read_specifications() if specified else {},
    )


def load_inputs(
    config: Config, *, log: Callable[[str], None] = lambda _: None, specified: bool = True
) -> Inputs:
    """Read the data, build the model, read the specifications.

    Args:
        config: the settings.
        log: told where the data came from.
        specified: False leaves the specifications out, for training alone.

    Raises:
        ConfigError, DataError, ModelError, SpecificationError: what is wrong, where, and what to do.
    """
    device = choose_device(config.device)
    splits = load_splits(config, log=log)
    if splits.normalise is not None and config.model.normalise == "none":
        written = ", ".join(f"{key}: {list(values)}" for key, values in splits.normalise.items())
        raise ConfigError(
            "the data set's transform normalises its images, which is undone for what is shown; let the "
            f"model do it: model.normalise: {{{written}}}"
        )
    model, origin = build_model(config, splits, device, log=log)
    return Inputs(
        config=config,
        splits=splits,
        model=model,
        trained=config.model.weights is not None,
        specifications=read_specifications(config, splits.class_names) if specified else {},
        initial_weights=origin,
    )


def build_model(
    config: Config, splits: Splits, device: torch.device, *, log: Callable[[str], None] = lambda _: None
) -> tuple[Adapted, str]:
    """The model that `model` names, for these images and classes, on its device; and whence its weights.

    Raises:
        ConfigError, ModelError: what is wrong, where, and what to do.
    """
    model, origin = load_model(
        config.model, splits.in_shape, splits.class_names, several=splits.several_labels, log=log
    )
    return model.to(device), origin


def adapt(
    module: nn.Module,
    settings: ModelConfig,
    in_shape: tuple[int, int, int],
    classes: Sequence[str],
    *,
    several: bool = False,
) -> Adapted:
    """A module from images in [0, 1] to logits, as `model` describes its input and its outputs.

    Raises:
        ConfigError, ModelError: if its outputs do not fit the classes, or can be taken in several ways.
    """
    head = Head.named(settings.head, settings.outputs, classes, several=several)
    model = Adapted(module, settings.normalise, len(classes), head)
    decide_head(model, in_shape, said=settings.head != "auto")
    return model


def load_model(
    settings: ModelConfig,
    in_shape: tuple[int, int, int],
    classes: Sequence[str],
    *,
    several: bool = False,
    log: Callable[[str], None] = lambda _: None,
) -> tuple[Adapted, str]:
    """The model that `model` describes, and where its weights came from, in words.

    Args:
        settings: name, weights, pretrained, normalise, head, and the seed of what stays random.
        in_shape: (C, H, W) of the images.
        classes: the K class names.
        several: whether an image may have several labels, or none.
        log: told where weights came from, and loudly where ImageNet weights could not be had.

    Raises:
        ConfigError, ModelError: what is wrong, where, and what to do.
    """
    torch.manual_seed(settings.seed)
    # Refuses, before anything is made.
    Head.named(settings.head, settings.outputs, classes, several=several)
    module = in_full_precision(make_model(settings.name, in_shape, _num_outputs(settings, len(classes))))
    model = adapt(module, settings, in_shape, classes, several=several)
    if settings.weights is not None:
        load_checkpoint(model, settings.weights, note=log)
        return model, f"complete ({settings.weights.name})"
    path = settings.pretrained
    if path == "imagenet":
        path = find_imagenet(settings.name, log=log)
        if model.normalisation is None:
            log("ImageNet weights expect normalised images: set model.normalise to imagenet.")
    if isinstance(path, Path):
        sha256 = load_pretrained(model, path, note=log)
        what = settings.pretrained if settings.pretrained == "imagenet" else path.name
        return model, f"{what} (file sha256 {sha256})"
    if settings.pretrained is not None:
        log(
            f"NO IMAGENET WEIGHTS: {settings.name} is trained from random weights, and the results say so. "
            "Put the file where LVLM_VA_WEIGHTS says, or name it with model.pretrained."
        )
        return model, "random (imagenet was asked for but could not be had)"
    return model, "random" if settings.name in MODELS else "the factory's"


def _num_outputs(settings: ModelConfig, num_classes: int) -> int:
    """How many outputs a network that is made here must have."""
    outputs = settings.outputs
    if outputs is None:
        return 1 if settings.head == "single-logit" else num_classes
    # Of named ones all are named; of numbered ones there may be more.
    return len(outputs) if isinstance(outputs[0], str) else max(num_classes, *(int(o) + 1 for o in outputs))


def load_splits(config: Config, *, log: Callable[[str], None] = lambda _: None) -> Splits:
    """The images that `data` names.

    Raises:
        ConfigError, DataError: what is wrong with them, where, and what to do.
    """
    return load(config.data, log)


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" is a GPU where there is one.

    Raises:
        ConfigError: if there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        if reason.startswith("Expected one of"):  # two dozen kinds, of which a user can have three
            reason = "known are auto, cpu, cuda, cuda:<number>, mps"
        raise ConfigError(f"device {name!r} cannot be used here ({reason}); try auto or cpu") from None
    return device


def read_specifications(config: Config, class_names: Sequence[str]) -> dict[str, ClassSpecification]:
    """The file that `specifications` names, or the one that comes with an experiment of the paper.

    Raises:
        SpecificationError: if it cannot be used, or there is none; then with a template to fill in.
    """
    if config.specifications is not None:
        return load_specifications(config.specifications, class_names)
    packaged = preset_specifications(config.data.name)
    if packaged is None:
        raise SpecificationError(
            "specifications: name a file with one paragraph per class, for example\n\n"
            + specification_template(class_names)
        )
    return load_specifications(packaged, class_names)
