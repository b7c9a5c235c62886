"""What every stage works with."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lvlm_va.config import Config
from lvlm_va.console import QuietConsole
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.data.splits import Splits
from lvlm_va.models.checkpoint import load_checkpoint
from lvlm_va.run import RunDirectory

__all__ = ["Context", "Project", "read_model", "tensor_fingerprint", "weights_fingerprint"]


@dataclass(frozen=True)
class Project:
    """What a run works on.

    Attributes:
        config: the settings.
        splits: the pictures.
        model: from (n, C, H, W) in [0, 1] to (n, K) logits; on its device.
        trained: False if the model is to be trained first.
        specifications: class name → V_k.
    """

    config: Config
    splits: Splits
    model: nn.Module
    trained: bool
    specifications: Mapping[str, ClassSpecification]

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


def weights_fingerprint(model: nn.Module) -> str:
    """24 hexadecimal digits that change with any parameter or buffer, or its name."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:24]


def read_model(model: nn.Module, path: Path) -> nn.Module:
    """Fill `model` from a checkpoint of the run and set it to evaluation mode.

    Raises:
        FileNotFoundError: if there is none.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    load_checkpoint(model, path)
    return model.eval()
