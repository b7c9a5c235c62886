"""verdicts.csv: the critic's verdicts, for the expert to read and overrule.

Columns: image_id, segment, spurious (1, 0, or empty for unscored), reason, author. Whoever changes
`spurious` overrules the critic; a name in `author` signs it. What the critic said stays in the critiques'
store and in critic_verdicts.csv, so that an edited row is told by its difference. An apostrophe before what a
spreadsheet would take for a formula is not part of the text; see `cells`.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import RunError
from lvlm_va.io.cells import from_cell, to_cell

__all__ = ["Overruled", "read_verdicts", "reconcile", "verdicts_file"]

_COLUMNS = ("image_id", "segment", "spurious", "reason", "author")
_VALUES = {"1": True, "0": False, "": None}
UNSIGNED = "hand"
"""Author of an edited row that still bears the critic's name."""


@dataclass(frozen=True)
class Overruled:
    """One verdict that a person changed: what the critic said, and what holds."""

    critic: Verdict
    person: Verdict


def verdicts_file(verdicts: Iterable[Verdict]) -> bytes:
    """The table as a CSV file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for v in verdicts:
        spurious = "" if v.spurious is None else int(v.spurious)
        writer.writerow([to_cell(v.image_id), v.segment, spurious, to_cell(v.reason), to_cell(v.author)])
    return text.getvalue().encode()


def read_verdicts(path: Path) -> list[Verdict]:
    """Read the table, as a spreadsheet may have left it.

    Raises:
        RunError: naming the line and what to write there.
        FileNotFoundError: if there is no table.
    """
    verdicts = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            text = file.read()
    except UnicodeDecodeError:
        raise RunError(f"{path}: is not UTF-8 text; save it as CSV (UTF-8)") from None
    # Spreadsheets of some countries write semicolons.
    delimiter = ";" if text.partition("\n")[0].count(";") >= len(_COLUMNS) - 1 else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    if reader.fieldnames is None or not set(_COLUMNS) <= set(reader.fieldnames):
        raise RunError(f"{path}: the first line must name the columns {', '.join(_COLUMNS)}")
    for row in _rows(reader, path):
        where = f"{path}, line {reader.line_num}"
        if not any(row[column] for column in _COLUMNS):
            continue  # a spreadsheet's empty line: separators only
        if any(row[column] is None for column in _COLUMNS):
            raise RunError(f"{where}: has fewer than {len(_COLUMNS)} columns")
        if row["spurious"].strip() not in _VALUES:
            raise RunError(f"{where}: spurious is {row['spurious']!r}; write 1, 0, or nothing (unscored)")
        if not row["segment"].strip().isdecimal():
            raise RunError(f"{where}: segment is {row['segment']!r}; write its number")
        verdicts.append(
            Verdict(
                image_id=from_cell(row["image_id"]),
                segment=int(row["segment"]),
                spurious=_VALUES[row["spurious"].strip()],
                reason=from_cell(row["reason"]),
                author=from_cell(row["author"].strip()),
            )
        )
    return verdicts


def _rows(reader: "csv.DictReader[str]", path: Path) -> Iterator[dict[str, str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise RunError(f"{path}, after line {reader.line_num}: cannot be read as CSV ({error})") from None


def reconcile(
    critic: Sequence[Verdict], table: Sequence[Verdict], *, where: Path
) -> tuple[list[Verdict], list[Overruled]]:
    """What holds: the critic's verdicts, except where a person changed them.

    Args:
        critic: what the critic said, one verdict per segment.
        table: what verdicts.csv says now. Missing rows keep the critic's verdict.
        where: the table's path, for messages.

    Returns:
        The verdicts in force, in the critic's order, and those that a person overruled.

    Raises:
        RunError: if a row names a segment that the critic was not asked about, or contradicts another.
    """
    said = {(v.image_id, v.segment): v for v in critic}
    edited: dict[tuple[str, int], Verdict] = {}
    for row in table:
        key = (row.image_id, row.segment)
        if key not in said:
            raise RunError(f"{where}: segment {row.segment} of {row.image_id!r} is not part of this run")
        if key in edited and edited[key].spurious != row.spurious:
            raise RunError(f"{where}: segment {row.segment} of {row.image_id!r} has two different verdicts")
        edited[key] = row
    verdicts, overruled = [], []
    for key, verdict in said.items():
        row = edited.get(key, verdict)
        if row.spurious != verdict.spurious or row.author != verdict.author:
            row = replace(row, author=UNSIGNED if row.author in ("", verdict.author) else row.author)
            overruled.append(Overruled(critic=verdict, person=row))
            verdicts.append(row)
        else:
            verdicts.append(verdict)
    return verdicts, overruled
