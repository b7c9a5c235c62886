"""Somebody's own object by the name under which Python would import it, "package.module:attribute"."""

import importlib
import importlib.util
import sys
from pathlib import Path

from lvlm_va.errors import ConfigError, LvlmVaError
from lvlm_va.io.hints import did_you_mean
from lvlm_va.io.raised import place

__all__ = ["import_object", "may_be_imported", "modules_here"]


def may_be_imported(name: str) -> bool:
    """Whether `name` is of the form and its package is there; nothing is imported."""
    module_name, _, attribute = name.partition(":")
    if not (module_name and attribute) or module_name.startswith("."):
        return False
    top = module_name.partition(".")[0]
    try:
        return top in sys.modules or importlib.util.find_spec(top) is not None or _lies_here(top)
    except (ImportError, ValueError):
        return False


def import_object(name: str, what: str, error: type[LvlmVaError]) -> object:
    """The object behind "package.module:attribute"; the module may lie in the working folder.

    Args:
        name: of that form.
        what: what is imported, e.g. "model", for messages.
        error: raised if the module raises.

    Raises:
        ConfigError: if there is no such module or attribute, naming the nearest.
    """
    module_name, _, attribute = name.partition(":")
    _look_here_too(module_name)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as missing:
        raise ConfigError(
            f"{what} {name!r}: no module named {missing.name!r}; is it installed, in this folder, or its "
            "folder on PYTHONPATH?"
        ) from None
    except (LvlmVaError, KeyboardInterrupt):  # stopped by the user, above all
        raise
    except BaseException as raised:
        # SystemExit, too: a script that ends by itself must not end us in silence.
        raise error(
            f"{what} {name!r}: importing {module_name} raised {type(raised).__name__}: {raised}"
            f"{place(raised)}"
        ) from raised
    if not hasattr(module, attribute):
        own = [k for k, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__]
        hint = did_you_mean(attribute, own)
        raise ConfigError(f"{what} {name!r}: {module_name} has no {attribute!r}; {hint}")
    found: object = getattr(module, attribute)
    return found


def modules_here() -> list[str]:
    """The modules and packages of the working folder."""
    here = Path.cwd()
    return sorted(
        {*(f.stem for f in here.glob("*.py")), *(f.parent.name for f in here.glob("*/__init__.py"))}
    )


def _lies_here(top: str) -> bool:
    here = Path.cwd()
    return (here / f"{top}.py").is_file() or (here / top).is_dir()


def _look_here_too(module_name: str) -> None:
    """Let a module be found in the working folder, but last: nothing there is taken for another's module."""
    top = module_name.partition(".")[0]
    if top not in sys.modules and _lies_here(top) and importlib.util.find_spec(top) is None:
        sys.path.append(str(Path.cwd()))
