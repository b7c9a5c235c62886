"""Images listed in a table: CSV, or Parquet where pyarrow is installed."""

import csv
import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

from lvlm_va.data.assemble import assemble
from lvlm_va.data.files import image_reader, mask_reader, stamps
from lvlm_va.data.label_lists import UNKNOWN, from_columns, from_lists, is_list_column, mostly_single
from lvlm_va.data.listing import (
    Listing,
    Options,
    Preparation,
    Record,
    label_classes,
    split_name,
    whole_number,
)
from lvlm_va.data.named import NamedFiles
from lvlm_va.data.names import name_problem, shown
from lvlm_va.data.one_hot import one_hot
from lvlm_va.data.reading import Pixels
from lvlm_va.data.splits import Splits
from lvlm_va.errors import ConfigError, DataError
from lvlm_va.io.hints import did_you_mean

__all__ = ["COLUMNS", "Columns", "Table", "read_manifest", "read_table"]

Columns = dict[str, str | tuple[str, ...] | None]
"""Purpose → what that column is called; of `label` also several, one per class."""

COLUMNS = ("file", "label", "split", "mask", "id")
"""What a column may be for; each is called so unless the project says otherwise."""

_NEEDED = ("file", "label")
_SHOWN = 5
_HEAD = 1 << 16  # characters in which the first line is looked for

Table = tuple[list[str], list[dict[str, str]], list[int]]
"""Column names, rows, and for each row the line on which it begins (in Parquet its number, from 1)."""


def read_manifest(
    path: str | Path,
    *,
    root: str | Path | None = None,
    columns: Mapping[str, str | Sequence[str] | None] | None = None,
    splits: Mapping[str, str] | None = None,
    groups: Sequence[str] = (),
    classes: Sequence[str] | None = None,
    labels: Literal["auto", "one", "several"] = "auto",
    log: Callable[[str], None] = lambda _: None,
    **options: Unpack[Options],
) -> Splits:
    """Images listed in a CSV or Parquet file.

    Needed are the columns `file` and `label`. `split` says train, validation or test (any name that begins
    with "test" is a test set of its own); without it, validation and test are held out class by class.
    `mask` names a file of the image's size with the ground truth of the planted feature, or is empty
    where the image has none. An image's id is its file, unless `columns` names one.

    The label may be spread over a column per class, of which one is 1 (`columns={"label": ["MEL", "NV"]}`);
    rows of which none or several are 1, or one is uncertain (-1), are set aside.

    Where images may have several labels or none, those are a column of 0 and 1 for each, in which -1 and an
    empty cell say that it is not known; or lists in one column, such as `Effusion|Mass`.

    Files may be written as on another machine: without the suffix, with backslashes, without their folder, or
    after folders that are not here. What was found so is told.

    Args:
        path: the manifest; ends in .csv, .tsv or .parquet.
        root: the folder that the files start from; the manifest's own when not given.
        columns: file, label, split, mask or id → what that column is called; None where it is not to be used;
            for label also several columns, one per class.
        splits: value of the split column → train, validation or test, e.g. {"0": "train", "1": "validation"}.
        groups: columns whose values, with the class (of several labels: with each, present or absent), make
            the groups that accuracy is also reported by.
        classes: the classes in the order of the model's outputs; sorted when not given, or as the label's
            columns stand. A label is a class name or its number, from 0.
        labels: whether an image has "one" class or may have "several" labels or none; "auto": several where
            more than a tenth of the rows have not exactly one, or a column holds lists.
        log: told, a sentence at a time, what was held out, set aside or found suspicious.
        options: see `Preparation`.

    Raises:
        DataError: if the table cannot be read, a column is missing (naming the nearest), or a label or split
            is unknown, naming the line.
    """
    path = Path(path)
    folder = path.parent if root is None else Path(root)
    preparation = Preparation(**options)
    for place in (path, folder):
        if (problem := name_problem(str(place))) is not None:
            raise DataError(f"{shown(place)}: {problem}")
    header, rows, lines = read_table(path)
    columns = dict(columns or {})
    said = columns.pop("label", "label")
    one_per_class = None if said is None or isinstance(said, str) else tuple(said)
    called = _called(
        path, header, columns | ({} if one_per_class else {"label": said}), groups, one_per_class
    )
    at = [f"{path}, line {line}" for line in lines]

    set_aside: dict[str, str] = {}
    notes: list[str] = []
    of_images: Sequence[int | tuple[float, ...]]
    cells = [] if one_per_class else [row[called["label"]] for row in rows]
    single = mostly_single(rows, one_per_class) if one_per_class else not is_list_column(cells, classes)
    if labels == "several" or (labels == "auto" and not single):
        if one_per_class is None:
            names, of_images = from_lists(cells, at, classes, where=str(path))
        else:
            names = one_per_class if classes is None else tuple(classes)
            if set(names) != set(one_per_class):
                raise DataError(
                    f"{path}: data.classes names {', '.join(names)}, but the labels' columns are "
                    f"{', '.join(one_per_class)}; name the same"
                )
            of_images, unknown = from_columns(rows, names, at)
            notes += [unknown] if unknown else []
        notes += [_several_told(of_images)] if labels == "auto" else []
    else:
        if one_per_class is not None:
            rows, at, cells, set_aside = _labelled(rows, at, one_per_class, called["file"])
            classes = one_per_class if classes is None else classes
        names, of_images = label_classes(zip(cells, at, strict=True), classes, where=str(path))
    split = _splits(rows, called.get("split"), splits or {}, at)
    files = NamedFiles.find(folder, [row[called["file"]] for row in rows])
    masked = [n for n, row in enumerate(rows) if "mask" in called and row[called["mask"]]]
    masks = NamedFiles.find(folder, [rows[n][called["mask"]] for n in masked])
    for m, problem in masks.problems.items():  # the image is named beside it
        masks.problems[m] = f"{shown(rows[masked[m]][called['mask']])}: {problem}"
    mask_rows = {n: m for m, n in enumerate(masked)}
    records = []
    for n, row in enumerate(rows):
        name = row[called.get("id", called["file"])]
        if (problem := name_problem(name)) is not None:
            files.problems.setdefault(n, problem)
        values = tuple(row[column] for column in groups)
        records.append(Record(shown(name), n, of_images[n], split[n], mask_rows.get(n), values))
    _check_rows(path, records, rows, called, at)
    remarks = notes + files.remarks + [remark for remark in masks.remarks if remark not in files.remarks]
    for remark in remarks:
        log(remark)
    return assemble(
        Listing(
            name=path.stem,
            source=f"the manifest {path}",
            class_names=names,
            records=records,
            names=stamps(files.paths, *preparation.reading, *(["whole"] if masked else [])),
            read=_unless(
                files.problems,
                image_reader(
                    files.paths,
                    preparation.bits,
                    preparation.max_pixels,
                    frame=preparation.frame,
                    # A mask is compared with the image's own size.
                    side=None if masked else preparation.side,
                ),
            ),
            mask_names=stamps(masks.paths, "mask"),
            read_mask=_unless(masks.problems, mask_reader(masks.paths, preparation.max_pixels)),
            group_columns=tuple(groups),
            set_aside=set_aside,
            remarks=remarks,
        ),
        preparation,
        log=log,
    )


