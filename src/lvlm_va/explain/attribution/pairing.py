"""Images meet baselines: each row forward once, each pair backward once.

Explaining n images against b baselines needs the activations of n + b rows, but n·b backward rows, one a
pair. Between the rules' operations a network is affine and treats rows alike, so the autograd graph of any
few rows can carry the multipliers of any few pairs. Therefore rows go forward a slice at a time, the rules
keep what they need of all of them, and the graph of the first slice carries all pairs backward, a slice at a
time. Only what is kept grows with n + b.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lvlm_va.errors import ModelError
from lvlm_va.explain.attribution.layout import PLAIN, Layout, found_layout

__all__ = ["Keeper", "Kept", "Pairing", "Probe"]

_OTHER_PATH = (
    "the model performs other operations for some images than for others, which DeepLIFT cannot compare; "
    "choose integrated-gradients or gradient-shap instead (explain.attribution in a project,"
    " method in Python)"
)


class Kept(NamedTuple):
    """What a rule keeps of a tensor.

    Attributes:
        values: (n + b, ...), rows first, complete when all slices have gone forward.
        layout: how they lay in the tensor.
    """

    values: Tensor
    layout: Layout


class Pairing:
    """What is kept of n images and, after them, b baselines; and the pairs that go backward now.

    Pair i·b + j is that of image i and baseline j.

    Args:
        images: n.
        baselines: b.
        size: rows that go through the network at once, at most n + b.
        layouts: of each tensor that is kept, in order; None to take rows for the first dimension.

    Attributes:
        unsure: whether that could not be taken for granted, so that layouts are needed.
    """

    def __init__(
        self, images: int, baselines: int, size: int, layouts: Sequence[Layout] | None = None
    ) -> None:
        self.images = images
        self.baselines = baselines
        self.size = size
        self.unsure = False
        self._layouts = layouts
        self._rows = range(0)
        self._pairs = range(0)
        self._kept: list[Tensor] = []
        self._calls = self._asked = 0

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
            self._rows, self._calls, self._asked = rows, 0, 0
            yield slice(rows.start, rows.stop)
            if self._calls < len(self._kept):
                raise ModelError(_OTHER_PATH)

    def keep(self, x: Tensor, layout: Layout | None = None) -> Kept:
        """Copy the current slice's x, since the model may overwrite it.

        Args:
            x: of the same call of the network in every slice.
            layout: of its rows, if known.

        Returns:
            the copy.

        Raises:
            ModelError: if the first slice called the network's operations in another order.
        """
        layout = self._layout(x) if layout is None else layout
        if self.unsure:
            return Kept(x, PLAIN)
        x = layout.by_row(x.detach())
        if self._rows.start == 0:
            self._kept.append(x.new_empty(self.images + self.baselines, *x.shape[1:]))
        known = self._kept[self._calls] if self._calls < len(self._kept) else None
        if known is None or known.shape[1:] != x.shape[1:] or len(x) != len(self._rows):
            raise ModelError(_OTHER_PATH)
        self._calls += 1
        known[self._rows.start : self._rows.stop] = x
        return Kept(known, layout)

    def _layout(self, x: Tensor) -> Layout:
        if self._layouts is not None:
            if self._asked >= len(self._layouts):
                raise ModelError(_OTHER_PATH)
            self._asked += 1
            return self._layouts[self._asked - 1]
        # Feature maps and vectors of features have their rows first; sequences may have tokens first.
        self.unsure |= x.ndim not in (2, 4) or len(x) != len(self._rows)
        return PLAIN

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

    def middles(self, kept: Kept) -> Tensor:
        """(x + b) / 2 of this pass's pairs as the graph lays its rows, which are zero after the pairs."""
        out = kept.values.new_zeros(self.size, *kept.values.shape[1:])
        for rows, _, x, b in self.blocks(kept.values):
            torch.add(x, b, out=out[rows]).mul_(0.5)
        return kept.layout.restored(out)


class Probe:
    """Learns from three rows, shown again moved up one place, how rows lie in each tensor to be kept.

    Attributes:
        layouts: of each tensor; None for one in which they do not lie apart.
    """

    def __init__(self) -> None:
        self.layouts: list[Layout | None] = []
        self._first: list[Tensor] | None = []
        self._seen: list[Tensor] = []

    def again(self) -> None:
        """From now on the rows are moved."""
        self._seen, self._first = self._first or [], None

    def keep(self, x: Tensor, layout: Layout | None = None) -> Kept:
        """Remember x, or compare it with what it was."""
        if layout is None and self._first is not None:
            self._first.append(x.detach().clone())
        elif layout is None:
            position = len(self.layouts)
            same = position < len(self._seen) and self._seen[position].shape == x.shape
            self.layouts.append(found_layout(self._seen[position], x.detach()) if same else None)
            if same:
                self._seen[position] = x.new_empty(0)
        return Kept(x, PLAIN)


Keeper = Pairing | Probe


def _ranges(total: int, size: int) -> Iterator[range]:
    """0..total in pieces of `size`, the last one smaller where need be."""
    for start in range(0, total, size):
        yield range(start, min(start + size, total))
