"""The names that a project file may use, known without importing what they stand for."""

from lvlm_va.io.hints import did_you_mean

__all__ = ["DATA_SETS", "MAX_PIXELS", "check_data_set"]

MAX_PIXELS = 178_956_970
"""Pillow's own bound: half a gigabyte of RGB. A file of a few kilobytes can claim any number."""

DATA_SETS = ("folder", "manifest", "decoy-mnist", "knee", "skin")
"""`data.name`: the user's own images, or one of the paper's data sets."""


def check_data_set(name: str) -> str:
    """`name` as it is.

    Raises:
        ValueError: naming the nearest, if there is no such data set.
    """
    if name not in DATA_SETS:
        raise ValueError(f"unknown data set {name!r}; {did_you_mean(name, DATA_SETS)}")
    return name
