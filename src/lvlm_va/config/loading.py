"""Reading a project file, and laying settings over it; `sections` says what it may hold.

The same keys are arguments of `lvlm_va.align` and of `--set key=value`. An unknown key is an error that
names the nearest known one.
"""

import copy
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from lvlm_va.config.schema import (
    FORMAT,
    AlignConfig,
    Config,
    CritiqueConfig,
    DataConfig,
    EvaluateConfig,
    ExplainConfig,
    ModelConfig,
    Section,
)
from lvlm_va.config.yamlfile import parse_yaml, read_yaml
from lvlm_va.errors import ConfigError
from lvlm_va.io.hints import did_you_mean, shown

__all__ = [
    "AlignConfig",
    "Config",
    "CritiqueConfig",
    "DataConfig",
    "EvaluateConfig",
    "ExplainConfig",
    "ModelConfig",
    "apply_settings",
    "from_folder",
    "load_config",
    "override",
    "parse_config",
    "parse_recorded",
]


_RENAMED = {
    "align.extent": "mask",
    "critique.ask": "fraction",
    "data.fit": "resize",
    "evaluate.pictures": "num_images",
    "explain.grid": "points_per_side",
    "explain.pictures": "num_images",
    "explain.starts": "n_init",
}
"""Keys of 0.1; nothing about their letters tells which key they are now."""


def load_config(path: Path, settings: Iterable[str] = ()) -> Config:
    """Read a project file; relative paths in it start from its folder.

    Args:
        path: a YAML file.
        settings: "key=value" texts that override it, e.g. "align.lambda=[0.01, 0.1]". Relative paths in
            them start from the working directory.

    Raises:
        ConfigError: naming the file, the key, and what to write instead.
    """
    document = read_yaml(path, ConfigError, missing="no such project file")
    if not document and not isinstance(document, int | float | str):  # e.g. comments only, or "{}"
        raise ConfigError(
            f"{path}: is empty; name your data, model and specifications in it, or let lvlm-va init write one"
        )
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: a project file is a mapping of keys such as data, model and critique")
    document = from_folder(document, path.parent)
    return parse_config(apply_settings(document, settings), where=str(path))


def apply_settings(document: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """A copy of `document` with "section.key=value" settings laid over it; values are YAML.

    Raises:
        ConfigError: naming the setting that cannot be read.
    """
    values = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {shown(setting)}: write key=value, for example align.lambda=0.01")
        values[key.strip()] = parse_yaml(value, ConfigError, where=f"--set {shown(setting)}")
    return override(document, values)


def override(document: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `document` with "section.key" → value laid over it; a mapping adds to a section.

    Raises:
        ConfigError: if a key goes through something that is not a section.
    """
    result = copy.deepcopy(dict(document))
    for key, value in values.items():
        *sections, last = key.split(".")
        place = result
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{key}: {section} is not a section")
        if isinstance(value, Mapping) and isinstance(place.get(last), dict):
            place[last] |= value
        else:
            place[last] = value
    return result


def parse_config(
    document: Mapping[str, Any],
    *,
    where: str = "the configuration",
    objects: Mapping[str, str] = MappingProxyType({}),
) -> Config:
    """Check a mapping and make it a `Config`.

    Args:
        document: the mapping.
        where: it comes from, for messages.
        objects: key, e.g. "attribution" → name of an object that the caller gives for it; no such name needs
            to be known.

    Raises:
        ConfigError: every mistake in one message, each with its key; unknown keys with the nearest known.
    """
    newer = document.get("format")
    if isinstance(newer, int) and newer > FORMAT:
        raise ConfigError(
            f"{where}: written in format {newer}, for a newer lvlm-va; this one reads format {FORMAT}: "
            "upgrade lvlm-va"
        )
    try:
        return Config.model_validate(document, context={"objects": objects})
    except ValidationError as error:
        raise ConfigError(
            "\n".join(f"{where}: {_explain(dict(problem))}" for problem in error.errors())
        ) from None


def parse_recorded(document: object, *, where: str) -> Config:
    """The settings that a run says it was made with, as `Config`.

    Keys of a later version are left out, and names of methods are taken as they are: they need not be
    installed where a run is only read.

    Raises:
        ConfigError: every value that cannot be, each with its key.
    """
    if not isinstance(document, Mapping):
        raise ConfigError(f"{where}: config is no mapping of settings")
    known = {key: value for key, value in document.items() if key in Config.model_fields}
    for key, value in known.items():
        section = Config.model_fields[key].annotation
        if isinstance(value, Mapping) and isinstance(section, type) and issubclass(section, Section):
            names = {field.alias or name for name, field in section.model_fields.items()}
            known[key] = {name: inner for name, inner in value.items() if name in names}
    explain, data = known.get("explain"), known.get("data")
    objects = {
        name: section[name]
        for section in (explain, data)
        if isinstance(section, Mapping)
        for name in ("attribution", "segmentation", "name")
        if isinstance(section.get(name), str)
    }
    return parse_config(known, where=where, objects=objects)


def _explain(problem: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "model_type":
        return f"{key}: is a section; write its keys below it, or leave it out"
    if problem["type"] == "value_error":
        return f"{key}: {problem['msg'].removeprefix('Value error, ')}"
    if problem["type"] != "extra_forbidden":
        got = f", not {shown(problem['input'])}" if isinstance(problem["input"], str | int | float) else ""
        return f"{key}: {problem['msg']}{got}"
    if new := _RENAMED.get(key):
        return f"unknown key {key!r}; it is called {new!r} now"
    known = [field.alias or name for name, field in _fields(problem["loc"][:-1]).items()]
    return f"unknown key {key!r}; {did_you_mean(problem['loc'][-1], known)}"


def _fields(path: Iterable[Any]) -> Mapping[str, Any]:
    section: type[BaseModel] = Config
    for part in path:
        annotation = section.model_fields[part].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        section = annotation
    return section.model_fields


def from_folder(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A copy of a document in which relative paths start from `folder`."""
    placed = copy.deepcopy(dict(document))
    for section, key, words in _path_keys():
        place = placed.get(section) if section else placed
        # What is empty is told as such: with the folder before it, it would be the folder.
        if isinstance(place, dict) and isinstance(place.get(key), str) and place[key] not in ("", *words):
            place[key] = str(folder / place[key])
    explain = placed.get("explain")
    # A path or an id of the hub: a path where there is one.
    if isinstance(explain, dict) and isinstance(explain.get("sam"), str):
        weights = folder / explain["sam"]
        explain["sam"] = str(weights) if weights.exists() else explain["sam"]
    return placed


def _path_keys() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """(section, key, words) of every key that is a path or a word instead; the section is "" at the top."""
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            inner = field.annotation.model_fields.items()
            yield from ((name, key, _words(f)) for key, f in inner if Path in get_args(f.annotation))
        elif Path in get_args(field.annotation):
            yield "", name, _words(field)


def _words(field: FieldInfo) -> tuple[str, ...]:
    """What may be written in place of a path."""
    return tuple(word for option in get_args(field.annotation) for word in get_args(option))
