"""Numbers and tables as Markdown: every mean with its standard deviation and its n."""

from collections.abc import Collection, Sequence
from statistics import mean, stdev

__all__ = ["interval", "mean_std", "probability", "share", "signed", "table"]


def mean_std(values: Collection[float], n: int | None = None, digits: int = 3) -> str:
    """E.g. 0.972 ± 0.001 (n = 3); the standard deviation divides by n − 1 and needs two values.

    Args:
        values: one a seed.
        n: how many the table's row already says there are; said again where it is another number.
        digits: after the point.
    """
    if not values:
        return "–"
    text = f"{mean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ± {stdev(values):.{digits}f}"
    return text if len(values) == n else f"{text} (n = {len(values)})"


def signed(values: Collection[float], n: int | None = None) -> str:
    """`mean_std` of differences: a gain says +."""
    text = mean_std(values, n)
    return text if text.startswith(("-", "–")) else f"+{text}"


def interval(bounds: tuple[float, float] | None) -> str:
    """E.g. [+0.120, +0.310]; – where there is none."""
    return "–" if bounds is None else f"[{bounds[0]:+.3f}, {bounds[1]:+.3f}]"


def share(value: float | None) -> str:
    """E.g. 0.97; — where there is none."""
    return "—" if value is None else f"{value:.2f}"


def probability(p: float) -> str:
    """Four digits: the smallest possible exact p of seven pairs is 0.0156."""
    return f"{p:.4f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, a line an element; columns in which no row says anything are left out."""
    said = [n for n in range(len(head)) if n == 0 or any(row[n] not in ("", "–") for row in rows)]
    return [
        "| " + " | ".join(head[n] for n in said) + " |",
        "|" + " --- |" * len(said),
        *("| " + " | ".join(_cell(row[n]) for n in said) + " |" for row in rows),
    ]


def _cell(text: str) -> str:
    """A reason of a failure may hold anything: a bar would end the cell, a line break the table."""
    return " ".join(text.split()).replace("|", "\\|")
