"""Data sets by the name that a project file gives them.

A new one is a line in `SOURCES`. This module imports nothing heavy: project files are checked with it.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lvlm_va.hints import did_you_mean

if TYPE_CHECKING:
    from lvlm_va.config.loading import DataConfig
    from lvlm_va.data.splits import Splits

__all__ = ["SOURCES", "Source", "check_name", "load"]


@dataclass(frozen=True)
class Source:
    """Where a data set comes from.

    Attributes:
        loader: "module:function" of a function (DataConfig, log) → Splits.
        specifications: the file in `experiments` with its class specifications; None where the
            user writes them.
    """

    loader: str
    specifications: str | None = None


SOURCES: Mapping[str, Source] = {
    "folder": Source("lvlm_va.data.own:load_folder"),
    "manifest": Source("lvlm_va.data.own:load_manifest"),
    "knee": Source("lvlm_va.data.knee:load_knee_as", "knee_specifications.yaml"),
    "skin": Source("lvlm_va.data.skin:load_skin_as", "skin_specifications.yaml"),
    "decoy-mnist": Source("lvlm_va.data.decoy:load_decoy_mnist", "decoy_mnist_specifications.yaml"),
}


def check_name(name: str) -> str:
    """`name` as it is.

    Raises:
        ValueError: naming the nearest, if there is no such data set.
    """
    if name not in SOURCES:
        raise ValueError(f"unknown data set {name!r}; {did_you_mean(name, SOURCES)}")
    return name


def load(settings: "DataConfig", log: Callable[[str], None]) -> "Splits":
    """The data set that `data.name` names.

    Raises:
        DataError: what is wrong with it, where, and what to do.
    """
    module, _, function = SOURCES[settings.name].loader.partition(":")
    splits: Splits = getattr(importlib.import_module(module), function)(settings, log)
    return splits
