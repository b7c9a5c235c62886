"""Numbers over seeds, and tables, as Markdown."""

from collections.abc import Sequence
from statistics import mean, stdev

__all__ = ["mean_std", "table"]


def mean_std(values: Sequence[float]) -> str:
    """E.g. 0.972 ± 0.001 (n = 3); the standard deviation divides by n − 1."""
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.3f} (n = 1)"
    return f"{mean(values):.3f} ± {stdev(values):.3f} (n = {len(values)})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, a line an element."""
    return [
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
