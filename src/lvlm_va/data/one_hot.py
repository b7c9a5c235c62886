"""Labels that a table spreads over a column per class, as ISIC and CheXpert do."""

from collections.abc import Mapping, Sequence

from lvlm_va.data.listing import whole_number
from lvlm_va.errors import DataError

__all__ = ["marked", "one_hot"]

_SAID = {"1": 1, "true": 1, "yes": 1, "0": 0, "false": 0, "no": 0, "": 0, "nan": 0, "-1": -1}
"""A cell, in lower case and without ".0" → yes, no or uncertain; empty where nothing is said of it."""
_SHOWN = 5


def marked(cell: str) -> int | None:
    """1, 0, or -1 (uncertain) for a cell; None where it is none of them."""
    return _SAID.get(whole_number(cell.strip().lower()))


def one_hot(
    rows: Sequence[Mapping[str, str]], columns: Sequence[str], at: Sequence[str]
) -> tuple[list[str | None], dict[int, str]]:
    """The one class of every row, and why some have none.

    Args:
        rows: of the table.
        columns: one per class, called as it is.
        at: the place of every row, for messages.

    Returns:
        per row the column that is 1; None where none or several are, or one is uncertain, and then why.

    Raises:
        DataError: naming cells that are not 0, 1, -1 or empty, and their places.
    """
    labels: list[str | None] = []
    without: dict[int, str] = {}
    wrong = []
    for n, row in enumerate(rows):
        said = {column: marked(row[column]) for column in columns}
        wrong += [f"{at[n]}: {c} is {row[c]!r}, not 0 or 1" for c, value in said.items() if value is None]
        ones = [column for column, value in said.items() if value == 1]
        if unsure := [column for column, value in said.items() if value == -1]:
            without[n] = f"has no single label: {' and '.join(unsure[:_SHOWN])} uncertain (-1)"
        elif len(ones) != 1:
            told = f"{' and '.join(ones[:_SHOWN])} are 1" if ones else f"none of {len(columns)} columns is 1"
            without[n] = f"has no single label: {told}"
        labels.append(None if n in without else ones[0] if ones else None)
    if wrong:
        more = f"\n... and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise DataError("\n".join(wrong[:_SHOWN]) + more)
    return labels, without
