"""What each segment holds, and which way the expert's words weigh it.

A segment tiles the image together with the others, so it seldom covers one thing only. Every region
that has a foot in it gets a vote,

    w = √h · √a / max(a, 2 %),   a quarter of that for the ground,

with h the share of the region that lies in the segment and a the region's share of the image. So a
small thing that lies there outweighs a large one that merely reaches in, even if another segment has the
larger part of it (hence √h, not h); a speck weighs little; and the ground, which is everywhere, decides
only where there is nothing else. With these votes

    score = Σ w · score(region) / Σ w   ∈ [−1, 1].

The weights do not look at the specification: the score keeps the antisymmetry of `weighing`.

A segment is condemned only where what speaks most for it is recognised with certainty as what is ruled out,
and where the segment's evidence lies: on a twentieth of it at least, or as densely as anywhere in the
segment. (A flat block in a drawing is condemned without evidence, too: it is measured to the pixel, and a
class may be told by its absence, which bears no positive evidence.) Where all but the core is to be
condemned, a segment is valid only where what speaks most for it is recognised with certainty as what is asked
for. All else has no verdict: to condemn what matters does harm, to miss what does not leaves the model as it
was.
"""

from dataclasses import dataclass

import numpy as np

from lvlm_va.critique.backends.builtin.weighing import CERTAIN, Match, Scales
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.vision.measures import Measures, measure_all, place_of
from lvlm_va.vision.regions import Scene

__all__ = ["MARGIN", "Finding", "Part", "assess"]

MARGIN = 0.05
"""|score| below which the critic says that it cannot tell."""

_FOOT = 0.05  # share of a region that must lie in a segment for the region to count there
_SPECK = 0.02  # share of the image below which a smaller region weighs less
_GROUND = 0.25  # what the ground's vote counts
_BEARS = 0.05  # share of a segment's evidence that lies on what it is condemned for
_HEAD = 0.10  # or: share of the segment's positive attribution that the region must hold


@dataclass(frozen=True)
class Part:
    """The part of one region that lies in one segment.

    Attributes:
        region: index of the region in the scene.
        measures: of the whole region.
        match: of the whole region with the expert's words.
        held: share of the region that lies in the segment.
        attribution: share of the segment's positive attribution that lies on it.
        area: share of the segment's pixels that lie on it.
        weight: w above.
    """

    region: int
    measures: Measures
    match: Match
    held: float
    attribution: float
    area: float
    weight: float

    @property
    def bears_evidence(self) -> bool:
        """Whether the segment's evidence lies on it, or as densely as on the rest of the segment."""
        return self.attribution >= min(_BEARS, self.area) and self.attribution > 0


@dataclass(frozen=True)
class Finding:
    """One segment.

    Attributes:
        segment: its mark.
        pixels: its area.
        share: of all positive attribution.
        place: where it lies, in words.
        parts: heaviest vote first; empty only where the segment has no foot in anything.
        score: in [−1, 1]; positive is spurious.
        certain: whether it is valid only where that is certain.
    """

    segment: int
    pixels: int
    share: float
    place: str
    parts: tuple[Part, ...]
    score: float
    certain: bool = False

    @property
    def spurious(self) -> bool | None:
        """The verdict, or None where the words weigh about the same on both sides, or certainty lacks."""
        part = self.decisive
        if abs(self.score) < MARGIN or part is None:
            return None
        if self.score > 0:
            looked_at = part.bears_evidence or part.measures.role == "block"
            return True if part.match.spurious >= CERTAIN and looked_at else None
        return False if part.match.relevant >= CERTAIN or not self.certain else None

    @property
    def decisive(self) -> Part | None:
        """The part that speaks most for the verdict."""
        sign = 1 if self.score > 0 else -1
        return max(self.parts, key=lambda p: sign * p.weight * p.match.score, default=None)


def assess(
    explained: ExplainedImage, scene: Scene, scales: Scales, measures: tuple[Measures, ...] | None = None
) -> tuple[tuple[Measures, ...], tuple[Finding, ...]]:
    """Measure and weigh everything once per region, then once per segment and region.

    Args:
        explained: the explained image.
        scene: what is in it.
        scales: the words to weigh that against.
        measures: of the scene's regions, where they were taken before.

    Returns:
        the measures of the scene's regions, and one finding per mark of the subject.
    """
    if measures is None:
        measures = measure_all(scene)
    matches = tuple(scales.weigh(m) for m in measures)
    positive = np.clip(np.nan_to_num(explained.attribution), 0, None)

    findings = []
    for segment in explained.segment_ids:
        inside = explained.segments == segment
        evidence = float(positive[inside].sum())
        parts = []
        for index, region in enumerate(scene.regions):
            common = inside & region.mask
            if not common.any():
                continue
            held = float(common.sum() / region.mask.sum())
            attribution = float(positive[common].sum()) / evidence if evidence > 0 else 0.0
            if held >= _FOOT or attribution >= _HEAD:
                weight = float(np.sqrt(held)) * _vote(measures[index])
                area = float(common.sum() / inside.sum())
                parts.append(Part(index, measures[index], matches[index], held, attribution, area, weight))
        parts.sort(key=lambda part: -part.weight)
        total = sum(part.weight for part in parts)
        score = sum(part.weight * part.match.score for part in parts) / total if parts else 0.0
        findings.append(
            Finding(
                segment=segment,
                pixels=int(inside.sum()),
                share=explained.shares[segment - 1] if segment <= len(explained.shares) else 0.0,
                place=place_of(inside),
                parts=tuple(parts),
                score=score,
                certain=scales.intervene == "core",
            )
        )
    return measures, tuple(findings)


def _vote(m: Measures) -> float:
    """The vote of a region that lies in a segment whole: w at h = 1."""
    vote = float(np.sqrt(m.area)) / max(m.area, _SPECK)
    return _GROUND * vote if m.role == "ground" else vote
