"""Where the rows of a batch lie in a tensor that a network made of them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["PLAIN", "Layout", "found_layout"]

_ROUNDING = 1e-6
_FITS, _MAY_FIT = 1e-4, 0.1
"""How far a layout may be off, in units of what distinguishes two rows: rounding, or the best of several."""


class Layout(NamedTuple):
    """Dimension `dim` is outer × rows × inner.

    (rows, C, H, W) is (0, 1, 1); V views one whole batch after the other, (V · rows, ...), are (0, V, 1); V
    windows of each image, (rows · V, ...), are (0, 1, V); tokens before rows, (L, rows, C), is (1, 1, 1).
    """

    dim: int = 0
    outer: int = 1
    inner: int = 1

    def by_row(self, x: Tensor) -> Tensor:
        """X with its rows first: (rows, ...), a view."""
        if self == PLAIN:
            return x
        split: Tensor = x.unflatten(self.dim, (self.outer, -1, self.inner))  # type: ignore[no-untyped-call]
        return split.movedim(self.dim + 1, 0)

    def restored(self, x: Tensor) -> Tensor:
        """Back from `by_row`."""
        if self == PLAIN:
            return x
        return x.movedim(0, self.dim + 1).flatten(self.dim, self.dim + 2)


PLAIN = Layout()


def found_layout(one: Tensor, other: Tensor) -> Layout | None:
    """The layout under which three rows have moved up one place.

    Args:
        one: made of the rows (u, v, w).
        other: the same tensor, made of (v, w, u).

    Returns:
        the layout; None if there is none, that is, if a row depends on more than its image.
    """
    best, least = None, _MAY_FIT
    apart = _largest(one, other)
    if apart <= _ROUNDING * float(one.abs().max()):
        apart = torch.inf  # the same for all images: any layout will do
    for layout in _candidates(one.shape):
        miss = _largest(one, layout.restored(layout.by_row(other).roll(1, 0)))
        if miss <= _FITS * apart:
            return layout
        if miss < least * apart:
            best, least = layout, miss / apart
    return best


def _largest(a: Tensor, b: Tensor) -> float:
    """The largest |a − b|, equal infinities being equal."""
    if not a.numel():
        return 0.0
    return float(torch.where(a == b, 0, (a - b).abs()).nan_to_num(nan=torch.inf).max())


def _candidates(shape: Sequence[int]) -> Iterator[Layout]:
    """The layouts that three rows may have, the most likely first."""
    for dim, size in enumerate(shape):
        views = size // 3
        if size % 3 == 0:
            inners = [inner for inner in range(1, views + 1) if views % inner == 0]
            for inner in sorted(inners, key=lambda inner: (inner not in (1, views), -inner)):
                yield Layout(dim, views // inner, inner)
