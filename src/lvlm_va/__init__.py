"""LVLM-VA: align small vision classifiers with domain knowledge written in words.

The way in is `run = lvlm_va.align(model, data, specifications, critic="openai:gpt-4o")`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lvlm_va._version import __version__

if TYPE_CHECKING:
    from lvlm_va.api import Run, align
    from lvlm_va.data.imageset import ArrayImageSet, ImageSet
    from lvlm_va.data.splits import Splits
    from lvlm_va.errors import LvlmVaError
    from lvlm_va.fitting import Fitted, train

__all__ = [
    "ArrayImageSet",
    "Fitted",
    "ImageSet",
    "LvlmVaError",
    "Run",
    "Splits",
    "__version__",
    "align",
    "train",
]

_HOMES = {
    "ArrayImageSet": "lvlm_va.data.imageset",
    "Fitted": "lvlm_va.fitting",
    "ImageSet": "lvlm_va.data.imageset",
    "LvlmVaError": "lvlm_va.errors",
    "Run": "lvlm_va.api",
    "Splits": "lvlm_va.data.splits",
    "align": "lvlm_va.api",
    "train": "lvlm_va.fitting",
}


def __getattr__(name: str) -> Any:
    # Imported when asked for (PEP 562): `lvlm-va --help` must not wait for torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
