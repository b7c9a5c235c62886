"""Weights to and from files, and whether a model fits its task: no file is ever executed."""

import pickle
import warnings
import zipfile
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from lvlm_va.data.cache import write_atomically
from lvlm_va.errors import ModelError

__all__ = ["check_outputs", "load_checkpoint", "save_checkpoint"]

_SHOWN = 3  # names in a message; a wrong architecture disagrees in hundreds


def save_checkpoint(module: nn.Module, path: Path) -> None:
    """Write a module's parameters and buffers as safetensors, whole or not at all.

    Raises:
        ModelError: if the file cannot be written; an older file of that name is then still there.
    """
    # Tied weights are written once per name: safetensors refuses tensors that share memory.
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in module.state_dict().items()}
    try:
        write_atomically(path, safetensors.torch.save(state))
    except OSError as error:
        raise ModelError(f"{path}: the checkpoint could not be written ({error.strerror})") from error


def load_checkpoint(module: nn.Module, path: Path) -> None:
    """Fill a module, in place, from safetensors or from a `state_dict` saved with `torch.save`.

    All names and shapes must agree; otherwise nothing is changed.

    Raises:
        ModelError: if the file is missing, damaged, holds more than tensors, or is of another architecture.
    """
    state = _read(path)
    own = module.state_dict()
    shapes = [
        f"{name} is {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    disagreements = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "of another shape": shapes,
    }
    if any(disagreements.values()):
        listed = "; ".join(
            f"{len(names)} {kind}: {_few(names)}" for kind, names in disagreements.items() if names
        )
        raise ModelError(
            f"{path} does not fit {type(module).__name__} ({len(own)} tensors): {listed}. "
            "Is it a checkpoint of this architecture and number of classes?"
        )
    module.load_state_dict(state)


def check_outputs(model: nn.Module, images: Tensor, num_classes: int) -> None:
    """Refuse a model whose outputs cannot be K logits per picture.

    Args:
        model: left in the mode it is in; run in evaluation mode without gradients.
        images: (n, C, H, W) float32, a few pictures.
        num_classes: K.

    Raises:
        ModelError: if the model fails on the pictures, or its outputs are not (n, K) finite numbers.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            outputs = model(images)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"the model fails on pictures of shape {tuple(images.shape)}: {reason}") from error
    finally:
        model.train(training)
    expected = (len(images), num_classes)
    if not isinstance(outputs, Tensor) or outputs.shape != expected:
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
        raise ModelError(
            f"the model must return one logit per class, {expected} for {len(images)} pictures and "
            f"{num_classes} classes, but returns {got}"
        )
    if bad := int((~outputs.isfinite()).any(dim=1).sum()):
        raise ModelError(
            f"the model's outputs are NaN or infinite for {bad} of {len(images)} pictures; "
            "the weights are damaged or training diverged"
        )


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(f"{path}: no such checkpoint")
    try:
        with path.open("rb") as file:
            pickled = file.read(1) == b"\x80" or zipfile.is_zipfile(path)
        if not pickled:
            return dict(safetensors.torch.load_file(path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's advice to those who write such files
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ModelError(
            f"{path}: neither safetensors nor a torch checkpoint, or cut off ({error})"
        ) from error
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: damaged, or holds Python objects beside tensors, which are not loaded since they could "
            "run code; save model.state_dict() alone"
        ) from error
    except Exception as error:  # torch's reader meets damage anywhere and raises anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path}: the checkpoint cannot be read ({reason})") from error
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        keys = f" with the entries {_few([str(key) for key in loaded])}" if isinstance(loaded, dict) else ""
        raise ModelError(
            f"{path}: a {type(loaded).__name__}{keys} instead of names and tensors; "
            "save model.state_dict() alone"
        )
    return {str(name): tensor for name, tensor in loaded.items()}


def _few(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
