"""Data sets by the name that a project file gives them: ours, one line each, and those of other packages."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Protocol

from lvlm_va.config.names import DATA_SETS
from lvlm_va.config.schema import DataConfig
from lvlm_va.data.imageset import ImageSet, lacks
from lvlm_va.data.splits import Splits
from lvlm_va.errors import LvlmVaError
from lvlm_va.io.raised import place

__all__ = ["DataSource", "load"]

_LOADERS: Mapping[str, str] = {
    "folder": "lvlm_va.data.own:load_folder",
    "manifest": "lvlm_va.data.own:load_manifest",
    "knee": "lvlm_va.data.knee:load_knee_as",
    "skin": "lvlm_va.data.skin:load_skin_as",
    "decoy-mnist": "lvlm_va.data.decoy:load_decoy_mnist",
}
"""Name → "module:function" of a `DataSource`, imported when it is asked for."""


class DataSource(Protocol):
    """What stands behind a data set's name: a function.

    Another package offers one by name with an entry point in the group `lvlm_va.datasets`.
    """

    def __call__(self, settings: DataConfig, log: Callable[[str], None], /) -> Splits | ImageSet:
        """The images.

        Args:
            settings: the section `data` of the project file; `path`, `size`, `seed` and so on are to be
                heeded where they mean anything to this data set.
            log: told, a sentence at a time, where the data came from and what is remarkable about them.

        Returns:
            the training set alone, or `Splits` with validation and test sets, too.
        """
        ...


def load(settings: DataConfig, log: Callable[[str], None]) -> Splits:
    """The data set that `data.name` names.

    Raises:
        DataError: what is wrong with it, where, and what to do.
        ExtensionError: if another package's cannot be loaded, raises, or returns something else.
    """
    if settings.name in _LOADERS:
        module, _, function = _LOADERS[settings.name].partition(":")
        splits: Splits = getattr(import_module(module), function)(settings, log)
        return splits
    source = DATA_SETS.load(settings.name)
    try:
        found = source.call(settings, log)
    except LvlmVaError:
        raise
    except Exception as error:
        raise source.complaint(f"loading raised {type(error).__name__}: {error}{place(error)}") from error
    if isinstance(found, Splits):
        return found
    if lacking := lacks(found):
        raise source.complaint(
            f"returned a {type(found).__name__}, neither lvlm_va.Splits nor an lvlm_va.ImageSet: it has no "
            f"{', '.join(lacking)}"
        )
    return Splits(name=settings.name, train=found)
