"""A model by name: one of ours, or a factory of the user's."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from lvlm_va.errors import ConfigError, LvlmVaError, ModelError
from lvlm_va.io.hints import did_you_mean
from lvlm_va.io.imports import import_object
from lvlm_va.io.raised import place
from lvlm_va.models.adapter import unwrapped
from lvlm_va.models.mlp import MLP
from lvlm_va.models.parts import check_parts
from lvlm_va.models.resnet import resnet18, resnet50

__all__ = ["MODELS", "make_model"]


def _mlp(in_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    return MLP(in_shape, num_classes=num_classes)


def _resnet18(in_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    return resnet18(num_classes=num_classes, in_channels=in_shape[0])


def _resnet50(in_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    return resnet50(num_classes=num_classes, in_channels=in_shape[0])


MODELS: dict[str, Callable[[tuple[int, int, int], int], nn.Module]] = {
    "mlp": _mlp,
    "resnet18": _resnet18,
    "resnet50": _resnet50,
}


def make_model(name: str, in_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """An untrained model.

    Args:
        name: one of `MODELS`, or "package.module:function" for a function that returns an `nn.Module` from
            (n, C, H, W) to (n, num_classes). The module may lie in the working folder. The function must need
            no arguments; where it takes `num_classes` or `in_channels` by name, it is given K or C.
        in_shape: (C, H, W) of the images.
        num_classes: K.

    Raises:
        ConfigError: if there is no such model, module or function.
        ModelError: if the module or the factory raises, something else is returned, or what is returned
            cannot be trained or kept (see `check_parts`).
    """
    if name in MODELS:
        return MODELS[name](in_shape, num_classes)
    module_name, _, function_name = name.partition(":")
    if not (module_name and function_name) or module_name.startswith("."):
        hint = did_you_mean(name, MODELS)
        raise ConfigError(f"unknown model {name!r}; {hint} (your own is written package.module:function)")
    factory: Any = import_object(name, "model", ModelError)
    try:
        model = factory(**_known_arguments(factory, num_classes=num_classes, in_channels=in_shape[0]))
    except (LvlmVaError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ModelError(
            f"model {name!r}: the factory raised {type(error).__name__}: {error}{place(error)}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"model {name!r}: the factory returned {type(model).__name__}, not a torch nn.Module"
        )
    model = unwrapped(model)
    for part in model.modules():
        part._compiled_call_impl = None  # what `Module.compile` did, which is undone: see `check_parts`
    check_parts(model)
    return model


def _known_arguments(factory: Any, **known: int) -> dict[str, int]:
    """Those of `known` that the factory takes by their own name."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # not callable, which the call itself tells, or without a signature
        return {}
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {k: v for k, v in known.items() if k in parameters and parameters[k].kind in by_name}
