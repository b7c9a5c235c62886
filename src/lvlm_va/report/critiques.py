"""From the store's exchanges to the critique behind each image's verdicts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lvlm_va.critique.prompts import enclosed
from lvlm_va.critique.store import Exchange
from lvlm_va.critique.thinking import split_thought
from lvlm_va.critique.verdict import Verdict

__all__ = ["STEPS", "Critique", "critique_of", "split_steps"]

STEPS = (
    "Examine the original",
    "Find the regions of the true class",
    "Say what each segment covers",
    "Combine both",
    "Weigh what is covered",
    "Verdict per segment",
)
"""What the critic's prompt asks for, in short."""

# What stands before "step" stays within its line and is never given back: otherwise every line break of a
# long run of them starts the search anew.
_STEP = re.compile(r"^(?:[^\w\n]|_)*+step\s+(\d)\b[\s.:)*_–—-]*", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Critique:
    """What a critic answered about one image.

    Attributes:
        text: the answer, as it came; followed by those about the parts of mixed segments, if any.
        backend: who answered.
        version: of the class specification it was asked with.
        specification: the words of that specification, as the critic read them.
        shown: whether the critic was shown images; one that measures is not.
    """

    text: str
    backend: str
    version: str
    specification: str
    shown: bool


def critique_of(exchanges: Sequence[Exchange], said: Sequence[Verdict]) -> Critique | None:
    """The critique from which an image's verdicts were drawn, or None where it was never answered.

    A store keeps every question ever asked, also those about an older specification or segmentation: the
    critique meant is the one that the judge had before it when it gave the verdicts. Where no verdict was
    given, it is the latest.

    Args:
        exchanges: about this image, oldest first.
        said: the critic's verdicts on this image's segments.
    """
    scored = {v.segment: (v.spurious, v.reason) for v in said if v.spurious is not None}
    segments = {v.segment for v in said}
    in_one = any(segments <= set(e.segment_ids) for e in exchanges)  # else some are parts, asked about later

    def gave_them(exchange: Exchange) -> bool:
        own = scored if in_one else {j: v for j, v in scored.items() if j in exchange.segment_ids}
        return bool(own) and own.items() <= dict(exchange.verdicts or {}).items()

    judged = [e.prompt for e in exchanges if gave_them(e)]
    latest, answered = None, []
    for exchange in exchanges:
        if exchange.stage == "critic" and exchange.reply is not None:
            text = split_thought(exchange.reply.text)[1] or ""  # thoughts are not shown to the judge
            if latest is None or not judged or any(text in prompt for prompt in judged):
                latest = exchange
                answered.append((exchange.segment_ids, text))
    if latest is None or latest.reply is None:
        return None
    return Critique(
        text=latest.reply.text if in_one else _rounds(answered),
        backend=latest.backend,
        version=latest.specification,
        specification=enclosed("specification", latest.prompt) or "",
        shown=bool(latest.images),
    )


def _rounds(answered: Sequence[tuple[Sequence[int], str]]) -> str:
    """The last critique, after those that led to it: parts have higher numbers than what was divided."""
    ids, text = answered[-1]
    texts = [text]
    for before, text in reversed(answered[:-1]):
        if max(before) < min(ids):
            ids = before
            texts.append(text)
    return "\n\n".join(reversed(texts))


def split_steps(text: str) -> tuple[str, tuple[str, ...]]:
    """What stands before step 1, and the six steps.

    Returns:
        (preamble, six texts), or (the whole text, ()) where the critic did not keep to the six steps.
    """
    heads = list(_STEP.finditer(text))
    if [int(head.group(1)) for head in heads] != list(range(1, len(STEPS) + 1)):
        return text.strip(), ()
    ends = [head.start() for head in heads[1:]] + [len(text)]
    steps = tuple(text[head.end() : end].strip() for head, end in zip(heads, ends, strict=True))
    return text[: heads[0].start()].strip(), steps
