"""Data sets by the name that a project file gives them: one line each."""

import importlib
from collections.abc import Callable, Mapping

from lvlm_va.config.schema import DataConfig
from lvlm_va.data.splits import Splits

__all__ = ["load"]

_LOADERS: Mapping[str, str] = {
    "folder": "lvlm_va.data.own:load_folder",
    "manifest": "lvlm_va.data.own:load_manifest",
    "knee": "lvlm_va.data.knee:load_knee_as",
    "skin": "lvlm_va.data.skin:load_skin_as",
    "decoy-mnist": "lvlm_va.data.decoy:load_decoy_mnist",
}
"""Name → "module:function" of a function (DataConfig, log) → Splits, imported when it is asked for."""


def load(settings: DataConfig, log: Callable[[str], None]) -> Splits:
    """The data set that `data.name` names.

    Raises:
        DataError: what is wrong with it, where, and what to do.
    """
    module, _, function = _LOADERS[settings.name].partition(":")
    splits: Splits = getattr(importlib.import_module(module), function)(settings, log)
    return splits
