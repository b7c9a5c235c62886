"""What the model relied on, in words: the reasons of all verdicts, those of like meaning taken together."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.unanswered import unscored_evidence
from lvlm_va.critique.verdict import Verdict

__all__ = ["ClassReliance", "Locate", "Reason", "Reliance", "summarise_reliance", "wording"]

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""n sentences to (n, d) unit vectors."""
Locate = Callable[[ExplainedImage, Sequence[Verdict]], Sequence[NDArray[np.bool_] | None]]
"""An image and verdicts on it to the things that their reasons name, each (H, W) bool; None where unknown."""
Key = tuple[bool, str]
"""Condemned or accepted, and a wording."""
Kind = tuple[bool, str]
"""Condemned or accepted, and the wording that stands for all that are like it."""
Member = tuple[str, int]
"""A segment: the image's id, and its number."""

_LIKE = 0.55  # cosine; at 0.6 a "box" and a "patch" in a corner part, at 0.5 a tag and a patch meet
_QUOTED = re.compile(r'"([^"]*)"|“([^“”]*)”')
"""What a reason quotes: a phrase of the specification, as the built-in critic does and others may."""
_PHRASE = 8  # characters at least; what is shorter quotes the image, such as a letter read in it
_ALTHOUGH = ", although "
# Amounts in a row are few: without a bound, "all all all ..." would be gone through from each of them again.
_AMOUNT = re.compile(
    r"\b(?:(?:all|less than|\d{1,9}(?:\.\d{1,9})?\s?%)\s){1,4}of\b|\b\d{1,9}(?:\.\d{1,9})?(?:\s?%|\b)"
)


@dataclass(frozen=True)
class Reason:
    """One thing that verdicts name as their reason.

    A segment seldom covers one thing only, so that its share is no measure of what it was judged for:
    `evidence` is what lies in the segments, `on_thing` what of it lies on the thing itself.

    Attributes:
        reason: the words of its most typical reason, or the phrase quoted in it.
        wordings: how many different wordings stand for it, amounts aside.
        spurious: whether it was condemned.
        strongest: images whose strongest segment (largest S_j) it is.
        present: images in which any segment is.
        evidence: share of the evidence in its segments: Σ S_j over those of an image, as a part of all S_j
            of that image, averaged over all images; in [0, 1].
        on_thing: what of this share lies on the things that its reasons name, in [0, evidence]; None where
            one of them could not be located.
        error: standard error of that mean; NaN for a single image.
        by_class: class name → the same mean over the images of that class, classes without images left
            out.
        members: its segments as (image_id, segment), those with the largest part of their image's
            evidence first.
    """

    reason: str
    wordings: int
    spurious: bool
    strongest: int
    present: int
    evidence: float
    on_thing: float | None
    error: float
    by_class: Mapping[str, float]
    members: tuple[Member, ...]

    @property
    def credited(self) -> float:
        """The evidence on the thing itself; all that lies in its segments where that is not known."""
        return self.evidence if self.on_thing is None else self.on_thing


@dataclass(frozen=True)
class ClassReliance:
    """The strongest segments of one class.

    Attributes:
        name: of the true class.
        images: critiqued images of it.
        condemned: those whose strongest segment was condemned.
        reason: the most typical reason of the kind that its strongest segments most often have; "" where
            none has a verdict.
        spurious: the verdict that goes with it; None where none has one.
        alike: images whose strongest segment is of that kind.
    """

    name: str
    images: int
    condemned: int
    reason: str
    spurious: bool | None
    alike: int


@dataclass(frozen=True)
class Reliance:
    """Over all critiqued images.

    Attributes:
        images: with at least one segment.
        condemned, accepted, unscored: how many of them have a strongest segment with that verdict.
        grounds: most often strongest first.
        classes: in the order in which classes were given, those without images left out.
        unscored_evidence: share of the evidence in segments without a verdict, in [0, 1]; with that of all
            grounds it makes 1.
        condemned_shares: of each image, the share of its evidence in condemned segments, in [0, 1].
    """

    images: int
    condemned: int
    accepted: int
    unscored: int
    grounds: tuple[Reason, ...]
    classes: tuple[ClassReliance, ...]
    unscored_evidence: float
    condemned_shares: tuple[float, ...]

    @property
    def ranked(self) -> tuple[Reason, ...]:
        """The grounds by importance: condemned ones first, each kind by the evidence credited to it."""
        return tuple(sorted(self.grounds, key=lambda g: (not g.spurious, -g.credited, -g.evidence, g.reason)))

    def evidence(self, *, spurious: bool) -> float:
        """Share of the evidence in condemned (or accepted) segments, in [0, 1]."""
        return sum(ground.evidence for ground in self.grounds if ground.spurious == spurious)


