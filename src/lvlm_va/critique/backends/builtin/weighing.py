"""Weighing a region against the expert's words.

    a(t, r)  = Σ_c softmax_c((cos(t, c) − handicap_c) / τ) · degree_c(r)
    score(r) = max_{t spurious} a(t, r) − max_{t relevant} a(t, r)   ∈ [−1, 1]

a is how far region r is what phrase t means (times how clear the phrase is at all). The score is
antisymmetric: exchanging what is relevant and what is spurious flips its sign exactly. Other words for
the same thing fall on the same concepts, because the encoder places them there.

A phrase such as "anything outside the lesion" says what it does not mean. It speaks of a region only as far
as that is recognised as what can only have been put there: with k(r) = max_c degree_c(r) over such concepts,

    a(t, r) = k(r) · max(0, 1 − a(core of t, r) / ¼)   if k(r) ≥ ½, else 0

Where all but the core is to be condemned (`critique.intervene: core`), what is recognised and not asked for
counts as ruled out. With k(r) over all concepts c that say what a thing is,

    other(r) = k(r) · max(0, 1 − max_{t relevant} a(t, r) / ¼)   if k(r) ≥ ½, else 0
    score(r) = max(max_{t spurious} a(t, r), other(r)) − max_{t relevant} a(t, r)

which is never less than the score above, and the same for what is not recognised.
"""

from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from lvlm_va.critique.backends.builtin.concepts import BANK, SUBJECT_MATTER
from lvlm_va.critique.backends.builtin.phrases import Phrase, Wishes, read_wishes
from lvlm_va.critique.question import Intervention
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.vision.encoder import encode
from lvlm_va.vision.measures import Measures

__all__ = ["CERTAIN", "Match", "Scales", "unrecognised"]

CERTAIN = 0.5
"""Affinity or degree from which something is recognised with certainty."""
_ASKED = 0.25  # affinity to what is asked for from which a region may be just that, and so is nothing else

_TEMPERATURE = 0.06  # τ: at this, a phrase speaks of two or three concepts, seldom of ten
_VAGUE, _CLEAR = 0.15, 0.45  # cosine to the nearest concept at which a phrase says nothing, or all it can


@dataclass(frozen=True)
class Match:
    """How a region relates to the expert's words.

    Attributes:
        spurious, relevant: affinities in [0, 1] of the closest phrase on each side.
        spurious_words, relevant_words: those phrases, as the expert wrote them.
        recognised: the concept as which it is ruled out, not being asked for; "" where the expert's words
            decide, then also `spurious` is theirs.
    """

    spurious: float
    spurious_words: str
    relevant: float
    relevant_words: str
    recognised: str = ""

    @property
    def score(self) -> float:
        """In [−1, 1]; positive is spurious."""
        return self.spurious - self.relevant


class Scales:
    """One class specification, ready to weigh regions against.

    Args:
        specification: V_k.
        intervene: "core" rules out what is recognised and not asked for, see above.
    """

    def __init__(self, specification: ClassSpecification, intervene: Intervention = "spurious") -> None:
        self.intervene = intervene
        self.wishes: Wishes = read_wishes(specification)
        self._spurious = _meanings(self.wishes.spurious)
        self._relevant = _meanings(self.wishes.relevant)

    def weigh(self, measures: Measures) -> Match:
        """Weigh one measured region."""
        degrees = np.array([concept.degree(measures) for concept in BANK])
        match = Match(
            *_closest(self.wishes.spurious, self._spurious @ degrees, degrees),
            *_closest(self.wishes.relevant, self._relevant @ degrees, degrees),
        )
        return match if self.intervene == "spurious" else _rule_out_the_rest(match, degrees)


def unrecognised(specification: ClassSpecification) -> tuple[str, ...]:
    """The expert's phrases for what is spurious by which nothing could ever be condemned.

    They speak of the subject matter, which is not to be measured, or of all but something that is not clear.
    """
    stated = Scales(specification).wishes.spurious
    subject = next(n for n, concept in enumerate(BANK) if concept.name == SUBJECT_MATTER)
    meanings = np.delete(_meanings(stated), subject, axis=1).sum(axis=1)
    return tuple(
        phrase.words
        for phrase, meaning in zip(stated, meanings, strict=True)
        if (not phrase.core if phrase.complement else meaning < CERTAIN)
    )


def _rule_out_the_rest(match: Match, degrees: NDArray[np.float64]) -> Match:
    """The match where what is recognised and not asked for is ruled out, too."""
    known = np.array([concept.recognises for concept in BANK])
    other, name = _something_else(match.relevant, np.where(known, degrees, 0))
    return match if other <= match.spurious else replace(match, spurious=other, recognised=name)


def _something_else(asked: float, degrees: NDArray[np.float64]) -> tuple[float, str]:
    """How far a region is recognised, and as what, if its affinity to what it is not to be is `asked`."""
    best = int(np.argmax(degrees))
    if degrees[best] < CERTAIN:
        return 0.0, ""
    return float(degrees[best]) * max(0.0, 1 - asked / _ASKED), BANK[best].name


def _closest(
    phrases: tuple[Phrase, ...], affinities: NDArray[np.float64], degrees: NDArray[np.float64]
) -> tuple[float, str]:
    """The affinity of the closest phrase, and its words; (0, "") where there is no phrase."""
    inserted = np.where([concept.inserted for concept in BANK], degrees, 0)
    best, words = 0.0, ""
    for phrase, affinity in zip(phrases, affinities, strict=True):
        value = float(affinity)
        if phrase.complement:
            value = _something_else(value, inserted)[0] if phrase.core else 0.0
        if not words or value > best:
            best, words = value, phrase.words
    return best, words


def _meanings(phrases: tuple[Phrase, ...]) -> NDArray[np.float64]:
    """(phrases, concepts) weights, rows sum to 1."""
    bank, owner = _bank()
    if not phrases:
        return np.zeros((0, len(BANK)))
    similar = _vectors(tuple(phrase.core for phrase in phrases)) @ bank.T
    best = np.stack([similar[:, owner == c].max(axis=1) for c in range(len(BANK))], axis=1)
    best -= [concept.handicap for concept in BANK]
    weights = np.exp((best - best.max(axis=1, keepdims=True)) / _TEMPERATURE)
    clear = np.clip((best.max(axis=1) - _VAGUE) / (_CLEAR - _VAGUE), 0, 1)
    meanings: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True) * clear[:, None]
    return meanings


@lru_cache(maxsize=256)
def _vectors(phrases: tuple[str, ...]) -> NDArray[np.float64]:
    """Unit vectors of phrases; the same ones come with every class and with every change of words."""
    return encode(phrases).astype(np.float64)


@cache
def _bank() -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Unit vectors of all phrases of the bank, and the concept each belongs to."""
    owner = np.repeat(np.arange(len(BANK)), [len(concept.phrases) for concept in BANK])
    return encode([phrase for concept in BANK for phrase in concept.phrases]).astype(np.float64), owner