def _several_told(labels: Sequence[tuple[float, ...]]) -> str:
    other = sum(row.count(1.0) != 1 or UNKNOWN in row for row in labels)
    return (
        f"{other:,} of {len(labels):,} rows have not exactly one label, so that an image may have several or "
        "none (data.labels: one sets such rows aside)"
    )


def _labelled(
    rows: Sequence[dict[str, str]], at: Sequence[str], columns: Sequence[str], file: str
) -> tuple[list[dict[str, str]], list[str], list[str], dict[str, str]]:
    """The rows of which one column is 1, their places and labels; file → why, of the others."""
    labels, without = one_hot(rows, columns, at)
    if len(without) == len(rows):
        raise DataError(f"{at[0] if at else 'the table'}: {without.get(0, 'no row')}, nor has any other row")
    kept = [
        (row, place, label) for row, place, label in zip(rows, at, labels, strict=True) if label is not None
    ]
    set_aside = {shown(rows[n][file]) or at[n]: reason for n, reason in without.items()}
    return (
        [row for row, _, _ in kept],
        [place for _, place, _ in kept],
        [label for *_, label in kept],
        set_aside,
    )


def _unless(problems: Mapping[int, str], read: Callable[[int], Pixels]) -> Callable[[int], Pixels]:
    """`read`, which never opens what is known to be no file."""

    def checked(row: int) -> Pixels:
        if row in problems:
            raise DataError(problems[row])
        return read(row)

    return checked


