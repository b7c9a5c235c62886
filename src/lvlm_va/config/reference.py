"""The keys of a project file, one by one: for `lvlm-va init` and for the documentation."""

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lvlm_va.config.loading import Config

__all__ = ["Key", "on_one_line", "project_keys"]

_WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path"}


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        section: the section it is in; "" at the top.
        section_meaning: what the section is for; "" at the top.
        name: as it is written in the file.
        meaning: its description.
        kind: what may be written, in words.
        default: in force when it is not given, as plain YAML values; None where it is then not set.
    """

    section: str
    section_meaning: str
    name: str
    meaning: str
    kind: str
    default: Any

    @property
    def default_text(self) -> str:
        """The default as YAML on one line; "" where the key is then not set."""
        return "" if self.default is None else on_one_line(self.default)


def on_one_line(value: Any) -> str:
    """Plain values as YAML without a line break, fit to stand behind a key."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def project_keys() -> Iterator[Key]:
    """All keys, those at the top first, then section by section."""
    defaults = Config().model_dump(mode="json", by_alias=True)
    sections = {}
    for name, field in Config.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            sections[name] = section
        else:
            yield _key("", "", name, field, defaults)
    for name, section in sections.items():
        meaning = (section.__doc__ or "").strip()
        for key, field in section.model_fields.items():
            yield _key(name, meaning, key, field, defaults[name])


def _key(section: str, meaning: str, name: str, field: FieldInfo, defaults: dict[str, Any]) -> Key:
    written = field.alias or name
    # Keys that are not read as long as another has its default are not in the document: see ExplainConfig.
    default = defaults.get(written, field.default)
    # Names of ours stand as examples, since names of other packages may be written, too.
    kind = " | ".join([*map(str, field.examples), "..."]) if field.examples else _kind(field.annotation)
    return Key(section, meaning, written, field.description or "", kind, default)


def _kind(annotation: Any) -> str:
    """A type in the words of someone who writes YAML."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin is typing.Annotated:
        return _kind(inner[0])
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_kind(option) for option in inner if option is not type(None))
    if origin is tuple:
        return f"list of {_kind(inner[0])}"
    if origin is dict:
        return f"mapping from {_kind(inner[0])} to {_kind(inner[1])}"
    return _WORDS[annotation]
