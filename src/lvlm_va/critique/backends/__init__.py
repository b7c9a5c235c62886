"""Who answers, by name."""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from lvlm_va.critique.backends.ground_truth import GroundTruthBackend
from lvlm_va.critique.backends.openai import OpenAIBackend
from lvlm_va.critique.question import Backend
from lvlm_va.errors import ConfigError
from lvlm_va.io.hints import did_you_mean

__all__ = ["make_backend"]

_KNOWN = ("builtin", "ground-truth", "openai:<model>", "hf:<model>")


def make_backend(name: str, **options: Any) -> Backend:
    """The critic or judge called `name`.

    Args:
        name: "builtin" (measures; not an LVLM), "openai:<model>" (any OpenAI-compatible endpoint),
            "hf:<model>" (a model on this machine: its folder, or its id on the Hugging Face hub) or
            "ground-truth" (the oracle).
        options: of the backend's class, see there.

    Raises:
        ConfigError: naming the nearest known name or option.
        CriticError: if the backend cannot be used as the environment is.
    """
    kind, _, model = name.partition(":")
    make: Callable[..., Backend]
    if kind == "openai":
        if not model:
            raise ConfigError(
                "critic 'openai' needs a model: write openai:<model>, for example openai:gpt-4o"
            )
        make = OpenAIBackend
        return make(model, **_checked(make, name, options))
    if kind == "hf":
        if not model:
            raise ConfigError("critic 'hf' needs a model: write hf:<folder>, or hf:<owner>/<name> of the hub")
        from lvlm_va.critique.backends.huggingface import HuggingFaceBackend  # transformers is an extra

        make = HuggingFaceBackend
        return make(model, **_checked(make, name, options))
    if name == "builtin":
        from lvlm_va.critique.backends.builtin import BuiltinCritic  # its encoder takes a second to import

        make = BuiltinCritic
    elif name == "ground-truth":
        make = GroundTruthBackend
    elif name == "batch":
        raise ConfigError(
            "'batch' is not a critic but a way to ask one: name the model (openai:<model>), export the "
            "questions, and import the answers"
        )
    else:
        close = get_close_matches(kind, ["builtin", "ground-truth", "openai", "hf"], n=1)
        nearest = next((known for known in _KNOWN if close and known.startswith(close[0])), None)
        hint = f"did you mean {nearest!r}?" if nearest else f"known are {', '.join(_KNOWN)}"
        raise ConfigError(f"unknown critic {name!r}; {hint}")
    return make(**_checked(make, name, options))


def _checked(make: Callable[..., Backend], name: str, options: dict[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(make).parameters
    known = [p.name for p in parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise ConfigError(f"critic {name}: unknown option {option!r}; {did_you_mean(option, known)}")
    return options
