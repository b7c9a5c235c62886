"""What a critic said of asked segments, carried over to those that look and lie alike.

A segment that was not asked about takes the verdict on which the asked ones most like it agree, and says
where it comes from. Where they disagree, or nothing asked is like it, it is unscored: never a default.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.segment_similarity import Likeness
from lvlm_va.critique.verdict import Verdict
from lvlm_va.evaluate.statistics import wilson

__all__ = ["Agreement", "Propagation", "agreement", "propagate", "wilson"]

_NEIGHBOURS = 3
_AGREED = 0.6  # share of the neighbours' weight that one verdict must have: two of three that are as near


def propagate(
    likeness: Likeness,
    explained_images: Sequence[ExplainedImage],
    said: Mapping[tuple[str, int], Verdict],
    asked: Collection[int],
    wanted: Collection[int],
    far: Mapping[int, float],
    author: str,
) -> list[Verdict]:
    """Verdicts on images that were not asked about.

    Each segment is compared with the asked ones of its kind (see `Likeness`) that have a verdict; the three
    nearest vote, each with the inverse of its distance.

    Args:
        likeness: of all segments.
        explained_images: the explained images.
        said: (image id, segment) → what the critic said.
        asked: positions of the images whose verdicts are carried over.
        wanted: positions of the images that get them; none of them is in `asked`.
        far: kind → distance beyond which segments are not alike.
        author: of what was said.

    Returns:
        One verdict per segment of the wanted images, in the order of images and segments. Its reason is the
        nearest agreeing neighbour's, its author says that and from where it was propagated.
    """
    verdicts = [
        said.get((explained_images[i].image_id, int(j)))
        for i, j in zip(likeness.images, likeness.segment_ids, strict=True)
    ]
    known = np.array([v is not None and v.spurious is not None for v in verdicts], dtype=np.bool_)
    source = known & np.isin(likeness.images, list(asked))
    found = []
    for i in np.flatnonzero(np.isin(likeness.images, list(wanted))):
        pool = np.flatnonzero(source & (likeness.kinds == likeness.kinds[i]))
        distances = cdist(likeness.vectors[i : i + 1], likeness.vectors[pool])[0]
        near = np.argsort(distances, kind="stable")[:_NEIGHBOURS]
        near = near[distances[near] <= far[int(likeness.kinds[i])]]
        neighbours = [v for v in (verdicts[n] for n in pool[near]) if v is not None]
        found.append(
            _vote(
                explained_images[likeness.images[i]].image_id,
                int(likeness.segment_ids[i]),
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
    """Propagated against asked verdicts, on images drawn at random.

    Attributes:
        images: how many.
        segments: their segments with an asked verdict.
        unscored: those of them that propagation left without one.
        agreed: those whose propagated verdict is the asked one.
        share: agreed / (segments − unscored), in [0, 1]; None where nothing could be compared.
        low, high: 95 % Wilson interval of `share`. It counts segments as independent; those of one image
            are not quite.
    """

    images: int
    segments: int
    unscored: int
    agreed: int
    share: float | None
    low: float
    high: float

    @classmethod
    def of(cls, pairs: Sequence[tuple[bool | None, bool | None]], images: int) -> "Agreement":
        """From (propagated, asked) verdicts on segments of so many images; None where one propagated none."""
        compared = [(mine, asked) for mine, asked in pairs if mine is not None]
        agreed = sum(mine == asked for mine, asked in compared)
        low, high = wilson(agreed, len(compared))
        return cls(
            images=images,
            segments=len(pairs),
            unscored=len(pairs) - len(compared),
            agreed=agreed,
            share=agreed / len(compared) if compared else None,
            low=low,
            high=high,
        )


def agreement(
    propagated: Sequence[Verdict], said: Mapping[tuple[str, int], Verdict], images: int
) -> Agreement:
    """Compare verdicts propagated to `images` images with what the critic said of the same segments."""
    pairs = []
    for verdict in propagated:
        asked = said.get((verdict.image_id, verdict.segment))
        if asked is not None and asked.spurious is not None:
            pairs.append((verdict.spurious, asked.spurious))
    return Agreement.of(pairs, images)


@dataclass(frozen=True)
class Propagation:
    """How many verdicts were asked for, how many propagated, and how far these can be trusted.

    Attributes:
        images: all critiqued images.
        asked: those that the critic was asked about.
        rounds: of asking.
        propagated: segments of the others that took a verdict.
        unscored: segments of the others that took none.
        verified: propagated against asked verdicts, on images drawn at random.
        required: what the lower bound of that agreement must reach, in [0, 1].
    """

    images: int
    asked: int
    rounds: int
    propagated: int
    unscored: int
    verified: Agreement
    required: float

    def __str__(self) -> str:
        checked = self.verified
        text = f"The critic was asked about {self.asked:,} of {self.images:,} images"
        if self.asked == self.images:
            return f"{text}: too few propagated verdicts agreed with asked ones to ask about fewer."
        text += (
            f"; {self.propagated:,} segments of the others took the verdict of segments that look and lie "
            f"like them, {self.unscored:,} are unscored because such segments disagree or there are none. "
        )
        if checked.share is None:
            return f"{text}NOT VERIFIED: no propagated verdict was compared with an asked one."
        text += (
            f"On {checked.images} images drawn at random, {checked.agreed} of "
            f"{checked.segments - checked.unscored} propagated verdicts are the asked ones "
            f"({checked.share:.1%}; 95 % interval {checked.low:.1%} to {checked.high:.1%})"
        )
        if checked.low < self.required:
            return f"{text}: LESS SURE THAN REQUIRED ({self.required:.0%}); ask about more."
        return f"{text}."
