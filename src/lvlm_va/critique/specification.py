"""Class specifications V_k: what the domain expert knows, one paragraph per class."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lvlm_va.config.yamlfile import read_yaml
from lvlm_va.errors import SpecificationError
from lvlm_va.io.hints import did_you_mean, shown

__all__ = ["ClassSpecification", "load_specifications", "specification_template"]

_KEYS = ("description", "relevant", "spurious")
_LONGEST = 20_000  # characters of one class, some ten pages: every question about the class carries them
_MOST_PHRASES = 200


@dataclass(frozen=True)
class ClassSpecification:
    """Domain knowledge about one class.

    Attributes:
        name: the class name.
        description: free text; what defines the class in an image.
        relevant: phrases for what a decision should rest on (optional).
        spurious: phrases for what it must not rest on (optional).
        version: 12 hexadecimal digits that change with any of the above.
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

    @classmethod
    def recorded(cls, name: str, words: str, version: str) -> "ClassSpecification":
        """One of which a run keeps only the words that a critic read, and the version."""
        specification = cls(name, words)
        object.__setattr__(specification, "version", version)
        return specification

    @property
    def text(self) -> str:
        """The specification in words, as a critic reads it."""
        lines = [f"Class: {self.name}", self.description]
        if self.relevant:
            lines += ["A sound decision rests on:", *(f"- {phrase}" for phrase in self.relevant)]
        if self.spurious:
            lines += ["It must not rest on:", *(f"- {phrase}" for phrase in self.spurious)]
        return "\n".join(lines)


def load_specifications(
    source: str | Path | Mapping[str, Any], class_names: Sequence[str]
) -> dict[str, ClassSpecification]:
    """Read the specifications of all classes.

        classes:
          "7":
            description: A horizontal bar at the top and a slanted stroke below it.
            relevant: [the horizontal bar, the slanted stroke]
            spurious: a patch in a corner
          "1": A single upright stroke.

    Args:
        source: a YAML file of this form, or the same as a mapping.
        class_names: the K classes of the model; each needs a specification, and no other may have one.

    Returns:
        class name → specification, in the order of `class_names`.

    Raises:
        SpecificationError: naming file and class, if anything is missing, unknown, empty or said twice.
    """
    where = "the specifications" if isinstance(source, Mapping) else str(source)
    document: object = source if isinstance(source, Mapping) else _read_file(Path(source))
    if not isinstance(document, Mapping) or "classes" not in document:
        raise SpecificationError(f"{where}: start with `classes:` and put one entry per class below it")
    for key in document:
        if key != "classes":
            raise SpecificationError(f"{where}: unknown key {shown(key)}; {did_you_mean(key, ['classes'])}")
    entries = document["classes"]
    if not isinstance(entries, Mapping):
        raise SpecificationError(f"{where}: `classes` must map class names to descriptions")

    found = {}
    for key, entry in entries.items():
        name = key if isinstance(key, str) else shown(key)
        found[name] = _read_class(where, name, entry)
        length = len(found[name].text)
        if length > _LONGEST:
            raise SpecificationError(
                f"{where}, class {shown(name)}: the specification is {length:,} characters long; at most "
                f"{_LONGEST:,} are read, since every question about the class carries them"
            )
    for name in found:
        if name not in class_names:
            raise SpecificationError(
                f"{where}: the model has no class {shown(name)}; {did_you_mean(name, class_names)}"
            )
    missing = [name for name in class_names if name not in found]
    if missing:
        raise SpecificationError(
            f"{where}: no specification for class {', '.join(map(repr, missing))}; "
            "every class of the model needs one, a sentence is enough"
        )
    return {name: found[name] for name in class_names}


def specification_template(class_names: Sequence[str]) -> str:
    """A specifications file to fill in: read as it stands, it is refused for its empty descriptions."""
    entries = "".join(
        f"  {json.dumps(name, ensure_ascii=False)}:\n    description:\n    relevant: []\n    spurious: []\n"
        for name in class_names
    )
    return f"classes:\n{entries}"


def _read_class(where: str, name: str, entry: object) -> ClassSpecification:
    here = f"{where}, class {shown(name)}"
    if isinstance(entry, str):
        return ClassSpecification(name, _text(here, "description", entry))
    if not isinstance(entry, Mapping):
        raise SpecificationError(f"{here}: write a description, or a mapping with {', '.join(_KEYS)}")
    for key in entry:
        if key not in _KEYS:
            raise SpecificationError(f"{here}: unknown key {shown(key)}; {did_you_mean(key, _KEYS)}")
    if "description" not in entry:
        raise SpecificationError(f"{here}: the key 'description' is missing; a sentence is enough")
    return ClassSpecification(
        name,
        _text(here, "description", entry["description"]),
        _phrases(here, "relevant", entry.get("relevant", [])),
        _phrases(here, "spurious", entry.get("spurious", [])),
    )


_NO_WORDS = ("null", "none", "nan", "~", "true", "false")  # what programs write for nothing


def _text(here: str, key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise SpecificationError(f"{here}: '{key}' is {shown(value)}; write text there")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise SpecificationError(f"{here}: '{key}' holds half a character (a lone surrogate); remove it")
    if value.strip().lower() in _NO_WORDS or (key == "description" and not any(map(str.isalpha, value))):
        raise SpecificationError(
            f"{here}: '{key}' is {shown(value.strip())}, which says nothing; write words there"
        )
    return value.strip()


def _phrases(here: str, key: str, value: object) -> tuple[str, ...]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) > _MOST_PHRASES:
            raise SpecificationError(f"{here}: '{key}' holds {len(value):,} phrases, at most {_MOST_PHRASES}")
        return tuple(_text(here, key, phrase) for phrase in value)
    return (_text(here, key, value),)


def _read_file(path: Path) -> object:
    missing = "no such file; write the class specifications there"
    return read_yaml(path, SpecificationError, missing=missing, text_only=True)
