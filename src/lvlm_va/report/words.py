"""Numbers as a reader meets them in a sentence or a table."""

import math
import re
from collections.abc import Iterable

from lvlm_va.config.schema import Config

__all__ = [
    "count",
    "decimal",
    "duration",
    "explained_class",
    "lambda_text",
    "mean_defined",
    "percent",
    "plus_minus",
    "points",
    "printable",
    "quote",
    "segmentation_text",
    "usd",
]

_GAP = "\u202f"  # a narrow space that does not break, between a number and its unit
_NONE = "—"


def explained_class(config: Config, *, several: bool = False) -> str:
    """Which class the critiqued images are explained for, by the settings of a run.

    Args:
        config: the settings.
        several: whether images may have several labels: then one of those that an image has.
    """
    if several:
        return "label explained"
    return "true class" if config.explain.target == "label" else "predicted class"


def percent(share: float | None, digits: int = 1) -> str:
    """0.821 as "82.1 %"; a dash for None and NaN."""
    if share is None or math.isnan(share):
        return _NONE
    return f"{100 * share:.{digits}f}{_GAP}%"


def plus_minus(share: float, error: float | None) -> str:
    """0.4153 and 0.021 as "41.5 ± 2.1 %"; without an error "41.5 %"."""
    if error is None or math.isnan(error):
        return percent(share)
    return f"{100 * share:.1f} ± {percent(error)}"


def points(change: float | None) -> str:
    """A change of a share in percentage points: 0.123 as "+12.3", −0.05 as "−5.0"."""
    if change is None or math.isnan(change):
        return _NONE
    text = f"{100 * change:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def decimal(value: float | None, digits: int = 3) -> str:
    """0.9501 as "0.950"; a dash for None and NaN."""
    return _NONE if value is None or math.isnan(value) else f"{value:.{digits}f}"


def lambda_text(lam: float) -> str:
    """λ, as short as it can be written: 0.01, 1, 1e+05."""
    return f"{lam:g}"


def mean_defined(values: Iterable[float | None]) -> float | None:
    """The mean of those that are defined; None where none is."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def count(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 image", "2 images", "12,000 images"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """0.4 as "0.4 s", 320.3 as "5 min 20 s"."""
    if seconds < 10:
        return f"{seconds:.1f}{_GAP}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}{_GAP}min {rest}{_GAP}s" if minutes else f"{rest}{_GAP}s"


def usd(dollars: float, unpriced: int = 0) -> str:
    """A price: "1.25 USD"; "at least 1.25 USD" where calls without a known price are missing from it."""
    text = f"{dollars:.4f}" if 0 < dollars < 0.1 else f"{dollars:.2f}"
    return f"{'at least ' if unpriced else ''}{text}{_GAP}USD"


def printable(text: str) -> str:
    """`text` without what could steer a terminal: a critic may have written anything."""
    return "".join(c if c.isprintable() or c in f"\n{_GAP}" else "�" for c in text.replace("\t", " "))


def quote(text: str) -> str:
    """What somebody said, in quotation marks; those inside become single ones."""
    inner = re.sub(r'"([^"]*)"', r"‘\1’", " ".join(text.split()))
    return f"“{inner}”" if inner else "no reason given"


def segmentation_text(method: str) -> str:
    """How segments are found, of `explain.segmentation`, as "... is divided into segments by ..." goes on."""
    known = {
        "ppeps-wgm": "a weighted Gaussian mixture",
        "sam": "the image’s regions, as SAM sees them: those that hold most of it, and the rest",
        "slic": "the image’s superpixels (SLIC): those that hold most of it, and the rest",
    }
    return known.get(method, method)
