"""One verdict per segment: spurious, valid, or unscored with a reason."""

from dataclasses import dataclass

__all__ = ["Verdict"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """R_j for one segment of one image.

    Attributes:
        image_id: the image's id.
        segment: j ∈ {1..J}, the mark the critic saw.
        spurious: True (R_j = 1), False (R_j = 0), or None: *unscored*, never penalised.
        reason: the critic's words, or why the segment is unscored.
        author: the backend's name, or the person who overruled it.
    """

    image_id: str
    segment: int
    spurious: bool | None
    reason: str
    author: str
