"""How many tokens a question will take, before it is asked.

Text counts four characters a token (English prose; OpenAI's own rule of thumb). Images count as
OpenAI documents it: a base and a price per 512×512 tile, or per 32×32 patch in the newer small models.
A model that is not in the table counts as gpt-4o; its true number may differ.
"""

import math
import struct
from collections.abc import Mapping
from typing import Any

from lvlm_va.critique.question import CaptionedImage, Question

__all__ = ["expected_tokens", "image_tokens", "input_tokens"]

_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4  # role and separators
_TILED = {  # model prefix → (base, per tile); the longest prefix that fits counts
    "gpt-4o-mini": (2833, 5667),
    "gpt-4o": (85, 170),
    "gpt-4.1": (85, 170),
    "gpt-5": (70, 140),
    "o1": (75, 150),
    "o3": (75, 150),
}
_PATCHED = {  # model prefix → multiplier
    "gpt-4.1-mini": 1.62,
    "gpt-4.1-nano": 2.46,
    "o4-mini": 1.72,
    "gpt-5-mini": 1.62,
    "gpt-5-nano": 2.46,
}
_MOST_PATCHES = 1536
_WORDS = {"critic": (300, 120), "judge": (20, 50)}  # expected tokens of an answer: at least, per segment


def input_tokens(question: Question, model: str) -> int:
    """Tokens of the prompts and images of a question, as well as can be told without asking."""
    text = [question.system, question.prompt, *(image.caption for image in question.images)]
    detail = question.parameters.get("detail", "auto")
    return (
        sum(math.ceil(len(part) / _CHARACTERS_PER_TOKEN) + _TOKENS_PER_MESSAGE for part in text)
        + sum(image_tokens(*_size(image), model, detail) for image in question.images)
        + (len(str(question.schema)) // _CHARACTERS_PER_TOKEN if question.schema else 0)
    )


def expected_tokens(question: Question) -> int:
    """Tokens that the answer will probably have: an assumption, from how many segments it must discuss."""
    least, each = _WORDS[question.stage]
    return min(least + each * len(question.segment_ids), _limit(question.parameters))


def _limit(parameters: Mapping[str, Any]) -> int:
    return int(parameters.get("max_tokens", 2**31))


def image_tokens(width: int, height: int, model: str, detail: str = "high") -> int:
    """Tokens of one image of `width` × `height` pixels.

    An image is first fitted into 2048×2048, then its shorter side is reduced to 768; up to 512×512 it
    is one tile, 513×513 is four.
    """
    family = max((p for p in (*_TILED, *_PATCHED) if model.startswith(p)), key=len, default="gpt-4o")
    if family in _PATCHED:
        patches = math.ceil(width / 32) * math.ceil(height / 32)
        return math.ceil(min(patches, _MOST_PATCHES) * _PATCHED[family])
    base, tile = _TILED[family]
    if detail == "low":
        return base
    scale = min(1.0, 2048 / max(width, height))
    scale = min(scale, 768 / min(width, height))
    tiles = math.ceil(width * scale / 512) * math.ceil(height * scale / 512)
    return base + tile * tiles


def _size(image: CaptionedImage) -> tuple[int, int]:
    """Width and height from the PNG header."""
    width, height = struct.unpack(">II", image.png[16:24])
    return width, height
