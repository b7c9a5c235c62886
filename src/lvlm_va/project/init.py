"""A first project file and a first page of specifications: what `lvlm-va init` writes."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from lvlm_va.config.loading import apply_settings, parse_config
from lvlm_va.config.reference import Key, on_one_line, project_keys
from lvlm_va.config.schema import Config
from lvlm_va.critique.specification import specification_template
from lvlm_va.data.columns import find_columns
from lvlm_va.data.names import name_problem, shown
from lvlm_va.data.splits import Splits
from lvlm_va.errors import ConfigError, DataError, LvlmVaError
from lvlm_va.io.console import QuietConsole
from lvlm_va.models.factory import make_model
from lvlm_va.project.inputs import load_splits
from lvlm_va.project.suited import explainable, suited

__all__ = ["PROJECT", "SPECIFICATIONS", "init_project", "project_file"]

PROJECT, SPECIFICATIONS = "project.yaml", "specifications.yaml"
_EXAMPLE_CLASSES = ("first class", "second class")
# Several λ, since a good one differs between data sets. With the counterfactual term the worst group of one
# small network on stickered digits rose from 0.13 to 0.61, with the paper's term alone (λ = 0.01) to 0.36.
_ALIGN = {"align.lambda": [0.0001, 0.001], "align.counterfactual": 1.0, "align.keep": "best"}
_WITHOUT_VALIDATION = {"align.lambda": 0.001, "align.keep": "last"}
# How the presets knee and skin train theirs. Mirroring is left out: it does not suit every image.
_RESNET = {
    "model.pretrained": "imagenet",
    "model.normalise": "imagenet",
    "model.epochs": 8,
    "model.batch": 32,
    "model.learning_rate": 1e-4,
    "model.optimizer": "adamw",
    "model.weight_decay": 0.01,
}
_SIDE = 224  # pixels: what pretrained networks are given, and of larger images all that is used
_UNKNOWN = 1000  # training images, where none were named
_TABLES = (".csv", ".tsv", ".parquet", ".pq")

_SPECIFICATIONS_HEAD = """\
# One paragraph per class, in the words of someone who knows the domain.
#   description  what shows in an image that it is of this class (needed)
#   relevant     phrases for what a decision should rest on, e.g. [the joint space, the edges of the bones]
#   spurious     phrases for what it must not rest on, e.g. [a letter in a corner, the border of the image]
"""


def init_project(
    directory: Path,
    *,
    data: Path | None = None,
    settings: Sequence[str] = (),
    model: str | None = None,
    console: QuietConsole | None = None,
) -> list[Path]:
    """Write project.yaml and specifications.yaml.

    With `data` the images are read once, so that the specifications list the classes that are there. Of a
    table the columns are found by their names and by what is in them; the project file names them.

    Args:
        directory: where; made if it is not there.
        data: a folder of class folders, or a manifest.
        settings: "data.key=value" texts that say how to read them, e.g. "data.columns={file: image_id}".
        model: what `model.name` says; the default when not given. It is built once, so that the settings suit
            it, see `project.suited`.
        console: told what was found, and what the settings follow.

    Returns:
        The files written.

    Raises:
        ConfigError: if one of the files is there already, the directory cannot be written, or there is no
            such model.
        DataError: if the data cannot be used.
    """
    say = console or QuietConsole()
    for name in (PROJECT, SPECIFICATIONS):
        if (directory / name).exists():
            raise ConfigError(
                f"{directory / name}: is there already, and is not overwritten; remove it first"
            )
    values: dict[str, Any] = {"specifications": SPECIFICATIONS, "data.name": "folder", **_ALIGN}
    classes: Sequence[str] = _EXAMPLE_CLASSES
    if data is not None:
        if (problem := name_problem(str(data))) is not None:
            raise DataError(f"{shown(data)}: {problem}")
        if not os.path.exists(data):  # noqa: PTH110 -- False where it is no name
            raise DataError(f"{data}: no such folder or manifest")
        if data.is_file() and data.suffix.lower() not in _TABLES:
            raise DataError(f"{data}: neither a folder nor a manifest ({', '.join(_TABLES)})")
        name = "manifest" if data.is_file() else "folder"
        for setting in settings:
            if not setting.startswith("data."):
                raise ConfigError(f"--set {setting}: init takes what data is read by: data.key=value")
        document = apply_settings({"data": {"name": name, "path": str(data)}}, settings)
        if name == "manifest":
            _add_columns(document["data"], data, say)
        splits = load_splits(parse_config(document, where="--data"), log=say.note)
        classes = splits.class_names
        values |= {f"data.{key}": value for key, value in document["data"].items()}
        values |= {"data.name": name, "data.path": _from(directory, data)}
        if "root" in document["data"]:
            values["data.root"] = _from(directory, Path(document["data"]["root"]))
        values |= _suited(splits, document["data"], model or Config().model.name, say)
    elif model is not None:
        values |= _of_network(_built(model, (3, _SIDE, _SIDE), 2, say), _SIDE, _UNKNOWN, True, say)
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in directory.resolve().name).strip("-")
    values["project"] = plain or "project"
    if model is not None:
        values |= {"model.name": model} | (_RESNET if model.startswith("resnet") else {})
    text = project_file(values)
    parse_config(yaml.safe_load(text), where=PROJECT)
    written = {PROJECT: text, SPECIFICATIONS: _SPECIFICATIONS_HEAD + specification_template(classes)}
    _write({directory / name: content.encode() for name, content in written.items()})
    return [directory / name for name in written]


def _suited(splits: Splits, data: Mapping[str, Any], name: str, say: QuietConsole) -> dict[str, Any]:
    """The settings that follow images and network."""
    values: dict[str, Any] = {}
    channels, *sides = splits.in_shape
    if "size" not in data and splits.shorter_side is not None:
        sides = [min(_SIDE, splits.shorter_side)] * 2
        values["data.size"] = sides[0]
    if name.startswith("resnet") and channels == 1 and "channels" not in data:
        channels = 3  # as its ImageNet weights expect
        values["data.channels"] = "rgb"
    module = _built(name, (channels, sides[0], sides[1]), len(splits.class_names), say)
    validation = splits.validation is not None
    if not validation:
        values |= _WITHOUT_VALIDATION
    return values | _of_network(module, min(sides), len(splits.train), validation, say, explainable(splits))


def _of_network(
    module: nn.Module | None,
    side: int,
    training: int,
    validation: bool,
    say: QuietConsole,
    explained: int | None = None,
) -> dict[str, Any]:
    if module is None:
        return {"explain.num_images": min(256, training if explained is None else max(explained, 1))}
    found = suited(module, side, training, validation=validation, explainable=explained)
    say.note(f"Settings for {found}.")
    return dict(found.settings)


def _built(
    name: str, in_shape: tuple[int, int, int], num_classes: int, say: QuietConsole
) -> nn.Module | None:
    """The network, to be looked at; None where a factory of the user's cannot be called yet."""
    try:
        return make_model(name, in_shape, num_classes)
    except LvlmVaError as error:
        if ":" not in name:
            raise
        say.note(f"{error}. So the settings written are those of a small network; check says if they suit.")
        return None


