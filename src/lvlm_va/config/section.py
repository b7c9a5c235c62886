"""What the sections of a project file share: strict mappings of known keys, and bounds of numbers."""

from pathlib import Path
from typing import Any, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationInfo,
    field_validator,
)

from lvlm_va.config.names import Names

__all__ = ["MAX_BATCH", "MAX_EPOCHS", "MAX_SEED", "MAX_STEP", "MAX_WEIGHT", "Section", "known"]

MAX_SEED = 2**32 - 1
"""Larger ones are refused by one or another of the libraries that draw."""


MAX_EPOCHS, MAX_BATCH = 100_000, 1_000_000
MAX_STEP = 10.0
MAX_WEIGHT = 1_000_000
"""What is larger is a slip of the keyboard: no experiment has used a hundredth of it."""


class Section(BaseModel):
    """A mapping of known keys; frozen once it is read."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        validate_by_name=True,
        validate_by_alias=True,
        protected_namespaces=(),
    )

    @field_validator("*", mode="before")
    @classmethod
    def _is_meant(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what would be taken for something else: true for the number 1, no path for this folder."""
        kinds = _kinds(cls.model_fields[info.field_name or ""].annotation)
        values = value if isinstance(value, list | tuple) else [value]
        if bool not in kinds and any(isinstance(one, bool) for one in values):
            raise ValueError(f"is {str(value).lower()}, which is no value for it; if it is text, quote it")
        if Path in kinds and isinstance(value, str) and (not value.strip() or "\0" in value):
            raise ValueError("is no path; leave it out, or write null, where there is none")
        return value


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation names."""
    inner = get_args(annotation)
    return {annotation}.union(*map(_kinds, inner)) if inner else {annotation}


def known(names: Names, name: str, info: ValidationInfo) -> str:
    """A name of ours or of another package, or that of an object of the caller's, see `parse_config`."""
    objects = (info.context or {}).get("objects", {})
    return name if objects.get(info.field_name) == name else names.check(name)
