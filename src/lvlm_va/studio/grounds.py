"""What the classifier relies on, by the verdicts that hold now."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lvlm_va.report.reliance import Reason, Reliance, summarise_reliance
from lvlm_va.studio.reviewing import Key, Review
from lvlm_va.studio.subject import Subject
from lvlm_va.vision.encoder import encode

__all__ = ["Ground", "Grounds", "grounds_of"]


@dataclass(frozen=True)
class Ground:
    """One thing that verdicts name.

    Attributes:
        key: of it in addresses.
        what: everything that is known of it.
        segment_of: image → its segment that holds most of the evidence, the strongest images first.
    """

    key: str
    what: Reason
    segment_of: Mapping[str, int]

    @property
    def reason(self) -> str:
        """In words."""
        return self.what.reason

    @property
    def members(self) -> Sequence[Key]:
        """Its segments."""
        return self.what.members


@dataclass(frozen=True)
class Grounds:
    """All of them, ranked."""

    reliance: Reliance
    grounds: Sequence[Ground]


def grounds_of(subject: Subject) -> Grounds:
    """The ranking by the verdicts in force; computed again when one of them changes."""
    return subject.remembered("grounds", Review(subject).stamp, lambda: _grounds(subject))


def _grounds(subject: Subject) -> Grounds:
    images = list(subject.images().explained_images.values())
    names = sorted({explained.class_name for explained in images})
    verdicts = list(Review(subject).standing().in_force.values())
    reliance = summarise_reliance(images, verdicts, names, encode)
    found = []
    for reason in reliance.ranked:
        segment_of: dict[str, int] = {}
        for image_id, segment in reason.members:
            segment_of.setdefault(image_id, segment)
        key = hashlib.sha256(f"{reason.spurious} {reason.reason}".encode()).hexdigest()[:12]
        found.append(Ground(key, reason, segment_of))
    return Grounds(reliance, found)
