"""The project files and class specifications of the paper's three data sets."""

from importlib.resources import files
from pathlib import Path

__all__ = ["PRESETS", "preset", "preset_specifications"]

PRESETS = ("decoy-mnist", "knee", "skin")


def preset(name: str) -> Path:
    """The project file of a data set of the paper, one of `PRESETS`."""
    return _file(f"{name.replace('-', '_')}.yaml")


def preset_specifications(name: str) -> Path | None:
    """The class specifications of a data set of the paper; None for any other."""
    return _file(f"{name.replace('-', '_')}_specifications.yaml") if name in PRESETS else None


def _file(name: str) -> Path:
    return Path(str(files("lvlm_va.project.presets") / name))
