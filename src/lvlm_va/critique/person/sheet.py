"""Segments to judge as a folder that a stranger can work through, and the way back.

    DIR/README.md
    DIR/judgements.csv     a row a picture; its column `judgement` is to be filled in
    DIR/0001-1f0c2b….png

A picture's name ends in the beginning of what identifies the segment; by that its row is recognised.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lvlm_va.critique.batch_export import Export
from lvlm_va.critique.batch_import import Import
from lvlm_va.critique.folder_export import whole_folder
from lvlm_va.critique.person.judgements import Answer
from lvlm_va.critique.person.judging import Judging, Segment
from lvlm_va.critique.prompts import fill
from lvlm_va.critique.question import Intervention
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.errors import ConfigError
from lvlm_va.io.cells import from_cell, to_cell
from lvlm_va.io.redaction import one_line

__all__ = ["SHEET", "export_segments", "import_segments", "read_answer", "step"]

SHEET = "judgements.csv"
_COLUMNS = ("picture", "class", "predicted", "share of the evidence", "judgement", "reason")
_NEEDED = ("picture", "judgement")
_NAME = re.compile(r"\d+-([0-9a-f]{16})\.png")
_DIGITS = 16
_LARGEST = 16 * 2**20  # bytes of a sheet
_WORDS: dict[str, Answer] = {
    "spurious": "spurious",
    "s": "spurious",
    "1": "spurious",
    "relevant": "relevant",
    "r": "relevant",
    "valid": "relevant",
    "0": "relevant",
    "cannot say": "cannot say",
    "c": "cannot say",
    "?": "cannot say",
}


def read_answer(text: str) -> Answer | None:
    """What a person wrote or typed, as an answer; None where it is none."""
    return _WORDS.get(" ".join(text.lower().split()))


def step(intervene: Intervention) -> str:
    """What the person is asked to condemn, in a sentence or two."""
    return fill(f"person_{intervene}")


def export_segments(
    segments: Sequence[Segment],
    specifications: Iterable[ClassSpecification],
    intervene: Intervention,
    path: Path,
) -> Export:
    """Lay segments out as pictures and a sheet.

    Args:
        segments: see `Judging.next`.
        specifications: of the classes; they stand in the README.
        intervene: how much is to be condemned.
        path: a folder that does not exist or is empty; it appears when it is complete.

    Raises:
        ConfigError: if the folder cannot be written or holds something.
    """
    if not segments:
        return Export((), 0)
    with whole_folder(path, "segments") as part:
        part.mkdir(parents=True)
        rows = io.StringIO(newline="")
        writer = csv.writer(rows)
        writer.writerow(_COLUMNS)
        for number, segment in enumerate(segments, 1):
            name = f"{number:04d}-{segment.seen[:_DIGITS]}.png"
            (part / name).write_bytes(segment.picture())
            of = segment.explained
            writer.writerow(
                [name, to_cell(of.class_name), to_cell(of.predicted), f"{segment.share:.0%}", "", ""]
            )
        # With a mark that tells Excel it is UTF-8.
        (part / SHEET).write_bytes(rows.getvalue().encode("utf-8-sig"))
        told = "\n\n".join("\n".join(f"> {line}" for line in one.text.splitlines()) for one in specifications)
        readme = fill(
            "person_readme", number=str(len(segments)), what=step(intervene), sheet=SHEET, specifications=told
        )
        (part / "README.md").write_text(readme + "\n", "utf-8")
    return Export((path,), len(segments))


def import_segments(
    paths: Iterable[Path], judging: Judging, *, answered_by: str | None, note: str = ""
) -> Import:
    """Take the judgements of sheets; rows without one stay open.

    A judgement that differs from the one in force takes its place; both are kept.

    Args:
        paths: folders that `export_segments` wrote, or their sheets; importing twice changes nothing.
        judging: of the run.
        answered_by: who judged.
        note: how.

    Raises:
        ConfigError: if nobody is named, or a sheet cannot be opened.
    """
    who = one_line(answered_by or "", 200).strip()
    if not who:
        raise ConfigError("say who judged: --answered-by NAME")
    how = "; ".join(filter(None, ("by file", one_line(note, 1000).strip())))
    known_segments = {segment.seen[:_DIGITS]: segment for segment in judging.segments}
    imported = known = empty = 0
    unknown: list[str] = []
    damaged: list[tuple[str, str]] = []
    unreadable: list[str] = []
    for path in paths:
        sheet = path / SHEET if path.is_dir() else path
        try:
            rows = _read(sheet)
        except ValueError as error:
            unreadable.append(f"{sheet} ({error})")
            continue
        said: dict[str, Answer] = {}
        for where, row in rows:
            match = _NAME.fullmatch(row["picture"].strip())
            answer = read_answer(row["judgement"])
            if match is None:
                damaged.append(
                    (where, f"{row['picture']!r} is no name of a picture; leave that column as it is")
                )
            elif not row["judgement"].strip():
                empty += 1
            elif answer is None:
                damaged.append(
                    (where, f"{row['judgement']!r} is no judgement; write spurious, relevant or cannot say")
                )
            elif match[1] not in known_segments:
                unknown.append(row["picture"].strip())
            elif said.setdefault(match[1], answer) != answer:
                damaged.append((where, "was judged differently further up; the first judgement is taken"))
            else:
                segment = known_segments[match[1]]
                before = judging.judgement(segment)
                if before is not None and before.answer == answer:
                    known += 1
                else:
                    reason = from_cell(row.get("reason") or "")
                    judging.submit(segment, answer, author=who, reason=reason, how=how)
                    imported += 1
    return Import(imported, (), (), tuple(unknown), known, tuple(damaged), tuple(unreadable), empty)


def _read(path: Path) -> list[tuple[str, dict[str, str]]]:
    """(where, row) of a sheet, as a spreadsheet may have left it; ValueError says why it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise ValueError(error.strerror) from None
    if len(data) > _LARGEST:
        raise ValueError("it is longer than any sheet")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is no UTF-8 text; save it as CSV (UTF-8)") from None
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
    try:
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        if not set(_NEEDED) <= set(reader.fieldnames):
            raise ValueError(f"its first line must name the columns {' and '.join(_NEEDED)}")
        rows = [(f"{path}, line {reader.line_num}", dict(row)) for row in reader]
    except csv.Error as error:
        raise ValueError(f"it cannot be read as CSV: {error}") from None
    return [(where, row) for where, row in rows if any(row[column].strip() for column in _NEEDED)]
