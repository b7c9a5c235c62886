"""What a diagnosis found, typed: diagnosis.json, what the classifier relies on, ranked."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from lvlm_va.run.metrics import Defined, Measured, Record

__all__ = [
    "Class",
    "Diagnosed",
    "Evidence",
    "Example",
    "Ground",
    "GroundOfClass",
    "StrongestSegment",
]

Verdict = Literal["spurious", "valid", "unscored"]


class Evidence(Record):
    """Shares of the evidence by verdict, averaged over the critiqued images; they sum to 1."""

    condemned: float
    accepted: float
    unscored: float
    condemned_interval: tuple[float, float] | None = Field(
        None, description="95 % interval of `condemned` over the draw of the images"
    )


class StrongestSegment(Record):
    """Images by the verdict on their strongest segment."""

    images: int
    condemned: int
    accepted: int
    unscored: int


class Example(Record):
    """A segment that shows a ground."""

    image_id: str
    segment: int
    class_name: str
    predicted: str
    share: float
    reason: str
    author: str


class Ground(Record):
    """The segments that were judged for one reason, and the evidence in them."""

    rank: int
    reason: str
    verdict: Verdict
    evidence: float = Field(
        description="share of the evidence in segments judged so, mean over the critiqued images"
    )
    on_thing: float | None = Field(
        default=None,
        description="what of it lies on the things that the reasons name; null: not all could be located",
    )
    standard_error: Defined
    images: int
    strongest: int = Field(description="images whose strongest segment it is")
    segments: int
    wordings: int
    by_class: Mapping[str, float]
    with_planted_feature: int | None = Field(
        description="segments with part of it (an oracle); null: unknown"
    )
    examples: tuple[Example, ...]


class GroundOfClass(Record):
    """The share of the evidence in a ground's segments, in one class."""

    rank: int
    reason: str
    verdict: Verdict
    evidence: float


class Class(Record):
    """What holds the evidence in one class."""

    name: str
    images: int
    condemned: float
    accepted: float
    unscored: float
    grounds: tuple[GroundOfClass, ...]


class Diagnosed(Measured):
    """diagnosis.json: what the classifier relies on, ranked."""

    project: str
    evidence: Evidence
    strongest_segment: StrongestSegment
    grounds: tuple[Ground, ...]
    classes: tuple[Class, ...]