def summarise_reliance(
    explained_images: Sequence[ExplainedImage],
    verdicts: Sequence[Verdict],
    class_names: Sequence[str],
    encode: Encode,
    locate: Locate | None = None,
) -> Reliance:
    """Sum up what the segments were said to cover.

    Reasons are the free text of a critic or a person. Where one quotes a phrase (of the specification, as a
    rule), that phrase stands for it. Those that differ in amounts only ("85% of the stroke") count as the
    same wording; wordings are then grouped by the cosine similarity of their
    meanings, the most frequent one first, separately for condemned and accepted segments.

    Args:
        explained_images: the critiqued images; those without segments are left out.
        verdicts: in force, any order.
        class_names: the classes, in the order wanted.
        encode: gives the meanings; not called where there is one wording at most.
        locate: finds what reasons name; without it no evidence is credited to a thing.
    """
    usable = [explained for explained in explained_images if explained.segment_ids]
    scored = [v for v in verdicts if v.spurious is not None]
    texts = sorted({wording(v) for v in scored})
    meanings = dict(
        zip(texts, encode(texts) if len(texts) > 1 else np.ones((1, 1), np.float32), strict=False)
    )
    kind_of = _kinds(scored, meanings)

    verdict_of = {(v.image_id, v.segment): v for v in verdicts}
    strongest = {s.image_id: verdict_of.get((s.image_id, _strongest(s))) for s in usable}
    outcomes = Counter(None if v is None else v.spurious for v in strongest.values())
    top = Counter(kind_of[_key(v)] for v in strongest.values() if v is not None and v.spurious is not None)
    members: dict[Kind, list[Verdict]] = {}
    for verdict in scored:
        members.setdefault(kind_of[_key(verdict)], []).append(verdict)
    parts = _parts(usable)
    credited = _credited(usable, scored, parts, locate) if locate else {}
    rows = _Rows.of(usable)
    grounds = [
        Reason(
            reason=_typical(alike, meanings),
            wordings=len({wording(v) for v in alike}),
            spurious=kind[0],
            strongest=top[kind],
            present=len({v.image_id for v in alike}),
            **_evidence(alike, rows, parts, credited),
        )
        for kind, alike in members.items()
    ]
    return Reliance(
        images=len(usable),
        condemned=outcomes[True],
        accepted=outcomes[False],
        unscored=outcomes[None],
        grounds=tuple(sorted(grounds, key=lambda g: (-g.strongest, -g.present, g.reason))),
        classes=tuple(
            _of_class(name, [strongest[usable[n].image_id] for n in rows.of_class[name]], kind_of, meanings)
            for name in class_names
            if name in rows.of_class
        ),
        unscored_evidence=unscored_evidence(usable, verdicts) or 0.0,
        condemned_shares=_condemned_shares(usable, verdict_of, parts),
    )


def _condemned_shares(
    usable: Sequence[ExplainedImage], verdict_of: Mapping[Member, Verdict], parts: Mapping[Member, float]
) -> tuple[float, ...]:
    condemned = {member for member, verdict in verdict_of.items() if verdict.spurious}
    return tuple(
        sum(parts[one.image_id, j] for j in one.segment_ids if (one.image_id, j) in condemned)
        for one in usable
    )


def _parts(usable: Sequence[ExplainedImage]) -> dict[Member, float]:
    """The part of its image's evidence that each segment holds; they sum to 1 in every image."""
    totals = {s.image_id: sum(s.shares[j - 1] for j in s.segment_ids) for s in usable}
    return {(s.image_id, j): s.shares[j - 1] / totals[s.image_id] for s in usable for j in s.segment_ids}


def _credited(
    usable: Sequence[ExplainedImage],
    scored: Sequence[Verdict],
    parts: Mapping[Member, float],
    locate: Locate,
) -> dict[Member, float]:
    """The part of its image's evidence that lies in a segment and on the thing that it was judged for.

    Segments whose thing could not be located are left out.
    """
    of_image: dict[str, list[Verdict]] = {}
    for verdict in scored:
        of_image.setdefault(verdict.image_id, []).append(verdict)
    credited: dict[Member, float] = {}
    for explained in usable:
        verdicts = [v for v in of_image.get(explained.image_id, []) if (v.image_id, v.segment) in parts]
        positive = np.maximum(np.nan_to_num(explained.attribution), 0).astype(np.float64)
        for verdict, thing in zip(verdicts, locate(explained, verdicts) if verdicts else (), strict=True):
            if thing is None:
                continue
            inside = np.where(explained.segments == verdict.segment, positive, 0.0)
            held, member = float(inside.sum()), (verdict.image_id, verdict.segment)
            credited[member] = parts[member] * float(inside[thing].sum()) / held if held else 0.0
    return credited


