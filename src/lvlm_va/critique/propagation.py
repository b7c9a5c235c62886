"""What a critic said of asked segments, carried over to those that look and lie alike.

A segment that was not asked about takes the verdict on which the asked ones most like it agree, and says
where it comes from. Where they disagree, or nothing asked is like it, it is unscored: never a default.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt

import numpy as np
from scipy.spatial.distance import cdist

from lvlm_va.critique.question import Subject
from lvlm_va.critique.segment_similarity import Likeness
from lvlm_va.critique.verdict import Verdict

__all__ = ["Agreement", "agreement", "propagate", "wilson"]

_NEIGHBOURS = 3
_AGREED = 0.6  # share of the neighbours' weight that one verdict must have: two of three that are as near


def propagate(
    likeness: Likeness,
    subjects: Sequence[Subject],
    said: Mapping[tuple[str, int], Verdict],
    asked: Collection[int],
    wanted: Collection[int],
    far: Mapping[int, float],
    author: str,
) -> list[Verdict]:
    """Verdicts on pictures that were not asked about.

    Each segment is compared with the asked ones of its kind (see `Likeness`) that have a verdict; the three
    nearest vote, each with the inverse of its distance.

    Args:
        likeness: of all segments.
        subjects: the explained pictures.
        said: (image id, segment) → what the critic said.
        asked: positions of the pictures whose verdicts are carried over.
        wanted: positions of the pictures that get them; none of them is in `asked`.
        far: kind → distance beyond which segments are not alike.
        author: of what was said.

    Returns:
        One verdict per segment of the wanted pictures, in the order of subjects and marks. Its reason is the
        nearest agreeing neighbour's, its author says that and from where it was propagated.
    """
    verdicts = [
        said.get((subjects[i].image_id, int(j)))
        for i, j in zip(likeness.pictures, likeness.marks, strict=True)
    ]
    known = np.array([v is not None and v.spurious is not None for v in verdicts], dtype=np.bool_)
    source = known & np.isin(likeness.pictures, list(asked))
    found = []
    for i in np.flatnonzero(np.isin(likeness.pictures, list(wanted))):
        pool = np.flatnonzero(source & (likeness.kinds == likeness.kinds[i]))
        distances = cdist(likeness.vectors[i : i + 1], likeness.vectors[pool])[0]
        near = np.argsort(distances, kind="stable")[:_NEIGHBOURS]
        near = near[distances[near] <= far[int(likeness.kinds[i])]]
        neighbours = [v for v in (verdicts[n] for n in pool[near]) if v is not None]
        found.append(
            _vote(
                subjects[likeness.pictures[i]].image_id,
                int(likeness.marks[i]),
                neighbours,
                distances[near].tolist(),
                author,
            )
        )
    return found


def _vote(
    image_id: str, segment: int, neighbours: Sequence[Verdict], distances: Sequence[float], author: str
) -> Verdict:
    """The verdict of the neighbours, the nearest first."""
    if not neighbours:
        return Verdict(image_id, segment, None, "nothing that was asked about is like it", _not_asked(author))
    # An exact copy leaves the others no say.
    weights = [1 / max(distance, 1e-9) for distance in distances]
    condemning = sum(w for w, v in zip(weights, neighbours, strict=True) if v.spurious)
    share = condemning / sum(weights)
    if max(share, 1 - share) < _AGREED:
        names = " and ".join(_name(v) for v in neighbours[:2])
        reason = f"what was asked about and is most like it got different verdicts, for example {names}"
        return Verdict(image_id, segment, None, reason, _not_asked(author))
    agreeing = [v for v in neighbours if v.spurious == (share > 0.5)]
    count = f"; {len(agreeing)} of {len(neighbours)} like it agree" if len(neighbours) > 1 else ""
    origin = f"{author}, propagated from {_name(agreeing[0])}{count}"
    return Verdict(image_id, segment, agreeing[0].spurious, agreeing[0].reason, origin)


def _name(verdict: Verdict) -> str:
    return f"segment {verdict.segment} of {verdict.image_id}"


def _not_asked(author: str) -> str:
    return f"{author}, not asked"


@dataclass(frozen=True)
class Agreement:
    """Propagated against asked verdicts, on pictures drawn at random.

    Attributes:
        pictures: how many.
        segments: their segments with an asked verdict.
        unscored: those of them that propagation left without one.
        agreed: those whose propagated verdict is the asked one.
        share: agreed / (segments − unscored), in [0, 1]; None where nothing could be compared.
        low, high: 95 % Wilson interval of `share`. It counts segments as independent; those of one picture
            are not quite.
    """

    pictures: int
    segments: int
    unscored: int
    agreed: int
    share: float | None
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """For JSON."""
        return asdict(self)


def agreement(
    propagated: Sequence[Verdict], said: Mapping[tuple[str, int], Verdict], pictures: int
) -> Agreement:
    """Compare verdicts propagated to `pictures` pictures with what the critic said of the same segments."""
    pairs = []
    for verdict in propagated:
        asked = said.get((verdict.image_id, verdict.segment))
        if asked is not None and asked.spurious is not None:
            pairs.append((verdict.spurious, asked.spurious))
    compared = [(p, a) for p, a in pairs if p is not None]
    agreed = sum(p == a for p, a in compared)
    low, high = wilson(agreed, len(compared))
    return Agreement(
        pictures=pictures,
        segments=len(pairs),
        unscored=len(pairs) - len(compared),
        agreed=agreed,
        share=agreed / len(compared) if compared else None,
        low=low,
        high=high,
    )


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval of a share, 95 % by default; (0, 1) where n = 0 (Wilson 1927)."""
    if n == 0:
        return 0.0, 1.0
    p, spread = hits / n, z * z / n
    middle = (p + spread / 2) / (1 + spread)
    half = sqrt(p * (1 - p) * spread + spread * spread / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
