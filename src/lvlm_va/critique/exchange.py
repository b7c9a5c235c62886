"""What the store knows of a question: what it cost, and what was asked and answered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lvlm_va.critique.question import Reply

__all__ = ["Cost", "Exchange"]


@dataclass(frozen=True)
class Cost:
    """What one stage cost with one backend.

    Attributes:
        stage: "critic" or "judge".
        backend: as the user names it.
        model: the model that says it answered; "" for questions that only failed.
        calls: answers received.
        failures: attempts that brought no answer, earlier runs included.
        input_tokens, output_tokens: sums over the calls whose server counted them.
        usd: sum over the calls that have a price.
        unpriced: calls without a known price; where this is not 0, `usd` is a lower bound.
        seconds: sum of the calls' durations (calls overlap, so this is not wall-clock time).
    """

    stage: str
    backend: str
    model: str
    calls: int
    failures: int
    input_tokens: int
    output_tokens: int
    usd: float
    unpriced: int
    seconds: float


@dataclass(frozen=True)
class Exchange:
    """One question with its answer, as stored.

    Attributes:
        specification: version of the class specification.
        images: (caption, SHA-256 of the PNG file) of each image that was shown.
        reply: None while the question is unanswered.
        verdicts: what was read in a judge's answer: segment → (spurious, reason), with None in place of
            spurious where it is mixed; None for critiques.
    """

    key: str
    stage: str
    backend: str
    image_id: str
    class_name: str
    specification: str
    system: str
    prompt: str
    images: tuple[tuple[str, str], ...]
    segment_ids: tuple[int, ...]
    parameters: Mapping[str, Any]
    reply: Reply | None
    verdicts: Mapping[int, tuple[bool | None, str]] | None
