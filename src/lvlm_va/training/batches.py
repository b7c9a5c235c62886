"""Batches of a pass over a set: a last image that would be alone joins the batch before it.

Batch normalisation has no statistics of one image, and torch refuses it.
"""

import torch
from torch import Tensor

__all__ = ["count_batches", "in_batches"]


def in_batches(order: Tensor, size: int) -> tuple[Tensor, ...]:
    """(n, ...) in parts of `size`; the last may be smaller, or one larger where one would be left over."""
    parts = torch.split(order, size)
    if size > 1 and len(parts) > 1 and len(parts[-1]) == 1:
        return (*parts[:-2], torch.cat(parts[-2:]))
    return parts


def count_batches(n: int, size: int) -> int:
    """How many parts `in_batches` makes of n."""
    return -(-n // size) - int(size > 1 and n > size and n % size == 1)