def _add_columns(settings: dict[str, Any], table: Path, say: QuietConsole) -> None:
    """Name the table's columns in the section `data`, as far as it does not say so itself."""
    said = parse_config({"data": settings}, where="--data").data
    found = find_columns(
        table,
        root=said.root,
        given={purpose: name for purpose, name in said.columns.items()},
        splits=said.splits,
        groups=said.groups,
    )
    say.note(found.told)
    if found.columns:
        settings["columns"] = {k: list(v) if isinstance(v, tuple) else v for k, v in found.columns.items()}
    if found.splits:
        settings["splits"] = found.splits


def _write(files: Mapping[Path, bytes]) -> None:
    """All of the files or none: a half of them would stand in the way of the next try."""
    begun: list[Path] = []
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                begun.append(path)
                file.write(content)
    except BaseException as error:
        for path in begun:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error
        raise


def project_file(values: Mapping[str, Any]) -> str:
    """A project file with every key, its meaning above it.

    A key that has no default and no value is commented out.

    Args:
        values: "section.key" → what to write instead of the default.
    """
    lines = ["# A project of lvlm-va. Every key but data.path has a default: what you do not need, delete."]
    lines += ["# Relative paths start from this file's folder.", ""]
    section = ""
    for key in project_keys():
        if key.section != section:
            section = key.section
            lines += ["", f"# {key.section_meaning}", f"{section}:"]
        lines += _lines(key, values)
    return "\n".join(lines) + "\n"


def _lines(key: Key, values: Mapping[str, Any]) -> list[str]:
    indent = "  " if key.section else ""
    full = f"{key.section}.{key.name}" if key.section else key.name
    comment = f"{indent}# {key.meaning} ({key.kind})"
    if full in values:
        return [comment, f"{indent}{key.name}: {on_one_line(values[full])}"]
    if key.default is None:
        return [comment, f"{indent}# {key.name}:"]
    return [comment, f"{indent}{key.name}: {key.default_text}"]


def _from(directory: Path, data: Path) -> str:
    """The path of `data` as the project file writes it: relative where it lies in or beside the directory."""
    relative = Path(os.path.relpath(data.resolve(), directory.resolve()))
    return str(data.resolve()) if relative.parts[:2] == ("..", "..") else relative.as_posix()
