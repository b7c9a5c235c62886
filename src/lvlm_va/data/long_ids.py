"""Names of a million images without a million texts: each is made when it is asked for."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import overload

import torch
from torch import Tensor

__all__ = ["Numbered", "Picked"]

_TOGETHER = 10_000  # names made at once


class _Names(Sequence[str]):
    """Equal to any sequence of the same texts."""

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return self._some(range(len(self))[index])
        return self._some([range(len(self))[index]])[0]

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _TOGETHER):
            yield from self[first : first + _TOGETHER]

    @abstractmethod
    def _some(self, numbers: Sequence[int]) -> list[str]: ...

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"[{shown}{', ...' if len(self) > 3 else ''}]"


class Numbered(_Names):
    """N names, "prefix-0" to "prefix-<N − 1>"."""

    def __init__(self, prefix: str, count: int) -> None:
        self._prefix = prefix
        self._count = count

    def __len__(self) -> int:
        return self._count

    def _some(self, numbers: Sequence[int]) -> list[str]:
        return [f"{self._prefix}-{n}" for n in numbers]


class Picked(_Names):
    """The names at (n,) int64 positions of other names."""

    def __init__(self, names: Sequence[str], positions: Tensor) -> None:
        self._names = names
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    def _some(self, numbers: Sequence[int]) -> list[str]:
        positions = self._positions[torch.as_tensor(numbers, dtype=torch.int64)]
        return [self._names[n] for n in positions.tolist()]
