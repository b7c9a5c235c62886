"""Pictures listed in a table: CSV, or Parquet where pyarrow is installed."""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from lvlm_va.data.assemble import assemble
from lvlm_va.data.files import mask_reader, picture_reader, stamps
from lvlm_va.data.listing import Listing, Options, Preparation, Record, label_classes, split_name
from lvlm_va.data.splits import Splits
from lvlm_va.errors import ConfigError, DataError
from lvlm_va.io.hints import did_you_mean

__all__ = ["COLUMNS", "Table", "read_manifest", "read_table"]

COLUMNS = ("file", "label", "split", "mask", "id")
"""What a column may be for; each is called so unless the project says otherwise."""

_NEEDED = ("file", "label")
_SHOWN = 5

Table = tuple[list[str], list[dict[str, str]], int]
"""Column names, rows, and the number of the first row for messages (2 in a CSV file with a header)."""


def read_manifest(
    path: str | Path,
    *,
    root: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    groups: Sequence[str] = (),
    classes: Sequence[str] | None = None,
    log: Callable[[str], None] = lambda _: None,
    **options: Unpack[Options],
) -> Splits:
    """Pictures listed in a CSV or Parquet file.

    Needed are the columns `file` and `label`. `split` says train, validation or test (any name that begins
    with "test" is a test set of its own); without it, validation and test are held out class by class.
    `mask` names a file of the picture's size with the ground truth of the planted feature, or is empty
    where the picture has none. A picture's id is its file, unless `columns` names one.

    Args:
        path: the manifest; ends in .csv, .tsv or .parquet.
        root: the folder that the files start from; the manifest's own when not given.
        columns: file, label, split, mask or id → what that column is called.
        groups: columns whose values, with the class, make the groups that accuracy is also reported by.
        classes: the classes in the order of the model's outputs; sorted when not given. A label is a class
            name or its number, from 0.
        log: told, a sentence at a time, what was held out, set aside or found suspicious.
        options: see `Preparation`.

    Raises:
        DataError: if the table cannot be read, a column is missing (naming the nearest), or a label or split
            is unknown, naming the line.
    """
    path = Path(path)
    folder = path.parent if root is None else Path(root)
    preparation = Preparation(**options)
    header, rows, first = read_table(path)
    called = _called(path, header, columns or {}, groups)
    at = [f"{path}, line {first + n}" for n in range(len(rows))]

    names, labels = label_classes(
        zip((row[called["label"]] for row in rows), at, strict=True), classes, where=str(path)
    )
    splits = _splits(rows, called.get("split"), at)
    files = [folder / row[called["file"]] for row in rows]
    mask_files: list[Path] = []
    records = []
    for n, row in enumerate(rows):
        mask = None
        if "mask" in called and row[called["mask"]]:
            mask = len(mask_files)
            mask_files.append(folder / row[called["mask"]])
        values = tuple(row[column] for column in groups)
        name = row[called.get("id", called["file"])]
        records.append(Record(name, n, labels[n], splits[n], mask, values))
    _check_rows(path, records, rows, called, at)
    return assemble(
        Listing(
            name=path.stem,
            source=f"the manifest {path}",
            class_names=names,
            records=records,
            names=stamps(files, preparation.bits),
            read=picture_reader(files, preparation.bits, preparation.max_pixels),
            mask_names=stamps(mask_files, "mask"),
            read_mask=mask_reader(mask_files, preparation.max_pixels),
            group_columns=tuple(groups),
        ),
        preparation,
        log=log,
    )


def read_table(path: Path) -> Table:
    """All cells as text; numbers that are whole are written without a decimal point, nothing is "".

    Raises:
        DataError: if there is no such file, or it is no table.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such manifest")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return _read_parquet(path)
        return _read_csv(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a table of UTF-8 text ({error})") from error


def _read_csv(path: Path) -> Table:
    text = path.read_text(encoding="utf-8-sig")
    lines = text.splitlines()
    if not lines:
        raise DataError(
            f"{path}: is empty; its first line names the columns, {', '.join(_NEEDED)} among them"
        )
    separator = max(",;\t", key=lines[0].count)
    reader = csv.DictReader(text.splitlines(keepends=True), delimiter=separator, strict=True)
    header = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = header
    rows = []
    for row in reader:
        if None in row or None in row.values():
            raise DataError(f"{path}, line {reader.line_num}: not {len(header)} cells, as the header has")
        rows.append({name: value.strip() for name, value in row.items()})
    return header, rows, 2


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"{path}: Parquet needs its reader: pip install 'lvlm-va[parquet]'") from None
    try:
        table = parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from error
    rows = [{name: _text(value) for name, value in row.items()} for row in table.to_pylist()]
    return list(table.column_names), rows, 1


def _text(value: Any) -> str:
    if value is None or value != value:  # NaN
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _called(
    path: Path, header: Sequence[str], columns: Mapping[str, str], groups: Sequence[str]
) -> dict[str, str]:
    """Purpose → name of the column, for those that are there."""
    for purpose in columns:
        if purpose not in COLUMNS:
            raise ConfigError(f"unknown column {purpose!r} in columns; {did_you_mean(purpose, COLUMNS)}")
    # A column that happens to be called id may name patients; it is an id only where one says so.
    wanted = {purpose: purpose for purpose in COLUMNS if purpose != "id"} | dict(columns)
    must = {wanted[purpose] for purpose in _NEEDED} | set(columns.values()) | set(groups)
    for name in sorted(must):
        if name not in header:
            raise DataError(f"{path}: there is no column {name!r}; {did_you_mean(name, header)}")
    if len(set(header)) != len(header):
        raise DataError(f"{path}: two columns have the same name: {', '.join(header)}")
    return {purpose: name for purpose, name in wanted.items() if name in header}


def _splits(rows: Sequence[Mapping[str, str]], column: str | None, at: Sequence[str]) -> list[str | None]:
    if column is None:
        return [None] * len(rows)
    found: list[str | None] = []
    wrong = []
    for row, place in zip(rows, at, strict=True):
        try:
            found.append(split_name(row[column]))
        except DataError as error:
            wrong.append(f"{place}: {error}")
    if wrong:
        raise DataError(
            "\n".join(wrong[:_SHOWN]) + (f"\n... and {len(wrong) - _SHOWN} more" * (len(wrong) > _SHOWN))
        )
    return found


def _check_rows(
    path: Path,
    records: Sequence[Record],
    rows: Sequence[Mapping[str, str]],
    called: Mapping[str, str],
    at: Sequence[str],
) -> None:
    first: dict[str, str] = {}
    for record, row, place in zip(records, rows, at, strict=True):
        if not row[called["file"]]:
            raise DataError(f"{place}: names no file")
        if not record.id:
            raise DataError(f"{place}: the id is empty")
        if record.id in first:
            raise DataError(
                f"{place}: {record.id!r} is listed already ({first[record.id].removeprefix(f'{path}, ')})"
            )
        first[record.id] = place
