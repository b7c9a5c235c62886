"""What an endpoint says of its models at /models, in whatever shape."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lvlm_va.io.redaction import one_line

__all__ = ["ListedModel", "find_model", "read_models"]

_CONTEXTS = (
    "max_model_len",  # vLLM
    "context_length",  # OpenRouter, Together
    "max_context_length",  # Mistral, LM Studio
    "context_window",  # Groq
    "max_context_len",
    "inputTokenLimit",
    "n_ctx",  # llama.cpp
    "n_ctx_train",
)
_MOST_ENTRIES = 10_000


@dataclass(frozen=True)
class ListedModel:
    """One model of a list.

    Attributes:
        name: its id.
        context: tokens of prompt and answer together; None where the list does not say.
        images: whether it takes images; None likewise.
        prices: US dollars per million tokens, in and out; None likewise.
    """

    name: str
    context: int | None = None
    images: bool | None = None
    prices: tuple[float, float] | None = None


def read_models(content: bytes) -> list[ListedModel] | None:
    """The models in a response's body; None if it holds no list of models.

    A list may be in `data` (OpenAI), in `models` (Ollama, llama.cpp) or bare (Together), and empty or null
    where no model is installed.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if isinstance(document, dict):
        lists = [document[key] for key in ("data", "models") if isinstance(document.get(key), list)]
        if not lists:  # Ollama says null where no model is installed
            return [] if document.get("object") == "list" and document.get("data") is None else None
    else:
        lists = [document]
    found: dict[str, ListedModel] = {}
    for entries in lists:
        if not isinstance(entries, list):
            return None
        named = [_read(entry) for entry in entries[:_MOST_ENTRIES]]
        if entries and not any(named):
            return None
        for one in filter(None, named):
            before = found.get(one.name, one)
            found[one.name] = ListedModel(
                one.name,
                before.context or one.context,
                one.images if before.images is None else before.images,
                before.prices or one.prices,
            )
    return list(found.values())


def find_model(models: list[ListedModel], name: str) -> ListedModel | None:
    """The model that a name means: as it is, with Ollama's `:latest`, or behind a path as Google lists it."""
    for written in (name, f"{name}:latest", f"models/{name}"):
        for one in models:
            if one.name.lower() == written.lower():
                return one
    return None


def _read(entry: object) -> ListedModel | None:
    if not isinstance(entry, dict):
        return None
    name = next((entry[key] for key in ("id", "model", "name") if _is_text(entry.get(key))), None)
    if name is None:
        return None
    return ListedModel(one_line(name, 200), _context(entry), _images(entry), _prices(entry.get("pricing")))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _inside(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield entry
    for key in ("meta", "details", "limits", "top_provider"):
        if isinstance(entry.get(key), dict):
            yield entry[key]


def _context(entry: dict[str, Any]) -> int | None:
    for part in _inside(entry):
        for key in _CONTEXTS:
            value = part.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9:
                return value
    return None


def _images(entry: dict[str, Any]) -> bool | None:
    """By OpenRouter's `architecture`, Mistral's and llama.cpp's `capabilities`, LM Studio's `type`."""
    architecture = entry.get("architecture")
    if isinstance(architecture, dict) and isinstance(architecture.get("input_modalities"), list):
        return "image" in architecture["input_modalities"]
    capabilities = entry.get("capabilities")
    if isinstance(capabilities, dict) and isinstance(capabilities.get("vision"), bool):
        return bool(capabilities["vision"])
    if isinstance(capabilities, list):
        return any(one in ("multimodal", "vision", "image") for one in capabilities)
    return True if entry.get("type") == "vlm" else None


def _prices(pricing: object) -> tuple[float, float] | None:
    """OpenRouter's `pricing`: US dollars per token, as text."""
    if not isinstance(pricing, dict):
        return None
    try:
        read = [float(pricing[key]) for key in ("prompt", "completion") if _is_text(pricing[key])]
    except (KeyError, ValueError):
        return None
    if len(read) < 2 or not all(0 <= price < math.inf for price in read):
        return None
    return read[0] * 1e6, read[1] * 1e6
