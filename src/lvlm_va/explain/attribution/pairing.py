"""Images meet baselines: each row forward once, each pair backward once.

Explaining n images against b baselines needs the activations of n + b rows, but n·b backward rows, one a
pair. Between the rules' operations a network is affine and treats rows alike, so the autograd graph of any
few rows can carry the multipliers of any few pairs. Therefore rows go forward a slice at a time, the rules
keep what they need of all of them, and the graph of the first slice carries all pairs backward, a slice at a
time. Only what is kept grows with n + b.
"""

from collections.abc import Iterator

from torch import Tensor

from lvlm_va.errors import ModelError

__all__ = ["Pairing"]

_OTHER_PATH = (
    "the model performs other operations for some images than for others, which DeepLIFT cannot compare; "
    "choose integrated-gradients or gradient-shap instead (explain.attribution in a project,"
    " method in Python)"
)


class Pairing:
    """What is kept of n images and, after them, b baselines; and the pairs that go backward now.

    Pair i·b + j is that of image i and baseline j.

    Args:
        images: n.
        baselines: b.
        size: rows that go through the network at once, at most n + b.
    """

    def __init__(self, images: int, baselines: int, size: int) -> None:
        self.images = images
        self.baselines = baselines
        self.size = size
        self._rows = range(0)
        self._pairs = range(0)
        self._kept: list[Tensor] = []
        self._calls = 0

    @property
    def rows(self) -> int:
        """The number of rows in the slice that goes forward now."""
        return len(self._rows)

    @property
    def pairs(self) -> int:
        """The number of pairs that go backward now, in the first rows of the graph."""
        return len(self._pairs)

    def slices(self) -> Iterator[slice]:
        """Turn to each slice of the n + b rows.

        Raises:
            ModelError: if a slice called fewer of the network's operations than the first.
        """
        for rows in _ranges(self.images + self.baselines, self.size):
            self._rows, self._calls = rows, 0
            yield slice(rows.start, rows.stop)
            if self._calls < len(self._kept):
                raise ModelError(_OTHER_PATH)

    def keep(self, x: Tensor) -> Tensor:
        """Copy the current slice's x, since the model may overwrite it.

        Args:
            x: (rows, ...), of the same call of the network in every slice.

        Returns:
            (n + b, ...), complete when all slices have gone forward.

        Raises:
            ModelError: if the first slice called the network's operations in another order.
        """
        if self._rows.start == 0:
            self._kept.append(x.new_empty(self.images + self.baselines, *x.shape[1:]))
        if self._calls == len(self._kept) or self._kept[self._calls].shape[1:] != x.shape[1:]:
            raise ModelError(_OTHER_PATH)
        kept = self._kept[self._calls]
        self._calls += 1
        kept[self._rows.start : self._rows.stop] = x.detach()
        return kept

    def passes(self) -> Iterator[bool]:
        """Turn to the pairs of each backward pass; whether it is the last."""
        total = self.images * self.baselines
        for pairs in _ranges(total, self.size):
            self._pairs = pairs
            yield pairs.stop == total

    def blocks(self, kept: Tensor) -> Iterator[tuple[slice, int, Tensor, Tensor]]:
        """The pairs of this pass by image.

        Args:
            kept: (n + b, ...).

        Yields:
            the m rows of an image's pairs, its number, (1, ...) its values, (m, ...) its baselines' values.
        """
        now, images, baselines = self._pairs, kept[: self.images], kept[self.images :]
        for i in range(now.start // self.baselines, (now.stop - 1) // self.baselines + 1):
            first = i * self.baselines
            start, stop = max(first, now.start), min(first + self.baselines, now.stop)
            rows = slice(start - now.start, stop - now.start)
            yield rows, i, images[i : i + 1], baselines[start - first : stop - first]


def _ranges(total: int, size: int) -> Iterator[range]:
    """0..total in pieces of `size`, the last one smaller where need be."""
    for start in range(0, total, size):
        yield range(start, min(start + size, total))
