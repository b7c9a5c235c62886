"""What the model relied on, in words: the reasons of all verdicts, those of like meaning taken together."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lvlm_va.critique.question import Subject
from lvlm_va.critique.verdict import Verdict

__all__ = ["ClassReliance", "Ground", "Reliance", "summarise_reliance"]

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""n sentences to (n, d) unit vectors."""

_LIKE = 0.55  # cosine; at 0.6 a "box" and a "patch" in a corner part, at 0.5 a tag and a patch meet
_AMOUNT = re.compile(r"\b(?:(?:all|less than|\d+(?:\.\d+)?\s*%)\s+)+of\b|\d+(?:\.\d+)?\s*%?")


@dataclass(frozen=True)
class Ground:
    """One thing that verdicts name as their reason.

    Attributes:
        reason: the words of its most typical reason, as they were given.
        wordings: how many different wordings stand for it, amounts aside.
        spurious: whether it was condemned.
        strongest: pictures whose strongest segment (largest S_j) it is.
        present: pictures in which any segment is.
    """

    reason: str
    wordings: int
    spurious: bool
    strongest: int
    present: int


@dataclass(frozen=True)
class ClassReliance:
    """The strongest segments of one class.

    Attributes:
        name: of the true class.
        pictures: critiqued pictures of it.
        condemned: those whose strongest segment was condemned.
        ground: what the strongest segments are most often; None where none has a verdict.
        on_ground: pictures whose strongest segment that is.
    """

    name: str
    pictures: int
    condemned: int
    ground: Ground | None
    on_ground: int


@dataclass(frozen=True)
class Reliance:
    """Over all critiqued pictures.

    Attributes:
        pictures: with at least one segment.
        condemned, accepted, unscored: how many of them have a strongest segment with that verdict.
        grounds: most often strongest first.
        classes: in the order in which classes were given, those without pictures left out.
    """

    pictures: int
    condemned: int
    accepted: int
    unscored: int
    grounds: tuple[Ground, ...]
    classes: tuple[ClassReliance, ...]


def summarise_reliance(
    subjects: Sequence[Subject], verdicts: Sequence[Verdict], class_names: Sequence[str], encode: Encode
) -> Reliance:
    """Sum up what the segments were said to cover.

    Reasons are the free text of a critic or a person. Those that differ in amounts only ("85% of the
    stroke") count as the same wording; wordings are then grouped by the cosine similarity of their
    meanings, the most frequent one first, separately for condemned and accepted segments.

    Args:
        subjects: the critiqued pictures; those without segments are left out.
        verdicts: in force, any order.
        class_names: the classes, in the order wanted.
        encode: gives the meanings; not called where there is one wording at most.
    """
    usable = [subject for subject in subjects if subject.marks]
    verdict_of = {(v.image_id, v.segment): v for v in verdicts}
    strongest = {s.image_id: verdict_of.get((s.image_id, _strongest(s))) for s in usable}
    group_of = _group(verdicts, encode)

    grounds: dict[tuple[bool, int], Ground] = {}
    for key in sorted(set(group_of.values())):
        members = [v for v in verdicts if group_of.get(_wording(v)) == key]
        top = [v for v in strongest.values() if v is not None and group_of.get(_wording(v)) == key]
        grounds[key] = Ground(
            reason=_typical(members, encode),
            wordings=len({_wording(v) for v in members}),
            spurious=key[0],
            strongest=len(top),
            present=len({v.image_id for v in members}),
        )
    outcomes = Counter(None if v is None else v.spurious for v in strongest.values())
    return Reliance(
        pictures=len(usable),
        condemned=outcomes[True],
        accepted=outcomes[False],
        unscored=outcomes[None],
        grounds=tuple(sorted(grounds.values(), key=lambda g: (-g.strongest, -g.present, g.reason))),
        classes=tuple(
            _of_class(name, [strongest[s.image_id] for s in usable if s.class_name == name], group_of, grounds)
            for name in class_names
            if any(s.class_name == name for s in usable)
        ),
    )


def _of_class(
    name: str,
    strongest: Sequence[Verdict | None],
    group_of: Mapping[tuple[bool, str], tuple[bool, int]],
    grounds: Mapping[tuple[bool, int], Ground],
) -> ClassReliance:
    scored = [v for v in strongest if v is not None and v.spurious is not None]
    most = Counter(group_of[_wording(v)] for v in scored).most_common(1)
    return ClassReliance(
        name=name,
        pictures=len(strongest),
        condemned=sum(v.spurious is True for v in scored),
        ground=grounds[most[0][0]] if most else None,
        on_ground=most[0][1] if most else 0,
    )


def _strongest(subject: Subject) -> int:
    """The segment that holds most of the positive attribution, of those that are drawn."""
    return max(subject.marks, key=lambda j: subject.shares[j - 1])


def _wording(verdict: Verdict) -> tuple[bool, str]:
    """The verdict and its reason without amounts, case and white space."""
    words = " ".join(_AMOUNT.sub(" ", verdict.reason.casefold()).split())
    return bool(verdict.spurious), words


def _group(verdicts: Sequence[Verdict], encode: Encode) -> dict[tuple[bool, str], tuple[bool, int]]:
    """Wording → (condemned, number of its group); unscored segments have no reason, only a cause."""
    groups: dict[tuple[bool, str], tuple[bool, int]] = {}
    for spurious in (True, False):
        counted = Counter(_wording(v) for v in verdicts if v.spurious is spurious)
        left = [wording for wording, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0]))]
        vectors = _meanings([words for _, words in left], encode)
        alike = dict(zip(left, vectors, strict=True))
        number = 0
        while left:
            seed = alike[left[0]]
            members = [w for i, w in enumerate(left) if i == 0 or float(alike[w] @ seed) >= _LIKE]
            groups |= dict.fromkeys(members, (spurious, number))
            left = [w for w in left if w not in groups]
            number += 1
    return groups


def _typical(members: Sequence[Verdict], encode: Encode) -> str:
    """The reason nearest to all others (the medoid); of equals the most frequent, then the first."""
    counted = Counter(v.reason for v in members)
    wordings = {reason: _wording(v)[1] for v in members for reason in (v.reason,)}
    texts = sorted(set(wordings.values()))
    vectors = dict(zip(texts, _meanings(texts, encode), strict=True))
    centre = sum(n * vectors[wordings[reason]] for reason, n in counted.items())
    return max(counted, key=lambda r: (round(float(vectors[wordings[r]] @ centre), 6), counted[r]))


def _meanings(texts: Sequence[str], encode: Encode) -> NDArray[np.float32]:
    return np.ones((len(texts), 1), np.float32) if len(texts) < 2 else encode(texts)
