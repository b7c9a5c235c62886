"""A YAML file that a person wrote, with messages for that person."""

from pathlib import Path

import yaml

from lvlm_va.errors import LvlmVaError

__all__ = ["read_yaml"]

Loader = type[yaml.SafeLoader] | type[yaml.BaseLoader]
"""Loaders that build plain values only and never run what a file says."""


def read_yaml(
    path: Path, error: type[LvlmVaError], *, missing: str, loader: Loader = yaml.SafeLoader
) -> object:
    """What the file holds.

    Args:
        path: the file, UTF-8.
        error: raised if it cannot be used, naming the file.
        missing: what to say where there is no such file.
        loader: how plain values are built.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise error(f"{path}: {missing}") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise error(f"{path}: cannot be read as UTF-8 text: {problem}") from None
    try:
        return yaml.load(text, Loader=loader)  # noqa: S506 -- plain values only, see Loader
    except yaml.YAMLError as problem:
        raise error(f"{path}: not valid YAML: {' '.join(str(problem).split())}") from None