def read_table(path: Path) -> Table:
    """All cells as text; of Parquet, whole numbers are written without a decimal point, nothing is "".

    Raises:
        DataError: if there is no such file, or it is no table.
    """
    if not os.path.isfile(path):  # noqa: PTH113 -- False where it is no name
        raise DataError(f"{path}: no such manifest")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return _read_parquet(path)
        return _read_csv(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a table of UTF-8 text ({error})") from error


def _read_csv(path: Path) -> Table:
    text = path.read_bytes().decode("utf-8-sig")  # line breaks in cells as they are
    stream = io.StringIO(text, newline="")  # the csv module splits lines itself, others than splitlines does
    separator = None
    # Excel says so where a comma is not the separator.
    if said := re.match(r'"?sep=(.)"?\r?\n', text):
        separator = said[1]
        stream.seek(said.end())
    if not text[said.end() if said else 0 :].strip():
        raise DataError(
            f"{path}: is empty; its first line names the columns, {', '.join(_NEEDED)} among them"
        )
    if separator is None:
        # Separators within quotes separate nothing.
        outside = re.sub(r'"[^"]*"', "", text[:_HEAD]).lstrip("\r\n")
        separator = max(",;\t|", key=re.split("[\r\n]", outside, maxsplit=1)[0].count)
    before = 1 if said else 0
    reader = csv.reader(stream, delimiter=separator, strict=True)
    header: list[str] = []
    rows, lines = [], []
    line = 1 + before
    try:
        for cells in reader:
            here, line = line, reader.line_num + before + 1
            if not cells:
                continue
            if not header:
                header = [name.strip() for name in cells]
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{path}, line {here}: the header has {len(header)} cells, this row {len(cells)}; "
                    "a cell with the separator or a line break in it stands in quotes"
                )
            rows.append(dict(zip(header, (cell.strip() for cell in cells), strict=True)))
            lines.append(here)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num + before}: not a table ({error})") from error
    return header, rows, lines


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
    return list(table.column_names), rows, list(range(1, len(rows) + 1))


def _text(value: Any) -> str:
    if value is None or value != value:  # NaN
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _called(
    path: Path,
    header: Sequence[str],
    columns: Mapping[str, str | Sequence[str] | None],
    groups: Sequence[str],
    one_per_class: Sequence[str] | None,
) -> dict[str, str]:
    """Purpose → name of the column, for those that are there; `label` is not, where it has several."""
    if one_per_class is not None and len(set(one_per_class)) < 2:
        raise ConfigError("columns: label: name one column, or one for each of at least two classes")
    needed = [purpose for purpose in _NEEDED if purpose != "label" or one_per_class is None]
    for purpose, name in columns.items():
        if purpose not in COLUMNS:
            raise ConfigError(f"unknown column {purpose!r} in columns; {did_you_mean(purpose, COLUMNS)}")
        if name is None and purpose in _NEEDED:
            raise ConfigError(f"columns: {purpose}: cannot be left out; say what the column is called")
        if name is not None and not isinstance(name, str):
            raise ConfigError(f"columns: {purpose}: is one column; only label may have several")
    # A column that happens to be called id may name patients; it is an id only where one says so.
    defaults = {
        purpose: purpose
        for purpose in COLUMNS
        if purpose != "id" and (purpose != "label" or "label" in needed)
    }
    wanted = {purpose: name for purpose, name in (defaults | dict(columns)).items() if isinstance(name, str)}
    must = {wanted[purpose] for purpose in needed} | set(groups) | set(one_per_class or ())
    must |= {name for name in columns.values() if isinstance(name, str)}
    for name in sorted(must):
        if name not in header:
            say = f". Say which it is: data.columns: {{{name}: NAME}}" if name in _NEEDED else ""
            raise DataError(f"{path}: there is no column {name!r}; {did_you_mean(name, header)}{say}")
    if len(set(header)) != len(header):
        raise DataError(f"{path}: two columns have the same name: {', '.join(header)}")
    return {purpose: name for purpose, name in wanted.items() if name in header}


def _splits(
    rows: Sequence[Mapping[str, str]], column: str | None, meant: Mapping[str, str], at: Sequence[str]
) -> list[str | None]:
    if column is None:
        return [None] * len(rows)
    found: list[str | None] = []
    wrong = []
    for row, place in zip(rows, at, strict=True):
        value = row[column]
        try:
            found.append(split_name(meant.get(value, meant.get(whole_number(value), value))))
        except DataError as error:
            wrong.append(f"{place}: {error}")
    if wrong:
        raise DataError(
            "\n".join(wrong[:_SHOWN])
            + f"\n... and {len(wrong) - _SHOWN} more" * (len(wrong) > _SHOWN)
            + f"\nSay what the values of {column!r} mean, e.g. "
            "data.splits: {0: train, 1: validation, 2: test}, "
            "or leave the column out: data.columns: {split: null}"
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
