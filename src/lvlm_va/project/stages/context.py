"""What every stage works with."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from lvlm_va.config.loading import Config
from lvlm_va.console import QuietConsole
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.data.imageset import ImageSet
from lvlm_va.data.splits import Splits
from lvlm_va.errors import ModelError
from lvlm_va.models.adapter import Adapted, unwrapped
from lvlm_va.models.checkpoint import load_checkpoint
from lvlm_va.run.directory import RunDirectory, fingerprint

__all__ = [
    "Context",
    "Project",
    "read_model",
    "set_fingerprint",
    "tensor_fingerprint",
    "weights_fingerprint",
]


@dataclass(frozen=True)
class Project:
    """What a run works on.

    Attributes:
        config: the settings.
        splits: the pictures.
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
            {name: set_fingerprint(pictures) for name, pictures in tests.items()},
        )

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))


@dataclass(frozen=True)
class Context:
    """A project, the directory of its run, and who is told about progress."""

    project: Project
    run: RunDirectory
    console: QuietConsole

    @property
    def config(self) -> Config:
        """The settings."""
        return self.project.config

    @property
    def splits(self) -> Splits:
        """The pictures."""
        return self.project.splits


def tensor_fingerprint(tensor: Tensor) -> str:
    """24 hexadecimal digits that change with any element."""
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().tobytes()).hexdigest()[:24]


def set_fingerprint(pictures: ImageSet) -> str:
    """24 hexadecimal digits of ids, labels, class names and up to 64 pictures with their ground truth.

    What another data set or another preparation of it would change, without reading every picture.
    """
    sample = torch.linspace(0, len(pictures) - 1, min(64, len(pictures))).long()
    truth = pictures.spurious_masks(sample)
    # A set that knows its whole content (an attribute `content`, which no set needs to have) tells it too.
    content = getattr(pictures, "content", None)
    return fingerprint(
        *([] if content is None else [content]),
        list(pictures.ids),
        list(pictures.class_names),
        tensor_fingerprint(pictures.labels),
        tensor_fingerprint(pictures.images(sample)),
        None if truth is None else tensor_fingerprint(truth),
    )


def weights_fingerprint(model: nn.Module) -> str:
    """24 hexadecimal digits that change with any parameter or buffer, its name, or the normalisation."""
    digest = hashlib.sha256()
    for name, tensor in unwrapped(model).state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    if isinstance(model, Adapted) and model.normalisation is not None:
        digest.update(json.dumps(model.normalisation).encode())
    return digest.hexdigest()[:24]


def read_model(model: nn.Module, path: Path) -> nn.Module:
    """Fill `model` from a checkpoint of the run and set it to evaluation mode.

    Raises:
        ValueError: if there is none, or it is damaged.
    """
    try:
        load_checkpoint(model, path)
    except ModelError as error:
        raise ValueError(str(error)) from None
    return model.eval()
