"""The state of a training after an epoch, on disk: a process that is killed goes on from there."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lvlm_va.errors import ModelError
from lvlm_va.io.files import write_atomically

__all__ = ["Resumption", "packed", "unpacked"]


@dataclass(frozen=True)
class Resumption:
    """A file that holds the state of an unfinished training.

    Attributes:
        path: where.
        inputs: fingerprint of everything the training depends on; a state of other inputs is ignored.
    """

    path: Path
    inputs: str

    def read(self) -> bytes | None:
        """The packed state; None where there is none, or it is of a training of other inputs.

        Raises:
            ModelError: if the file is damaged.
        """
        if not self.path.exists():
            return None
        content = self.path.read_bytes()
        try:
            inputs = unpacked(content)["inputs"]
        except Exception as error:  # torch's reader meets damage anywhere and raises anything
            raise ModelError(
                f"{self.path}: the state of an unfinished training is damaged; delete it to start anew"
            ) from error
        return content if inputs == self.inputs else None

    def write(self, state: Mapping[str, Any]) -> bytes:
        """Keep a state, whole or not at all, and return it packed.

        Raises:
            ModelError: if the disk is full or the folder cannot be written to; the older state is kept.
        """
        content = packed({**state, "inputs": self.inputs})
        try:
            write_atomically(self.path, content)
        except OSError as error:
            raise ModelError(
                f"{self.path}: the state of the training could not be written ({error.strerror}); "
                "make room and run the same command again"
            ) from error
        return content

    def remove(self) -> None:
        """Forget the state: the training is complete and its result is kept elsewhere."""
        self.path.unlink(missing_ok=True)


def packed(state: Mapping[str, Any]) -> bytes:
    """Tensors and plain values as bytes that hold no code."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def unpacked(content: bytes) -> dict[str, Any]:
    """What `packed` packed, on the CPU."""
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state
