"""Who answers, by name."""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from lvlm_va.config.names import CRITICS
from lvlm_va.critique.backends.own import OwnCritic
from lvlm_va.critique.question import Backend
from lvlm_va.errors import ConfigError
from lvlm_va.io.hints import did_you_mean

__all__ = ["make_backend"]

# Imported when asked for: the encoder of the built-in critic takes a second, transformers is an extra.
_HOMES: Mapping[str, str] = {
    "builtin": "builtin:BuiltinCritic",
    "ground-truth": "ground_truth:GroundTruthBackend",
    "openai": "openai:OpenAIBackend",
    "hf": "huggingface:HuggingFaceBackend",
    "file": "file:FileBackend",
    "person": "person:PersonBackend",
}

_NO_MODEL = {
    "openai": "critic 'openai' needs a model: write openai:<model>, for example openai:gpt-4o",
    "hf": "critic 'hf' needs a model: write hf:<folder>, or hf:<owner>/<name> of the hub",
    "batch": (
        "'batch' is not a critic but a way to ask one: name the model (openai:<model>), export the "
        "questions, and import the answers"
    ),
}


def make_backend(name: str, **options: Any) -> Backend:
    """The critic or judge called `name`.

    Args:
        name: "builtin" (measures; not an LVLM), "openai:<model>" (any OpenAI-compatible endpoint),
            "hf:<model>" (a model on this machine: its folder, or its id on the Hugging Face hub),
            "file" or "file:<who>" (a chat window, a colleague, the expert: questions are exported, answers
            imported), "person" or "person:<who>" (judges single segments), "ground-truth" (the oracle), the
            name of an entry point of the group `lvlm_va.critics`, or "module:Class".
        options: of the backend's class, see there; another package's critic has none.

    Raises:
        ConfigError: naming the nearest known name or option.
        CriticError: if the backend cannot be used as the environment is.
    """
    kind, colon, model = name.partition(":")
    if kind in _NO_MODEL and not model:
        raise ConfigError(_NO_MODEL[kind])
    if not CRITICS.is_ours(name):
        return OwnCritic(CRITICS.load(name), **_checked(OwnCritic, name, options))
    module, _, cls = _HOMES[kind].partition(":")
    make: Callable[..., Backend] = getattr(import_module(f"{__name__}.{module}"), cls)
    return make(*([model] if colon else []), **_checked(make, name, options))


def _checked(make: Callable[..., Backend], name: str, options: dict[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(make).parameters
    known = [p.name for p in parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise ConfigError(f"critic {name}: unknown option {option!r}; {did_you_mean(option, known)}")
    return options
