"""Drawing questions at random, and yet even over verdicts, runs and classes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Candidate", "draw"]


@dataclass(frozen=True)
class Candidate:
    """Something that could be asked about.

    Attributes:
        run: its number among the runs.
        image_id: the image.
        class_name: the image's class.
        part: the segment, or the row of a test image among those explained before and after.
        spurious: the verdict on the segment; None where there is none.
    """

    run: int
    image_id: str
    class_name: str
    part: int
    spurious: bool | None


def draw(
    candidates: Sequence[Candidate],
    count: int,
    generator: np.random.Generator,
    seen: Sequence[Candidate] = (),
) -> list[Candidate]:
    """Draw `count` candidates without replacement, in random order.

    One by one the candidate is taken whose verdict was taken least so far; of these one whose image was,
    then whose run, then whose class was, then whose verdict was within its class; of these any, at random.
    So half of the verdicts are condemnations as long as there are enough of both, and an image comes again
    only after all others.

    Args:
        candidates: what there is.
        count: at most as many as there are.
        generator: of random numbers.
        seen: what other questions ask: their images count as taken.
    """
    left = [candidates[i] for i in generator.permutation(len(candidates))]
    images = Counter((one.run, one.image_id) for one in seen)
    taken: Counter[object] = Counter()
    drawn = []
    for _ in range(count):
        # min takes the first of equals, and the order is random.
        best = min(
            left,
            key=lambda one: (
                taken[one.spurious],
                images[one.run, one.image_id],
                taken["run", one.run],
                taken[one.run, one.class_name],
                taken[one.run, one.class_name, one.spurious],
            ),
        )
        left.remove(best)
        images[best.run, best.image_id] += 1
        taken.update(
            [
                best.spurious,
                ("run", best.run),
                (best.run, best.class_name),
                (best.run, best.class_name, best.spurious),
            ]
        )
        drawn.append(best)
    # In the order in which they were taken, verdicts would alternate.
    return [drawn[i] for i in generator.permutation(count)]
