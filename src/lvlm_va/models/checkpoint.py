"""Weights to and from files, and whether a model fits its task: no file is ever executed."""

import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from lvlm_va.errors import LvlmVaError, ModelError
from lvlm_va.io.files import file_sha256, write_atomically
from lvlm_va.models.adapter import Adapted, ForwardFailed, unwrapped
from lvlm_va.models.memory import reason
from lvlm_va.models.mode import evaluating
from lvlm_va.models.sound import dtype_name, require_sound

__all__ = ["check_outputs", "load_checkpoint", "load_pretrained", "save_checkpoint", "tensors_of"]

_LAYERS = (nn.Linear, nn.Conv2d)
_SHOWN = 3  # names in a message; a wrong architecture disagrees in hundreds


def save_checkpoint(module: nn.Module, path: Path) -> None:
    """Write a module's parameters and buffers as safetensors, whole or not at all.

    Of an `Adapted` module those of the user's own module, under their own names.

    Raises:
        ModelError: if the file cannot be written; an older file of that name is then still there.
    """
    try:
        write_atomically(path, safetensors.torch.save(tensors_of(module)))
    except OSError as error:
        raise ModelError(f"{path}: the checkpoint could not be written ({error.strerror})") from error


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """A module's parameters and buffers on the CPU, by name; of an `Adapted` module those of the user's own.

    Tied weights come once per name: safetensors refuses tensors that share memory.
    """
    own = unwrapped(module).state_dict()
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in own.items()}


def load_checkpoint(module: nn.Module, path: Path, *, note: Callable[[str], None] = lambda _: None) -> None:
    """Fill a module, in place, from safetensors or from a `state_dict` saved with `torch.save`.

    All names, shapes and kinds of number must agree; otherwise nothing is changed. Floating-point numbers are
    converted to the module's own precision. Of an `Adapted` module the user's own is filled.

    Args:
        module: the network.
        path: the file.
        note: told, in one sentence each, where numbers are converted, the weights are an entry of the file,
            or a prefix of their names is taken off.

    Raises:
        ModelError: if the file is missing, damaged, holds more than tensors, or is of another architecture;
            or if a tensor is of another kind of number, or holds some that no training leads to.
    """
    module = unwrapped(module)
    state = _without_prefix(module, _read(path, note), path, note)
    if problems := _disagreements(module, state):
        raise ModelError(
            f"{problems.listed(path)}. Is it a checkpoint of this architecture and number of classes?"
        )
    require_sound(module.state_dict(), state, path)
    _tell_conversions(module, state, path, note)
    # Not strict, since batch counters may be missing; what else may not is checked above.
    module.load_state_dict(state, strict=False)


def load_pretrained(module: nn.Module, path: Path, *, note: Callable[[str], None] = lambda _: None) -> str:
    """Fill a module, in place, from a checkpoint of the same network with another classification head.

    Everything is taken but the head where its shape differs or the file has none. The head is the last
    linear or convolutional layer, which keeps its initial weights then.

    Args:
        module: the network, with a head for the classes at hand.
        path: safetensors or a `state_dict`, in any precision.
        note: told, in one sentence each, where numbers are converted, the weights are an entry of the file,
            or a prefix of their names is taken off.

    Returns:
        The file's SHA-256, in hexadecimal digits.

    Raises:
        ModelError: if the file cannot be read, more than the head disagrees, or a tensor is not sound (see
            `load_checkpoint`): naming it.
    """
    module = unwrapped(module)
    state = _without_prefix(module, _read(path, note), path, note)
    head = _head(module)
    problems = _disagreements(module, state)
    if others := problems.without(head):
        channels = [n for n in others.shapes if _but_for_channels(state[n], module.state_dict()[n])]
        raise ModelError(
            f"{others.listed(path)}. Everything but the head ({head}) must be of this architecture"
            + (f"; for {channels[0]} set data.channels to {state[channels[0]].shape[1]}" if channels else "")
        )
    taken = {name: tensor for name, tensor in state.items() if name not in problems.shapes}
    require_sound(module.state_dict(), taken, path)
    _tell_conversions(module, taken, path, note)
    module.load_state_dict(taken, strict=False)
    return file_sha256(path)


def check_outputs(model: nn.Module, images: Tensor, num_classes: int) -> None:
    """Refuse a model whose outputs cannot be K logits per image.

    Args:
        model: every module is left in the mode it is in; run in evaluation mode without gradients.
        images: (n, C, H, W) float32, a few images.
        num_classes: K.

    Raises:
        ModelError: if the model fails on the images, or its outputs are not (n, K) finite real numbers.
    """
    wrapped = model if isinstance(model, Adapted) else Adapted(model, None, num_classes)
    try:
        with evaluating(model), torch.no_grad():
            outputs = wrapped(images)
    except Exception as error:  # memory may run out, too
        if isinstance(error, LvlmVaError) and not isinstance(error, ForwardFailed):
            raise
        raise ModelError(
            f"the model fails on images of shape {tuple(images.shape)}: "
            + (error.said if isinstance(error, ForwardFailed) else reason(error))
            + _about_channels(model, images.shape[1])
        ) from error
    expected = (len(images), num_classes)
    if outputs.shape != expected:
        raise ModelError(
            f"the model must return one logit per class, {expected} for {len(images)} images and "
            f"{num_classes} classes, but returns {tuple(outputs.shape)}"
        )
    if not outputs.is_floating_point():
        raise ModelError(
            f"the model returns {dtype_name(outputs.dtype)} numbers, which are no logits; return "
            "real, floating-point ones"
        )
    if bad := int((~outputs.isfinite()).any(dim=1).sum()):
        raise ModelError(
            f"the model's outputs are NaN or infinite for {bad} of {len(images)} images; "
            "the weights are damaged or training diverged"
        )


