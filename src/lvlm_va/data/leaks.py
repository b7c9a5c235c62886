"""The same image in two parts of a data set: what is measured on it is no measurement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lvlm_va.data.listing import TRAIN, VALIDATION

__all__ = ["Leak", "find_leaks"]

_EXAMPLES = 5


@dataclass(frozen=True)
class Leak:
    """Images that two parts share.

    Attributes:
        parts: the names of the two parts.
        count: how many images of the second are also in the first.
        examples: up to five pairs of ids, one of each part.
    """

    parts: tuple[str, str]
    count: int
    examples: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        pairs = ", ".join(f"{a} = {b}" for a, b in self.examples)
        more = "" if self.count <= len(self.examples) else ", ..."
        return f"{self.count} images of {self.parts[1]} are also in {self.parts[0]}: {pairs}{more}"


def find_leaks(parts: Mapping[str, Mapping[str, str]]) -> list[Leak]:
    """Compare what is learned and chosen by with everything later.

    Test sets may share images: one is often a part of another.

    Args:
        parts: name → (id → hash of the image); `TRAIN`, `VALIDATION`, then the test sets.
    """
    leaks = []
    names: Sequence[str] = list(parts)
    for i, first in enumerate(names):
        if first not in (TRAIN, VALIDATION):
            break
        known: dict[str, str] = {}
        for image, digest in parts[first].items():
            known.setdefault(digest, image)
        for second in names[i + 1 :]:
            pairs = [(known[d], image) for image, d in parts[second].items() if d in known]
            if pairs:
                leaks.append(Leak((first, second), len(pairs), tuple(pairs[:_EXAMPLES])))
    return leaks
