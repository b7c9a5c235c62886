"""CSV cells: no formula for a spreadsheet, and what is read back is what was written."""

import csv
import io
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from lvlm_va.critique.verdict import Verdict
from lvlm_va.explain.sampling import Selection
from lvlm_va.io.cells import from_cell, to_cell
from lvlm_va.run.artefacts import read_selection, selection_file
from lvlm_va.run.verdict_table import read_verdicts, reconcile, verdicts_file

FORMULA = "=+-@＝＋－＠﹦﹢﹣﹫"
awkward = st.text(st.sampled_from(f"{FORMULA}'\"; ,\t\r\na\u00a0"), max_size=12)


@given(st.text() | awkward)
@example("'=1")
@example("''\t;'=1")
@example("-abc.png")
def test_cells_are_read_back(text: str) -> None:
    assert from_cell(to_cell(text)) == text


@given(st.text() | awkward)
def test_no_cell_begins_like_a_formula(text: str) -> None:
    cell = to_cell(text)
    assert cell.lstrip(" \u00a0")[:1] not in {*FORMULA, "\t", "\r", "\n"}
    # A spreadsheet of another country splits at semicolons, and at line breaks where it takes no quotes.
    for part in cell.replace("\t", ";").replace("\r", ";").replace("\n", ";").split(";"):
        assert part.lstrip(" \u00a0")[:1] not in set(FORMULA)


@pytest.mark.parametrize("text", ["a sticker", "", "a - b", "it's", "'quoted'", "1-2", "x=y", "n; m, o"])
def test_ordinary_text_is_not_touched(text: str) -> None:
    assert to_cell(text) == text
    assert from_cell(text) == text


def test_tables_and_what_a_person_makes_of_them(tmp_path: Path) -> None:
    said = [
        Verdict("-nut.png", 1, True, '=HYPERLINK("http://127.0.0.1/?"&A1)', "@m"),
        Verdict("nut.png", 2, False, "+1; =2\n=3", "@m"),
    ]
    file = tmp_path / "verdicts.csv"
    file.write_bytes(verdicts_file(said))
    rows = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"), newline="")))
    assert not [cell for row in rows for cell in row if cell[:1] in {*FORMULA, "\t"}]
    assert read_verdicts(file) == said

    def saved(rows: list[list[str]]) -> list[Verdict]:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        file.write_text(text.getvalue(), encoding="utf-8")
        return read_verdicts(file)

    # Some spreadsheets drop the mark when they save.
    bare = [[cell.removeprefix("'") for cell in row] for row in rows]
    assert reconcile(said, saved(bare), where=file) == (said, [])
    rows[1][2:] = ["0", "- it is the hole", "Ann"]
    in_force, (overruled,) = reconcile(said, saved(rows), where=file)
    assert in_force == [Verdict("-nut.png", 1, False, "- it is the hole", "Ann"), said[1]]
    assert overruled.critic == said[0]


def test_the_selection(tmp_path: Path) -> None:
    selection = Selection(
        torch.tensor([1, 0]),
        torch.tensor([-0.0, 0.5], dtype=torch.float64),
        "lowest",
        (1, 1),
        torch.tensor([1, 0]),
    )
    file = tmp_path / "selection.csv"
    file.write_bytes(selection_file(selection, ["=a.png", "b.png"]))
    assert [line.split(",")[0] for line in file.read_text().splitlines()[1:]] == ["b.png", "'=a.png"]
    assert read_selection(file)[0].tolist() == [1, 0]
