"""The idx file format in which MNIST is published: a magic number, the shape, the bytes."""

import math

import numpy as np
from numpy.typing import NDArray

from lvlm_va.errors import DataError

__all__ = ["read_idx", "write_idx"]

_UNSIGNED_BYTE = 0x08


def read_idx(content: bytes) -> NDArray[np.uint8]:
    """Decode an idx file of unsigned bytes.

    Args:
        content: the whole file, not compressed.

    Returns:
        The array in the file's own shape (one dimension for labels, three for images); a read-only view.

    Raises:
        DataError: if this is no idx file of unsigned bytes, or it is shorter or longer than its header says.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UNSIGNED_BYTE:
        raise DataError(f"not an idx file of unsigned bytes: it begins with {content[:16]!r}")
    header = 4 + 4 * content[3]
    if len(content) < header:
        raise DataError(f"an idx file cut off within its header, after {len(content)} bytes")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", count=content[3], offset=4))
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise DataError(f"an idx file of {len(content)} bytes where its header promises {expected}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def write_idx(array: NDArray[np.uint8]) -> bytes:
    """Encode unsigned bytes of any shape as an idx file: the inverse of `read_idx`."""
    header = bytes((0, 0, _UNSIGNED_BYTE, array.ndim))
    return header + np.array(array.shape, ">u4").tobytes() + np.ascontiguousarray(array).tobytes()
