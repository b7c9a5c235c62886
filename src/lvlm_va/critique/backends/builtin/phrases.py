"""From a class specification to phrases: what a decision should rest on, and what it must not.

The expert's lists are taken as they are and settle their side. Where a list is empty the description
speaks: its clauses are relevant unless they say that something must not matter.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lvlm_va.critique.specification import ClassSpecification

__all__ = ["GENERIC_SPURIOUS", "Phrase", "Wishes", "read_wishes"]

GENERIC_SPURIOUS = (
    "an artificial marker, tag or sticker",
    "letters or text written onto the picture",
    "empty background",
)
"""What is weighed against the relevant phrases where the expert names nothing spurious."""

_CUE = re.compile(
    r"\b(must not|should not|shouldn't|mustn't|does not matter|do not matter|doesn't matter|don't matter|"
    r"do not (use|rely|look|rest)|does not (belong|depend|count)|not part of|no part of|never|irrelevant|"
    r"ignor\w+|disregard\w*|regardless of|artefacts?|artifacts?|spurious|confound\w*|distract\w*|"
    r"not (?:by|on|from)|has nothing to do|have nothing to do|unrelated|meaningless|says? nothing|"
    r"shortcuts?)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_CONTRAST = re.compile(
    r",?\s+(?:but|whereas|while|although)\s+|"
    r",?\s+(?:and\s+)?(?=(?:not|never) (?:by|on|from)\b|ignor|disregard)",
    re.IGNORECASE,
)
_PIECE = re.compile(r"\s*[,;:]\s+|\s+[–—]\s+")
_BACK_REFERENCE = re.compile(r"^(it|its|they|them|these|this|those|that|which|there)\b", re.IGNORECASE)
_ASIDE = re.compile(
    r"(?<![,\s])[,\s]++(?:(?:far )?away from|apart from|outside(?: of)?|other than|rather than|"
    r"instead of|beside|next to|not (?:part of|belonging to|on|in)|unrelated to|without|"
    r"that (?:is|are) not)\b.*$",
    re.IGNORECASE,
)
_UNIVERSAL = re.compile(
    r"\b(?:anything|everything|everywhere|anywhere|elsewhere|whatever|wherever|all else|the rest|"
    r"nothing|(?:any|all|every) other)\b",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"^(?:no|not|neither|never|without|absence of|lack of|free (?:of|from))\b", re.IGNORECASE
)
_ALSO = re.compile(
    r",?\s+(?:and|or)\s+(?=(?:anything|everything|whatever|any other|all other|all else)\b)", re.IGNORECASE
)
_ALL_BUT = re.compile(
    r"^(?:anything|everything|all|whatever|any \w+|all \w+)(?: else)?"
    r"(?: (?:that|which) (?:is|are|lies?))?\s+(?:but|except(?: for)?|other than|outside(?: of)?|apart from|"
    r"beside|besides|not (?:part of|belonging to|on|in|within|inside))\s+(.+)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Phrase:
    """One thing the expert names.

    Attributes:
        words: as the expert wrote them.
        core: the words that name the thing, without asides such as "away from the digit"; of a phrase such as
            "anything outside the lesion" the lesion, and "" where it is not clear what is named.
        complement: whether everything *but* the core is meant.
    """

    words: str
    core: str
    complement: bool = False


@dataclass(frozen=True)
class Wishes:
    """What a decision should rest on, what it must not, and whether the expert said the latter."""

    relevant: tuple[Phrase, ...]
    spurious: tuple[Phrase, ...]
    spurious_is_stated: bool


def read_wishes(specification: ClassSpecification) -> Wishes:
    """Read the phrases of a class specification."""
    said_relevant, said_spurious = _read_description(specification.description)
    relevant = _phrases(specification.relevant or said_relevant)
    stated = _phrases(specification.spurious or said_spurious)
    return Wishes(
        relevant=relevant or _phrases((f"the {specification.name}", "the main object")),
        spurious=stated or _phrases(GENERIC_SPURIOUS),
        spurious_is_stated=bool(stated),
    )


def _read_description(description: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What free text names as relevant and as spurious: noun phrases, roughly, in the order of the text.

    A cue ("ignore", "must not", ...) rules its sentence up to a contrast ("but", "whereas"). A piece that
    only refers back ("it was pasted in") names nothing itself.
    """
    sides: tuple[list[str], list[str]] = ([], [])
    for sentence in _SENTENCE.split(" ".join(description.split())):
        for part in _CONTRAST.split(sentence):
            side = sides[1 if _CUE.search(part) else 0]
            pieces = (piece.strip(" .,;:!?") for piece in _PIECE.split(part))
            side += [piece for piece in pieces if " " in piece and not _BACK_REFERENCE.match(piece)]
    return tuple(sides[0]), tuple(sides[1])


def _phrases(said: Sequence[str]) -> tuple[Phrase, ...]:
    """One phrase for each thing that is named; what is only said not to be there names nothing."""
    pieces = (piece.strip(" .,;:") for words in said for piece in _ALSO.split(" ".join(words.split())))
    return tuple(_phrase(piece) for piece in pieces if piece and not _NEGATED.match(piece))


def _phrase(words: str) -> Phrase:
    if match := _ALL_BUT.match(words):
        core = match.group(1)
        return Phrase(words, "" if _UNIVERSAL.search(core) else core, complement=True)
    named = _ASIDE.sub("", _CUE.sub("", words)).strip(" .,;:") or words
    if _UNIVERSAL.search(named):
        return Phrase(words, "", complement=True)
    return Phrase(words, named)
