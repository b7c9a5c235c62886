"""Class specifications V_k: what the domain expert knows, one paragraph per class."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ClassSpecification"]


@dataclass(frozen=True)
class ClassSpecification:
    """Domain knowledge about one class.

    Attributes:
        name: the class name.
        description: free text; what defines the class in a picture.
        relevant: phrases for what a decision should rest on (optional).
        spurious: phrases for what it must not rest on (optional).
    """

    name: str
    description: str
    relevant: tuple[str, ...] = ()
    spurious: tuple[str, ...] = ()
    version: str = field(init=False)

    def __post_init__(self) -> None:
        content: Mapping[str, object] = {
            "name": self.name,
            "description": self.description,
            "relevant": self.relevant,
            "spurious": self.spurious,
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
        object.__setattr__(self, "version", digest)
