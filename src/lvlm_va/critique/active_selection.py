"""Which images to ask about, so that their answers say most about the others.

A question is about a whole image, so images are chosen, not segments. One after the other, the image
comes next whose segments bring those of all images nearest to something that was asked about: greedy
maximisation of

    Σ_i max(0, 2 far_k − min over asked segments s of the kind k of i: d(i, s)),

which is submodular, so that the greedy choice reaches at least 1 − 1/e of the best (Nemhauser, Wolsey and
Fisher 1978), and a larger budget only adds images to those of a smaller one.
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from lvlm_va.critique.segment_similarity import Likeness

__all__ = ["Plan", "choose_images"]

_LEAST_VERIFIED = 8  # images; fewer say nothing about how far propagated verdicts can be trusted


@dataclass(frozen=True)
class Plan:
    """Which images are asked about, by position.

    Attributes:
        order: all images but the remainder, the most telling first.
        first: how many of these are asked in the first round.
        remainder: images drawn at random from those not asked in the first round; they are asked, too, and
            tell how often propagated verdicts agree with asked ones.
        far: kind → distance beyond which two of its segments are not alike: the median distance of a segment
            to the likest one in another image of its kind. What is farther from all that was asked says
            less than an image taken at random.
    """

    order: tuple[int, ...]
    first: int
    remainder: tuple[int, ...]
    far: Mapping[int, float]

    def representatives(self, step: int) -> tuple[int, ...]:
        """Those asked up to a step, 0, 1, ...: every step doubles their number."""
        return self.order[: self.first << step]


def choose_images(likeness: Likeness, images: int, *, fraction: float, verify: float, seed: int) -> Plan:
    """Plan what to ask.

    Args:
        likeness: of all segments.
        images: how many there are.
        fraction: of them that is asked about in the first round, the random remainder included: in (0, 1],
            or a number above 1.
        verify: the remainder's share of all images; it has at least 8 unless `verify` is 0, and at most
            half of what is asked.
        seed: of the remainder.
    """
    budget = min(images, max(1, round(fraction * images) if fraction <= 1 else int(fraction)))
    order, far = _order(likeness, images)
    wanted = max(_LEAST_VERIFIED, round(verify * images)) if verify and budget < images else 0
    first = budget - min(wanted, budget // 2)
    rest = np.array(order[first:], dtype=np.int64)
    drawn = np.random.default_rng(seed).permutation(rest)[: budget - first]
    remainder = tuple(sorted(drawn.tolist()))
    return Plan(tuple(i for i in order if i not in remainder), first, remainder, far)


def _order(likeness: Likeness, images: int) -> tuple[list[int], dict[int, float]]:
    """All images, each the one that says most about what those before it left open; and `Plan.far`."""
    gains = [(0.0, i) for i in set(range(images)) - set(likeness.images.tolist())]
    far: dict[int, float] = {}
    # An image says nothing about another kind, and what it says gets less with every other image. So
    # every kind has its own order, and merging them by gain gives the order of all.
    for kind in np.unique(likeness.kinds).tolist():
        members, distances = _distances(likeness, kind)
        # A segment's own image is at distance 0, as are copies: these say nothing about what is usual.
        others = distances[distances > 0]
        far[kind] = float(np.median(others)) if others.size else 1.0
        gains += [(gain, int(members[column])) for column, gain in _greedy(distances, far[kind])]
    return [image for _, image in sorted(gains, key=lambda pair: (-pair[0], pair[1]))], far


def _distances(likeness: Likeness, kind: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The kind's P images, and (n, P) distances of its n segments to the likest segment of each."""
    rows = np.flatnonzero(likeness.kinds == kind)
    vectors, owners = likeness.vectors[rows], likeness.images[rows]
    members = np.unique(owners)
    columns = [cdist(vectors, vectors[owners == p]).min(axis=1).astype(np.float32) for p in members]
    return members, np.stack(columns, axis=1)


def _greedy(distances: NDArray[np.float32], far: float) -> list[tuple[int, float]]:
    """(column, gain) of every column in greedy order; lazily, as gains only fall (Minoux 1978)."""
    nearest = np.full(len(distances), 2 * far)

    def gain(column: int) -> float:
        return float(np.maximum(nearest - distances[:, column], 0).sum())

    heap = [(-gain(column), column) for column in range(distances.shape[1])]
    heapq.heapify(heap)
    chosen: list[tuple[int, float]] = []
    while heap:
        _, column = heapq.heappop(heap)
        now = gain(column)
        if heap and (-now, column) > heap[0]:
            heapq.heappush(heap, (-now, column))
            continue
        chosen.append((column, now))
        nearest = np.minimum(nearest, distances[:, column])
    return chosen