@dataclass(frozen=True, eq=False)
class _Rows:
    """Where each image stands among N.

    Attributes:
        of_image: its id → row.
        of_class: class name → rows, ascending; in the order of their first.
    """

    of_image: Mapping[str, int]
    of_class: Mapping[str, NDArray[np.int64]]

    @staticmethod
    def of(usable: Sequence[ExplainedImage]) -> "_Rows":
        rows: dict[str, list[int]] = {}
        for n, explained in enumerate(usable):
            rows.setdefault(explained.class_name, []).append(n)
        return _Rows(
            {explained.image_id: n for n, explained in enumerate(usable)},
            {name: np.array(of_this) for name, of_this in rows.items()},
        )


def _evidence(
    alike: Sequence[Verdict],
    rows: _Rows,
    parts: Mapping[Member, float],
    credited: Mapping[Member, float],
) -> dict[str, Any]:
    """What a `Reason` says about the evidence of its segments."""
    members = sorted(
        {(v.image_id, v.segment) for v in alike} & parts.keys(), key=lambda member: (-parts[member], member)
    )
    held = np.zeros(len(rows.of_image))
    for member in members:
        held[rows.of_image[member[0]]] += parts[member]
    return {
        "evidence": float(held.mean()),
        "on_thing": sum(credited[member] for member in members) / len(held)
        if members and all(member in credited for member in members)
        else None,
        "error": float(held.std(ddof=1) / np.sqrt(len(held))) if len(held) > 1 else float("nan"),
        "by_class": {name: float(held[of_this].mean()) for name, of_this in rows.of_class.items()},
        "members": tuple(members),
    }


def _of_class(
    name: str,
    strongest: Sequence[Verdict | None],
    kind_of: Mapping[Key, Kind],
    meanings: Mapping[str, NDArray[np.float32]],
) -> ClassReliance:
    scored = [v for v in strongest if v is not None and v.spurious is not None]
    most = Counter(kind_of[_key(v)] for v in scored).most_common(1)
    kind = most[0][0] if most else None
    return ClassReliance(
        name=name,
        images=len(strongest),
        condemned=sum(v.spurious is True for v in scored),
        reason=_typical([v for v in scored if kind_of[_key(v)] == kind], meanings) if kind else "",
        spurious=kind[0] if kind else None,
        alike=most[0][1] if most else 0,
    )


def _strongest(explained: ExplainedImage) -> int:
    """The segment that holds most of the positive attribution, of those that are drawn."""
    return max(explained.segment_ids, key=lambda j: explained.shares[j - 1])


def _essence(reason: str) -> str:
    """The phrase that the reason quotes last, with its reservation if it has one; else the whole reason."""
    quoted = ["".join(pair) for pair in _QUOTED.findall(reason)]
    phrases = [words for words in quoted if len(words) >= _PHRASE]
    if not phrases:
        return reason
    reservation = _reservation(reason)
    return f"{phrases[-1]}{_ALTHOUGH}{reservation}" if reservation else phrases[-1]


def _reservation(reason: str) -> str:
    """What comes after ", although ": a thing that is there but bears no evidence is another reason."""
    return reason.partition(_ALTHOUGH)[2]


def wording(verdict: Verdict) -> str:
    """The essence of the reason without amounts, case and superfluous white space."""
    return _wording(verdict.reason)


@lru_cache(maxsize=1 << 14)
def _wording(reason: str) -> str:
    words = " ".join(_essence(reason).casefold().split())
    return " ".join(_AMOUNT.sub(" ", words).split())


def _key(verdict: Verdict) -> Key:
    return bool(verdict.spurious), wording(verdict)


def _kinds(verdicts: Sequence[Verdict], meanings: Mapping[str, NDArray[np.float32]]) -> dict[Key, Kind]:
    """Group the wordings: the most frequent one takes all that are like it, then the next of the rest."""
    kinds: dict[Key, Kind] = {}
    for spurious in (True, False):
        counted = Counter(wording(v) for v in verdicts if v.spurious is spurious)
        left = np.array(sorted(counted, key=lambda wording: (-counted[wording], wording)), dtype=object)
        reservations = np.array([_reservation(w) for w in left], dtype=object)
        vectors = np.stack([meanings[w] for w in left]) if len(left) else np.empty((0, 1), np.float32)
        while len(left):
            alike = (reservations == reservations[0]) & (vectors @ vectors[0] >= _LIKE)
            alike[0] = True
            kind = (spurious, left[0])
            kinds |= {(spurious, w): kind for w in left[alike]}
            left, reservations, vectors = left[~alike], reservations[~alike], vectors[~alike]
    return kinds


def _typical(members: Sequence[Verdict], meanings: Mapping[str, NDArray[np.float32]]) -> str:
    """The reason nearest to all others (the medoid); of equals the most frequent, then the first by name."""
    counted = Counter((_essence(v.reason), wording(v)) for v in members)
    centre = np.sum([n * meanings[wording] for (_, wording), n in counted.items()], axis=0)
    nearness = {key: round(float(meanings[key[1]] @ centre), 4) for key in counted}
    return min(counted, key=lambda key: (-nearness[key], -counted[key], key))[0]