def _tell_conversions(
    module: nn.Module, state: dict[str, Tensor], path: Path, note: Callable[[str], None]
) -> None:
    own = module.state_dict()
    kinds = {
        (t.dtype, own[n].dtype)
        for n, t in state.items()
        # A counter that was written as a float (num_batches_tracked) stays what it is.
        if t.dtype != own[n].dtype and not (t.numel() == 1 and torch.equal(t.to(own[n].dtype).to(t.dtype), t))
    }
    for given, wanted in sorted(kinds, key=str):
        note(f"{path.name}: {dtype_name(given)} numbers are converted to the model's {dtype_name(wanted)}.")


def _read(path: Path, note: Callable[[str], None]) -> dict[str, Tensor]:
    if not os.path.isfile(path):  # noqa: PTH113 -- False where it is no name
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
        raise ModelError(f"{path}: the checkpoint cannot be read ({reason(error)})") from error
    if isinstance(loaded, dict) and not _is_state(loaded):
        held = {str(key): value for key, value in loaded.items() if _is_state(value)}
        if len(held) == 1:
            ((key, loaded),) = held.items()
            note(f"{path.name}: the weights are taken from its entry {key}.")
        elif held:
            raise ModelError(
                f"{path}: holds weights under {' and '.join(held)}; save the ones you mean alone, as "
                "model.state_dict()"
            )
    if not _is_state(loaded):
        keys = f" with the entries {_few([str(key) for key in loaded])}" if isinstance(loaded, dict) else ""
        raise ModelError(
            f"{path}: a {type(loaded).__name__}{keys} instead of names and tensors; "
            "save model.state_dict() alone"
        )
    return {str(name): tensor for name, tensor in loaded.items()}


def _is_state(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(tensor, Tensor) for tensor in value.values())
    )


def _without_prefix(
    module: nn.Module, state: dict[str, Tensor], path: Path, note: Callable[[str], None]
) -> dict[str, Tensor]:
    """A file's tensors under the module's names, where all of them differ from those by one prefix.

    Such as "module." (DataParallel), "_orig_mod." (torch.compile), "model." (a Lightning module's attribute).
    """
    own = module.state_dict()
    if not state or own.keys() & state.keys():
        return state
    first = next(iter(state))
    for end in (i + 1 for i, letter in enumerate(first) if letter == "."):
        prefix = first[:end]
        if not all(name.startswith(prefix) for name in state):
            break
        bare = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        if own.keys() & bare.keys():
            note(f"{path.name}: {prefix} is taken off the names of its weights.")
            return bare
    return state


@dataclass(frozen=True)
class _Disagreements:
    """What keeps a file's tensors from being a module's; false where nothing does."""

    module: str
    missing: list[str]
    unexpected: list[str]
    shapes: dict[str, str]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    def without(self, layer: str) -> "_Disagreements":
        """Those that are not about the weight and bias of `layer`."""
        head = (f"{layer}.weight", f"{layer}.bias")
        return replace(
            self,
            missing=[name for name in self.missing if name not in head],
            shapes={name: how for name, how in self.shapes.items() if name not in head},
        )

    def listed(self, path: Path) -> str:
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": list(self.shapes.values()),
        }
        told = "; ".join(f"{len(names)} {kind}: {_few(names)}" for kind, names in kinds.items() if names)
        return f"{path} does not fit {self.module}: {told}"


def _disagreements(module: nn.Module, state: dict[str, Tensor]) -> _Disagreements:
    own = module.state_dict()
    return _Disagreements(
        f"{type(module).__name__} ({len(own)} tensors)",
        # Batch counters came late to torch; files from before lack them, and torch itself does not ask.
        missing=[n for n in own if n not in state and not n.endswith("num_batches_tracked")],
        unexpected=[n for n in state if n not in own],
        shapes={
            n: f"{n} is {tuple(state[n].shape)} instead of {tuple(own[n].shape)}"
            for n in own
            if n in state and state[n].shape != own[n].shape
        },
    )


def _head(module: nn.Module) -> str:
    """Name of the last linear or convolutional layer, "" if there is none."""
    names = [name for name, layer in module.named_modules() if isinstance(layer, _LAYERS)]
    return names[-1] if names else ""


def _but_for_channels(one: Tensor, other: Tensor) -> bool:
    """Whether two weights are of a first convolution for images with other channels."""
    return one.ndim == other.ndim == 4 and one.shape[:1] + one.shape[2:] == other.shape[:1] + other.shape[2:]


def _about_channels(model: nn.Module, channels: int) -> str:
    """What to do where the first layer that looks at images wants other channels."""
    wanted = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), channels)
    if wanted == channels:
        return ""
    return (
        f"; its first convolution wants {wanted} channels, the images have {channels}: "
        f"set data.channels to {wanted}"
    )


def _few(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
