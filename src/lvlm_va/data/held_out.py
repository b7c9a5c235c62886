"""Which images are kept for validation and test where the data set does not say."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lvlm_va.errors import DataError

__all__ = ["how_many", "stratified", "stratified_apart"]


def how_many(amount: float, n: int) -> int:
    """A share below 1, or a number of images, as a number of `n` images."""
    return round(amount * n) if amount < 1 else int(amount)


def stratified(labels: Sequence[int], same: Sequence[str], count: int, seed: tuple[int, int]) -> list[int]:
    """About `count` of N positions, drawn so that every class gives its share.

    Shares are rounded by the largest remainder. Images that are the same (equal `same`) go together, with
    the class of the first of them, so that none of them leaks into the rest; a class may therefore give a
    few more.

    Args:
        labels: N class indices.
        same: N texts, equal for equal images.
        count: how many, 0 ≤ count ≤ N.
        seed: of the draw.

    Returns:
        The positions, ascending.

    Raises:
        DataError: if nothing of a class would be left.
    """
    units: dict[str, list[int]] = {}
    for position, digest in enumerate(same):
        units.setdefault(digest, []).append(position)
    of_class: dict[int, list[list[int]]] = {}
    for unit in units.values():
        of_class.setdefault(labels[unit[0]], []).append(unit)
    images = {k: sum(len(unit) for unit in of_class[k]) for k in sorted(of_class)}
    quota = _quotas(images, count)
    random = np.random.default_rng(seed)
    taken: list[int] = []
    for k, of_this in sorted(of_class.items()):
        before = len(taken)
        for i in random.permutation(len(of_this)):
            if len(taken) - before >= quota[k]:
                break
            taken += of_this[i]
    gone = set(taken)
    left = {label for position, label in enumerate(labels) if position not in gone}
    if left != set(labels):
        raise _nothing_left(count, len(labels))
    return sorted(taken)


def stratified_apart(labels: NDArray[np.int64], count: int, seed: tuple[int, int]) -> NDArray[np.int64]:
    """`stratified` where no image is the same as another: the same draw, of millions as of a few.

    Raises:
        DataError: if nothing of a class would be left.
    """
    classes, numbers = np.unique(labels, return_counts=True)
    images = dict(zip(classes.tolist(), numbers.tolist(), strict=True))
    quota = _quotas(images, count)
    random = np.random.default_rng(seed)
    taken = []
    for k, number in images.items():
        drawn = random.permutation(number)[: quota[k]]
        if quota[k] >= number:
            raise _nothing_left(count, len(labels))
        taken.append(np.flatnonzero(labels == k)[drawn])
    return np.sort(np.concatenate(taken))


def _quotas(images: Mapping[int, int], count: int) -> dict[int, int]:
    """How many of each class, rounded by the largest remainder; `images` says how many it has."""
    total = sum(images.values())
    wanted = {k: count * n / total for k, n in images.items()}
    quota = {k: math.floor(w) for k, w in wanted.items()}
    for k in sorted(wanted, key=lambda k: quota[k] - wanted[k])[: count - sum(quota.values())]:
        quota[k] += 1
    return quota


def _nothing_left(count: int, total: int) -> DataError:
    return DataError(
        f"{count} of {total} images were to be held out, which leaves none of some class to train on; hold "
        "out fewer (data.validation, data.test), or add images"
    )
