"""What is asked, of whom, and what comes back: the one protocol every critic speaks."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lvlm_va._version import __version__
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.io.data_uri import data_uri

__all__ = [
    "KINDS",
    "Backend",
    "Background",
    "CaptionedImage",
    "ExplainedImage",
    "Intervention",
    "Question",
    "Reply",
    "Stage",
    "as_text",
]

Stage = Literal["critic", "judge"]

Intervention = Literal["spurious", "core"]
"""How much the critic condemns (Sec. 6, "Limitations"): only what clearly must not matter, or all but the
clear core."""

Background = Literal["valid", "spurious"]
"""What empty background is of which the specification says nothing: under "valid" it is condemned only with
all but the core."""


@dataclass(frozen=True, eq=False)
class ExplainedImage:
    """One explained image, before anything is rendered or asked.

    Attributes:
        image_id: the image's id in its set.
        image: (H, W, 3) uint8, the image as a person would see it.
        segments: (H, W) int16, C ∈ {0..J}; 0 where no segment is claimed.
        attribution: (H, W) float32, Φ, signed.
        shares: J floats, S_j, the share of positive attribution in segment j + 1; they sum to 1. A segment
            that was divided has 0.
        class_name: the class whose specification is consulted.
        predicted: the class the model chose.
        target: the class that Φ explains; the predicted one if None.
        spurious: (H, W) bool ground truth or None. Only the oracle backend may read it.
    """

    image_id: str
    image: NDArray[np.uint8]
    segments: NDArray[np.int16]
    attribution: NDArray[np.float32]
    shares: tuple[float, ...]
    class_name: str
    predicted: str
    spurious: NDArray[np.bool_] | None = None
    target: str | None = None

    @property
    def explains(self) -> str:
        """The class that Φ speaks for where it is positive."""
        return self.predicted if self.target is None else self.target

    @cached_property
    def segment_ids(self) -> tuple[int, ...]:
        """The numbers of the segments that hold at least one pixel, ascending."""
        return tuple((np.bincount(self.segments.ravel())[1:].nonzero()[0] + 1).tolist())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over everything but the id: what a backend that measures would see."""
        digest = hashlib.sha256()
        for array in (self.image, self.segments, self.attribution, self.spurious):
            if array is None:
                digest.update(b"unknown")
            else:
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        digest.update(repr((self.shares, self.class_name, self.predicted, self.explains)).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class CaptionedImage:
    """A rendered image of a prompt: its caption and its PNG file."""

    caption: str
    png: bytes

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the file."""
        return hashlib.sha256(self.png).hexdigest()

    @cached_property
    def data_uri(self) -> str:
        """The file as an address that holds it."""
        return data_uri(self.png)


@dataclass(frozen=True, eq=False)
class Question:
    """One question to a critic or judge.

    `explained` is for backends that measure instead of read (the built-in critic, the oracle); a
    vision-language model gets `system`, `prompt` and `images` only.

    Attributes:
        stage: "critic" (g) or "judge" (h).
        explained: the explained image.
        specification: the class specification V_k in force.
        system: the system prompt.
        prompt: the user prompt, complete.
        images: what goes with it; empty for the judge.
        segment_ids: the segment numbers that a verdict may name.
        schema: JSON schema of the reply, or None for free text.
        parameters: temperature, max_tokens, seed, ..., and detail: the resolution at which images are
            read ("low", "high", "auto").
        intervene: how much the critic is to condemn; its prompt says so, too.
        mixed: whether a segment may be called mixed; the prompt says so, too.
    """

    stage: Stage
    explained: ExplainedImage
    specification: ClassSpecification
    system: str
    prompt: str
    images: tuple[CaptionedImage, ...]
    segment_ids: tuple[int, ...]
    schema: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    intervene: Intervention = "spurious"
    mixed: bool = False

    def key(self, backend: str) -> str:
        """SHA-256 over everything that could change the answer; the same key is never paid twice.

        A critic that is shown no image measures the explained image itself, which then takes the images'
        place. The judge reads only text.
        """
        if (kept := self._keys.get(backend)) is None:
            kept = self._keys[backend] = _sha256(
                {"image_id": self.explained.image_id, **self._content(backend)}
            )
        return kept

    def content_key(self, backend: str) -> str:
        """SHA-256 over what the model is told: the same for equal questions about two images.

        The limit of tokens is not in it: it changes no answer that was whole.
        """
        if (kept := self._content_keys.get(backend)) is None:
            content = self._content(backend)
            content["parameters"] = {k: v for k, v in self.parameters.items() if k != "max_tokens"}
            kept = self._content_keys[backend] = _sha256(content)
        return kept

    @cached_property
    def _keys(self) -> dict[str, str]:
        return {}  # by backend: a question is looked up, asked and recorded, and hashed once

    @cached_property
    def _content_keys(self) -> dict[str, str]:
        return {}

    def _content(self, backend: str) -> dict[str, Any]:
        measured = self.stage == "critic" and not self.images
        return {
            "stage": self.stage,
            "backend": backend,
            "specification": self.specification.version,
            "system": self.system,
            "prompt": self.prompt,
            "images": [p.sha256 for p in self.images],
            "explained": self.explained.fingerprint if measured else None,
            # Another version of this package may measure, and so answer, differently.
            "version": __version__ if measured else None,
            "segment_ids": self.segment_ids,
            "schema": self.schema,
            "parameters": dict(self.parameters),
        }


def _sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True)
class Reply:
    """What came back for one question, as it came.

    Attributes:
        text: the raw text, never executed, never trusted.
        model: the model that says it answered.
        input_tokens, output_tokens: as the server counted them; None where it did not.
        usd: price in US dollars; None where no price is known.
        seconds: from sending to the last byte.
        problem: why the text cannot be used although it was paid for (cut off, refused), or "".
        note: what the server would not accept and was therefore asked without, or "".
    """

    text: str
    model: str
    input_tokens: int | None = None
    output_tokens: int | None = None
    usd: float | None = None
    seconds: float = 0.0
    problem: str = ""
    note: str = ""


def as_text(text: str) -> str:
    """`text` with what UTF-8 cannot hold (lone surrogates from a JSON escape) replaced by "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


KINDS = {
    "lvlm": "",
    "person": " (a person)",
    "measurement": " (measures; not an LVLM)",
    "oracle": " (an oracle: reads the ground truth)",
}
"""What must stand beside a critic's name wherever its numbers are shown."""


class Backend(Protocol):
    """Who answers. Implementations live in `critique/backends/`, one a file.

    Attributes:
        name: as the user writes it, e.g. "openai:gpt-4o"; part of every question's key.
        kind: "lvlm" (a vision-language model), "person", "measurement" (the built-in critic, not an LVLM) or
            "oracle" (reads the ground truth); shown wherever its numbers are.
    """

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Literal["lvlm", "person", "measurement", "oracle"]: ...

    async def answer(self, question: Question) -> Reply:
        """Answer one question.

        Raises:
            AnswerFailed: this question got no answer; others may still be asked.
            CriticError: no question can be answered (no key, unreachable, unknown model).
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
