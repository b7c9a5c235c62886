"""What the columns of somebody's table are for, found by their names and by what is in them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lvlm_va.data.label_lists import mostly_single
from lvlm_va.data.listing import split_name, whole_number
from lvlm_va.data.manifest import Columns, read_table
from lvlm_va.data.named import NamedFiles
from lvlm_va.data.one_hot import marked
from lvlm_va.errors import DataError

__all__ = ["FoundColumns", "find_columns"]

# As they are called once case, spaces and signs are taken away; the likelier first.
_FILE = (
    *(
        "file",
        "filename",
        "filepath",
        "path",
        "image",
        "imagepath",
        "imagefile",
        "imagename",
        "imagefilename",
    ),
    *("img", "imgpath", "imgfile", "imgname", "imgfilename", "picture", "photo", "imageid", "imageindex"),
    *("idcode", "isicid", "dicomid", "id", "name"),
)
_LABEL = (
    *("label", "labels", "class", "classname", "target", "y", "category", "diagnosis", "dx", "grade"),
    *("level", "outcome", "finding", "species", "severity", "groundtruth", "labelname", "classid", "labelid"),
    *("findinglabels", "findings"),
)
_SPLIT = ("split", "partition", "subset", "set", "part", "phase", "usage", "datasplit")
_BY_NUMBER = {"0": "train", "1": "validation", "2": "test"}  # as Waterbirds and CelebA write it
_SAMPLE = 50  # files looked for
_SHOWN = 8


@dataclass
class FoundColumns:
    """What the columns are for.

    Attributes:
        columns: what `data.columns` is to say, where it is not what is read anyway.
        splits: likewise `data.splits`.
        told: what was found, in a sentence.
    """

    columns: Columns = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    told: str = ""


def find_columns(
    path: Path,
    *,
    root: Path | None,
    given: Columns,
    splits: Mapping[str, str] | None = None,
    groups: Sequence[str] = (),
) -> FoundColumns:
    """Which columns of the table name the file, the class and the part.

    Args:
        path: the table.
        root: the folder that the files start from; the table's own when not given.
        given: what is said already, which is not looked for.
        splits: what the values of the split column are said to mean.
        groups: the columns that make groups, which are no labels.

    Raises:
        DataError: if it is not clear which column names the files or the classes.
    """
    header, rows, _ = read_table(path)
    if not rows:
        raise DataError(f"{path}: has no row below its first line")
    found = FoundColumns(columns=dict(given))
    file = given.get("file") or _file(path, header, rows, path.parent if root is None else root)
    label = given.get("label") or _label(path, [c for c in header if c not in (file, *groups)], rows)
    found.columns |= {"file": file, "label": label}
    told = [f"{file} as file", f"{label if isinstance(label, str) else ', '.join(label)} as label"]
    if not isinstance(label, str) and not mostly_single(rows, label):
        told.append(
            "an image may have several of them; if one is no label, name the others: --set "
            "data.columns={label: [NAME, NAME]}"
        )
    if "split" not in given and not splits:
        split, found.splits, said = _split(header, rows)
        if split is not None or "split" in header:
            found.columns["split"] = split
        told += [said] if said else []
    if (mask := given.get("mask", "mask")) in header:
        told.append(f"{mask} as the ground truth of a planted feature, by which results are measured")
    # What is called so anyway needs not be written.
    found.columns = {k: v for k, v in found.columns.items() if k != v or k in given}
    found.told = f"Columns of {path.name}: {'; '.join(told)}."
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def _named(header: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns that are called so, the likeliest first."""
    return sorted((c for c in header if _plain(c) in names), key=lambda c: names.index(_plain(c)))


def _file(path: Path, header: Sequence[str], rows: Sequence[Mapping[str, str]], root: Path) -> str:
    sample = rows[:: max(1, len(rows) // _SAMPLE)][:_SAMPLE]
    named = _named(header, _FILE)
    likely = [*named, *(column for column in header if column not in named)]
    shares = {}
    for column in likely:
        names = [row[column] for row in sample]
        if not all(names):
            continue
        shares[column] = 1 - len(NamedFiles.find(root, names).problems) / len(names)
    best = max(shares, key=shares.__getitem__, default=None)  # the first of equals
    if best is not None and shares[best] > 0:
        return best
    if named:  # its files are missing, which reading tells one by one
        return named[0]
    raise DataError(
        f"{path}: no column names files that lie in {root}; the columns are {_examples(header, rows)}. Say "
        "which it is: --set data.columns={file: NAME}, and where they lie: --set data.root=FOLDER"
    )


def _label(path: Path, header: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str | tuple[str, ...]:
    kinds = {column: len({row[column] for row in rows}) for column in header}
    if named := [c for c in _named(header, _LABEL) if kinds[c] > 1]:
        return named[0]
    marks = {column: [marked(row[column]) for row in rows] for column in header}
    binary = tuple(column for column, said in marks.items() if None not in said and 1 in said)
    if len(binary) > 1:
        return binary
    likely = [c for c, n in kinds.items() if 1 < n <= len(rows) / 2]
    if len(likely) == 1:
        return likely[0]
    raise DataError(
        f"{path}: it is not clear which column is the class; the columns are {_examples(header, rows)}. Say "
        "which it is: --set data.columns={label: NAME}"
    )


def _split(
    header: Sequence[str], rows: Sequence[Mapping[str, str]]
) -> tuple[str | None, dict[str, str], str]:
    """The column, what its values mean where they do not say so themselves, and a sentence."""
    for column in _named(header, _SPLIT):
        values = sorted({row[column] for row in rows})
        try:
            for value in values:
                split_name(value)
        except DataError:
            numbers = {whole_number(value) for value in values}
            if "0" in numbers and len(numbers) > 1 and numbers <= _BY_NUMBER.keys():
                meant = {n: _BY_NUMBER[n] for n in sorted(numbers)}
                told = ", ".join(f"{n} {name}" for n, name in meant.items())
                return column, meant, f"{column} as split ({told})"
            continue
        return column, {}, f"{column} as split"
    if "split" in header:
        return None, {}, "split left out, since its values are no parts (see data.splits)"
    return None, {}, ""


def _examples(header: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    told = ", ".join(f"{column} ({rows[0][column]!r})" for column in header[:_SHOWN])
    return told + (f" and {len(header) - _SHOWN} more" if len(header) > _SHOWN else "")
