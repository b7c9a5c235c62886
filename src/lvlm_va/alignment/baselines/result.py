"""What a baseline gives."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

__all__ = ["Baseline"]


@dataclass(frozen=True, eq=False)
class Baseline:
    """A model trained by a baseline.

    Attributes:
        model: in evaluation mode; the model it came from is not changed.
        sees: which group labels were read, in words, e.g. "group labels of training and validation".
        record: how it went, for JSON: sizes of the groups, every candidate with its score, what was chosen.
    """

    model: nn.Module
    sees: str
    record: Mapping[str, Any]
