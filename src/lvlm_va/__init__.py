"""LVLM-VA: align small vision classifiers with domain knowledge written in words."""

from lvlm_va._version import __version__

__all__ = ["__version__"]
