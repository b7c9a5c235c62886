"""A model by name: one of ours, or a factory of the user's."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from lvlm_va.errors import ConfigError, LvlmVaError, ModelError
from lvlm_va.io.hints import did_you_mean
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
        in_shape: (C, H, W) of the pictures.
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
    _look_here_too(module_name)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"model {name!r}: no module named {error.name!r}; is it installed, in this folder, or its "
            "folder on PYTHONPATH?"
        ) from None
    except (LvlmVaError, KeyboardInterrupt):  # stopped by the user, above all
        raise
    except BaseException as error:  # SystemExit, too: a script that ends by itself must not end us in silence
        raise ModelError(
            f"model {name!r}: importing {module_name} raised {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, function_name):
        own = [k for k, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__]
        hint = did_you_mean(function_name, own)
        raise ConfigError(f"model {name!r}: {module_name} has no {function_name!r}; {hint}")
    factory = getattr(module, function_name)
    try:
        model = factory(**_known_arguments(factory, num_classes=num_classes, in_channels=in_shape[0]))
    except (LvlmVaError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ModelError(f"model {name!r}: the factory raised {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"model {name!r}: the factory returned {type(model).__name__}, not a torch nn.Module"
        )
    check_parts(model)
    return model


def _look_here_too(module_name: str) -> None:
    """Let a module be found in the working folder, but last: nothing there is taken for another's module."""
    top, here = module_name.partition(".")[0], Path.cwd()
    lies_here = (here / f"{top}.py").is_file() or (here / top).is_dir()
    if top not in sys.modules and lies_here and importlib.util.find_spec(top) is None:
        sys.path.append(str(here))


def _known_arguments(factory: Any, **known: int) -> dict[str, int]:
    """Those of `known` that the factory takes by their own name."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # not callable, which the call itself tells, or without a signature
        return {}
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {k: v for k, v in known.items() if k in parameters and parameters[k].kind in by_name}
