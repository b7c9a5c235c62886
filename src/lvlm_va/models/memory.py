"""Out of memory: how it is recognised, and how work goes on in smaller parts."""

import gc
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

__all__ = ["free", "in_parts", "is_out_of_memory", "preferably_on", "reason"]

T = TypeVar("T")

_WORDS = (
    "out of memory",  # CUDA, MPS, XPU
    "defaultcpuallocator",  # "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
    "not enough memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that a GPU or this machine has no memory left for a tensor.

    Only CUDA's allocator has a class of its own for it; others raise a RuntimeError and say so.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


def reason(error: BaseException) -> str:
    """The first line of what `error` says."""
    return (str(error) or type(error).__name__).splitlines()[0]


def free() -> None:
    """Give back what a failed attempt still holds. Call it outside the `except` block, which holds it too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def in_parts(
    total: int, size: int, work: Callable[[slice], T], note: Callable[[str], None] = lambda _: None
) -> Iterator[T]:
    """`work` on 0..total, `size` at a time; where memory runs out, half as many from there on.

    Args:
        total: how many images.
        size: how many at a time, at least 1.
        work: does one part; it must leave nothing half done when it raises.
        note: told, in one sentence, when the size is halved.

    Raises:
        RuntimeError, MemoryError: if memory runs out with one at a time; whatever else `work` raises.
    """
    first = 0
    while first < total:
        part = slice(first, min(first + size, total))
        try:
            result = work(part)
        except (RuntimeError, MemoryError) as error:
            if part.stop - first == 1 or not is_out_of_memory(error):
                raise
            why = reason(error)
        else:
            yield result
            first = part.stop
            continue
        size = (part.stop - first) // 2
        note(f"Out of memory ({why}); going on with {size} images at a time.")
        free()


def preferably_on(
    device: torch.device, make: Callable[[torch.device], T], note: Callable[[str], None] = lambda _: None
) -> T:
    """What `make` makes on `device`; on the CPU where the device's memory does not suffice.

    Args:
        device: where it is wanted.
        make: makes it on a device.
        note: told, in one sentence, when the memory does not suffice.
    """
    try:
        return make(device)
    except (RuntimeError, MemoryError) as error:
        if device.type == "cpu" or not is_out_of_memory(error):
            raise
        why = reason(error)
    note(f"Out of memory ({why}); going on with these images on the CPU.")
    free()
    return make(torch.device("cpu"))
