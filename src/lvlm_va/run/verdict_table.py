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

__all__ = [
    "HEADER",
    "Overruled",
    "read_verdicts",
    "reconcile",
    "row_of",
    "verdicts_file",
    "verdicts_in",
]

_COLUMNS = ("image_id", "segment", "spurious", "reason", "author")
_VALUES = {"1": True, "0": False, "": None}
HEADER = ",".join(_COLUMNS).encode() + b"\r\n"
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
    writer.writerows(map(_cells, verdicts))
    return text.getvalue().encode()


def row_of(verdict: Verdict) -> bytes:
    """One row of the table, its line end included."""
    text = io.StringIO(newline="")
    csv.writer(text).writerow(_cells(verdict))
    return text.getvalue().encode()


def _cells(verdict: Verdict) -> tuple[str, int, str | int, str, str]:
    spurious = "" if verdict.spurious is None else int(verdict.spurious)
    return (
        to_cell(verdict.image_id),
        verdict.segment,
        spurious,
        to_cell(verdict.reason),
        to_cell(verdict.author),
    )


def read_verdicts(path: Path) -> list[Verdict]:
    """Read the table, as a spreadsheet may have left it.

    Raises:
        RunError: naming the line and what to write there.
        FileNotFoundError: if there is no table.
    """
    return list(verdicts_in(path))


def verdicts_in(path: Path) -> Iterator[Verdict]:
    """The rows of the table one after the other, as they are read; what is written in many is kept once.

    Raises:
        RunError, FileNotFoundError: as `read_verdicts`; of a row when it is met.
    """
    known: dict[str, str] = {}
    good = 0  # the last line that could be read

    def text(cell: str) -> str:
        found = from_cell(cell)
        return known.setdefault(found, found)

    with path.open(newline="", encoding="utf-8-sig") as file:
        try:
            first = file.readline()
            file.seek(0)
            # Spreadsheets of some countries write semicolons.
            delimiter = ";" if first.count(";") >= len(_COLUMNS) - 1 else ","
            reader = csv.reader(file, delimiter=delimiter)
            header = next(reader, [])
            if not set(_COLUMNS) <= set(header):
                raise RunError(f"{path}: the first line must name the columns {', '.join(_COLUMNS)}")
            place = {name: n for n, name in enumerate(header)}
            places = [place[column] for column in _COLUMNS]
            good = reader.line_num
            for row in reader:
                good = reader.line_num
                if not row:
                    continue
                where = f"{path}, line {reader.line_num}"
                cells = [row[n] for n in places if n < len(row)]
                if not any(cells):
                    continue  # a spreadsheet's empty line: separators only
                if len(cells) < len(_COLUMNS):
                    raise RunError(f"{where}: has fewer than {len(_COLUMNS)} columns")
                image_id, segment, spurious, reason, author = cells
                if spurious.strip() not in _VALUES:
                    raise RunError(f"{where}: spurious is {spurious!r}; write 1, 0, or nothing (unscored)")
                if not segment.strip().isdecimal():
                    raise RunError(f"{where}: segment is {segment!r}; write its number")
                yield Verdict(
                    image_id=text(image_id),
                    segment=int(segment),
                    spurious=_VALUES[spurious.strip()],
                    reason=text(reason),
                    author=text(author.strip()),
                )
        except UnicodeDecodeError:
            raise RunError(f"{path}: is not UTF-8 text; save it as CSV (UTF-8)") from None
        except csv.Error as error:
            raise RunError(f"{path}, after line {good}: cannot be read as CSV ({error})") from None


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
