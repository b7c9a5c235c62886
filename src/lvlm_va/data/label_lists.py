"""Several labels an image, from a table: a column of 0 and 1 for each, or lists such as `Effusion|Mass`."""

from collections.abc import Mapping, Sequence

from lvlm_va.data.listing import label_classes
from lvlm_va.data.one_hot import marked
from lvlm_va.errors import DataError

__all__ = ["UNKNOWN", "from_columns", "from_lists", "is_list_column", "mostly_single", "singles"]

Labels = tuple[float, ...]
"""K numbers: 1 has it, 0 has not, `UNKNOWN`."""

UNKNOWN = -1.0
_SEPARATORS = "|;"
_NONE = ("", "no finding")
_EMPTY = ("", "nan")
_SINGLE = 0.9
"""Of the rows must have exactly one label for the others to be mistakes, as a few are in any table."""
_SHOWN = 5


def mostly_single(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> bool:
    """Whether nine rows of ten are `singles`: then every image has one class."""
    return singles(rows, columns) >= _SINGLE * len(rows)


def singles(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> int:
    """In how many rows one column is 1 and none uncertain."""
    said = [[marked(row[column]) for column in columns] for row in rows]
    return sum(row.count(1) == 1 and -1 not in row for row in said)


def from_columns(
    rows: Sequence[Mapping[str, str]], columns: Sequence[str], at: Sequence[str]
) -> tuple[list[Labels], str]:
    """The labels of every row, and a sentence on what is unknown; "" where nothing is.

    Args:
        rows: of the table.
        columns: one per label, called as it is.
        at: the place of every row, for messages.

    Raises:
        DataError: naming cells that are not 0, 1, -1 or empty, and their places.
    """
    wrong, uncertain, empty = [], 0, 0
    labels: list[Labels] = []
    for row, place in zip(rows, at, strict=True):
        found = []
        for column in columns:
            value, blank = marked(row[column]), row[column].strip().lower() in _EMPTY
            if value is None:
                wrong.append(f"{place}: {column} is {row[column]!r}, not 0 or 1")
            uncertain, empty = uncertain + (value == -1), empty + blank
            found.append(UNKNOWN if blank or value is None else float(value))
        labels.append(tuple(found))
    if wrong:
        more = f"\n... and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise DataError("\n".join(wrong[:_SHOWN]) + more)
    kinds = [f"{n:,} {what}" for n, what in ((uncertain, "uncertain (-1)"), (empty, "empty")) if n]
    if not kinds:
        return labels, ""
    return labels, (
        f"Of {len(rows) * len(columns):,} labels {' and '.join(kinds)} are taken as unknown: they have no "
        "part in the loss nor in what is measured. Write 0 where a label is absent"
    )


def is_list_column(cells: Sequence[str], classes: Sequence[str] | None) -> bool:
    """Whether a column of labels holds lists: a label stands in two cells that are not the same."""
    distinct = set(cells) - set(classes or ())
    if not any(separator in cell for cell in distinct for separator in _SEPARATORS):
        return False
    met: set[str] = set()
    for cell in sorted(distinct):
        parts = set(_parts(cell))
        if parts & met:
            return True
        met |= parts
    return False


def from_lists(
    cells: Sequence[str], at: Sequence[str], classes: Sequence[str] | None, *, where: str
) -> tuple[tuple[str, ...], list[Labels]]:
    """Label names, and the labels of every row; an empty cell and "No Finding" say that there is none.

    Args:
        cells: names with | or ; between them.
        at: the place of every row, for messages.
        classes: the label names in the order of the model's outputs; sorted when not given.
        where: names the table in messages.

    Raises:
        DataError: as `label_classes`.
    """
    named = {name.lower() for name in classes or ()}
    pairs, row_of = [], []
    for n, cell in enumerate(cells):
        for part in _parts(cell):
            if part.lower() not in _NONE or part.lower() in named:
                pairs.append((part, at[n]))
                row_of.append(n)
    names, found = label_classes(pairs, classes, where=where)
    labels = [[0.0] * len(names) for _ in cells]
    for n, k in zip(row_of, found, strict=True):
        labels[n][k] = 1.0
    return names, [tuple(row) for row in labels]


def _parts(cell: str) -> list[str]:
    for separator in _SEPARATORS[1:]:
        cell = cell.replace(separator, _SEPARATORS[0])
    return [part.strip() for part in cell.split(_SEPARATORS[0])]
