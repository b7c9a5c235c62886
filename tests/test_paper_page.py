"""The paper in the repository: its numbers are its own, its sections exist, the page leads where it says."""

import importlib
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import paper_quotes as paper
import result_lines
from experiments.description import catalogue, read_experiment
from experiments.pages import render
from lvlm_va.study.kinds import EXPLANATIONS, IN_THE_PAPER, REASONING, RELEVANCE
from lvlm_va.study.tell import _beside_the_paper

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGE = (DOCS / "paper.md").read_text("utf-8")
CODE = re.findall(r"`([^`]+)`", PAGE)
SYMBOLS = sorted({name for name in CODE if name.startswith("lvlm_va.")})
FILES = sorted({name for name in CODE if re.fullmatch(r"[\w./-]+/[\w.-]+\.\w+", name)})
LINKS = sorted(set(re.findall(r"\]\(([^)#]+)\)", PAGE)))
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if "|" in line]
CLAIMS = [row for row in ROWS if row[0] != "paper" and not row[0].startswith("---")]

EXPERIMENTS = {name: read_experiment(name) for name in catalogue()}
PAPER_ROWS = [(name, row) for name, about in EXPERIMENTS.items() for row in about.paper_rows]


@pytest.mark.parametrize("name", SYMBOLS)
def test_symbols_can_be_imported(name):
    parent, _, last = name.rpartition(".")
    assert hasattr(importlib.import_module(parent), last)


@pytest.mark.parametrize("path", FILES)
def test_files_exist(path):
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("link", LINKS)
def test_links_lead_to_pages(link):
    assert (DOCS / link).is_file()


def test_a_claim_a_line_with_source_code_and_outcome():
    assert len(CLAIMS) > 35
    told = re.compile(r"^(Same|Differs|Measured|Not measured|Ours|Holds|A setting|\[Measured\]|`)")
    for row in CLAIMS:
        assert len(row) == 4, row
        source, says, code, outcome = row
        assert says
        assert set(re.findall(r"`([^`]+)`", code)) & {*SYMBOLS, *FILES}, row
        assert told.match(outcome), row
        assert source == "–" or _sources(source) <= paper.SOURCES, row


def test_every_figure_table_and_section_of_results_has_a_line():
    told = set().union(*(_sources(row[0]) for row in CLAIMS))
    assert paper.SOURCES - {"Sec. 5", "Sec. 1"} <= told


def test_every_experiment_of_the_paper_is_on_the_page():
    for name, about in EXPERIMENTS.items():
        if about.paper_rows or about.paper_claims or about.paper.startswith(("Fig.", "Table")):
            assert f"results/{name}/README.md" in PAGE, name


def _sources(words):
    """Of "Sec. 4.1, Fig. 2, 7": each with its kind."""
    found, kind = set(), ""
    for word in re.findall(r"Sec\.|Fig\.|Table|\d+(?:\.\d)?", words):
        if word[0].isdigit():
            found.add(f"{kind if '.' not in word else 'Sec.'} {word}")
        else:
            kind = word
    return found


# --- numbers and outcomes ---


@pytest.mark.parametrize(("name", "row"), PAPER_ROWS, ids=lambda x: x if isinstance(x, str) else "")
def test_numbers_are_those_of_the_paper(name, row):
    """Each cell stands on the line of its source that the row's label names."""
    label = next(text for text in row.cells.values() if text.startswith("the paper: ")).removeprefix(
        "the paper: "
    )
    cells = dict(row.cells)
    if row.source == "Sec. 6":
        words = {"lowest": "this strategy", "random": "under random", "highest": "high entropy"}[label]
        (share,) = re.findall(rf"{words}\D*?(\d+)%|(\d+)%[^%]*{words}", " ".join(paper.SAMPLING))
        percent = float(next(filter(None, share)))
        assert float(cells["share with the planted feature"]) == percent / 100
        return
    table = {"Table 1": paper.TABLE_1, "Table 2": paper.TABLE_2}[row.source]
    label = {"LVLM-VA, right reasons": cells.get("masks by"), "SAM ViT-B": "SAM"}.get(label, label)
    (line,) = [line for line in table if line.split("\t")[0].removesuffix(" (used)") == label]
    for column, text in cells.items():
        if column.startswith("ΔWGA"):
            mean, std = re.fullmatch(r"\+(\S+) ± (\S+)\*", text).groups()
            assert line.endswith(f"${mean} \\pm {std}^*$")
        elif column == "n":
            assert f"across {text} seeds" in paper.SEEDS
        elif column in ("verdict accuracy", "USD a million input tokens"):
            assert line.split("\t")[-2 if column == "verdict accuracy" else 1] == text
        else:
            assert not re.search(r"\d\.\d", text), f"{column} is checked by nothing"


def test_both_tables_and_the_sampling_stand_in_the_catalogue_whole():
    assert [row.source for row in EXPERIMENTS["table1"].paper_rows] == ["Table 1"] * len(paper.TABLE_1)
    assert [row.source for row in EXPERIMENTS["table2"].paper_rows] == ["Table 2"] * len(paper.TABLE_2)
    assert len(EXPERIMENTS["sampling"].paper_rows) == 3


def test_the_outcomes_are_those_of_the_paper():
    claims = {(one.dataset, one.method): one.moves for one in EXPERIMENTS["baselines"].paper_claims}
    assert "without diminishing" in paper.OUTCOMES[0]
    assert "slight improvement in WGA for the skin" in paper.OUTCOMES[1]
    assert "improves WGA" in paper.OUTCOMES[2]
    assert "not beneficial in either" in paper.OUTCOMES[3]
    for dataset in ("knee", "skin"):
        assert claims[dataset, "right reasons"] == {"WGA": "up", "AGA": "not down"}
        assert claims[dataset, "subg"] == {"WGA": "up", "AGA": "down"}
        assert claims[dataset, "dfr"] == {"WGA": "not up"}
    assert claims["skin", "jtt"] == {"WGA": "up"}
    assert claims["knee", "jtt"] == {"WGA": "not up"}, "LVLM-VA is the only method which increases it"


def test_the_study_of_the_paper():
    rates = {
        kind: int(re.search(r"in (\d+)% of cases", words)[1])
        for kind, words in zip((RELEVANCE, REASONING, EXPLANATIONS), paper.STUDY[1:], strict=True)
    }
    assert {kind: round(100 * rate) for kind, rate in IN_THE_PAPER.items()} == rates
    people, questions = re.search(r"(\d+) participants .* (\d+) questions", paper.STUDY[0]).groups()
    told = "\n".join(_beside_the_paper({"rates": {RELEVANCE: {"rate": 0.5}, EXPLANATIONS: {"rate": None}}}))
    guide = (DOCS / "user-study.md").read_text("utf-8")
    for text in (told, guide):
        assert f"{people} people" in text
        assert re.search(rf"{questions}\s+questions", text)
        assert "ours" in text
    assert all(f"{rate} %" in " ".join(guide.split()) for rate in rates.values())
    assert "| 50.0\u202f% | 88.0\u202f% |" in told
    assert "87" not in told, "nothing was asked about reasoning"


# --- how they are shown ---


def shown(lines, **more):
    return render(result_lines.about("baselines", "methods", **more), result_lines.results(lines))[0]


ROW = {
    "dataset": "knee",
    "source": "Table 9",
    "cells": {"method": "the paper: ours", "ΔWGA": "+0.5", "x": "7"},
}


def test_the_papers_rows_stand_below_ours_and_columns_of_its_own_come_last():
    text = shown([result_lines.measured("original", seed=0, worst=0.5)], paper_rows=[ROW])
    table = text[text.index("| method |") :].split("\n\n")[0].splitlines()
    assert table[0].endswith("| x | source |")
    assert table[-1].startswith("| the paper: ours |")
    assert table[-1].endswith("| 7 | Table 9 |")
    assert len({line.count("|") for line in table}) == 1
    assert "*the paper* are its own numbers" in text


def test_where_nothing_is_measured_the_papers_rows_stand_alone():
    text = shown([], paper_rows=[ROW])
    assert "## Knee: the paper alone" in text
    assert "| the paper: ours | +0.5 | 7 | Table 9 |" in text
    elsewhere = [result_lines.measured("original", seed=0, worst=0.5, dataset="skin")]
    assert "Knee: the paper alone" in shown(elsewhere, paper_rows=[ROW])


def claim(**fields: Any) -> dict[str, Any]:
    """What the paper says of a method, "so", with changes."""
    said = {"dataset": "knee", "source": "Fig. 8", "method": "subg", "says": "so", "moves": {"WGA": "up"}}
    return said | fields


@pytest.mark.parametrize(
    ("after", "move", "agrees"),
    [
        ((0.7, 0.72), "up", True),
        ((0.7, 0.72), "not up", False),
        ((0.3, 0.32), "up", False),
        ((0.3, 0.32), "down", True),
        ((0.3, 0.32), "not down", False),
        ((0.3, 0.72), "up", False),  # mean + 0.01, less than its deviation: unchanged
        ((0.3, 0.72), "not up", True),
        ((0.3, 0.72), "not down", True),
        ((0.3, 0.72), "down", False),
    ],
)
def test_claims_are_compared_with_what_was_measured(after, move, agrees):
    lines = [result_lines.measured("original", seed=seed, worst=0.5) for seed in (0, 1)]
    lines += [result_lines.measured("subg", seed=seed, worst=worst) for seed, worst in enumerate(after)]
    text = shown(lines, paper_claims=[claim(why="because", moves={"WGA": move})])
    (row,) = [line for line in text.splitlines() if "| so | Fig. 8 |" in line]
    assert ("the same" in row) is agrees
    assert ("**otherwise** (WGA)" in row) is not agrees
    assert ("because" in row) is not agrees


def test_what_has_no_groups_is_neither_the_same_nor_otherwise():
    lines = [result_lines.ungrouped(m, seed=0, accuracy=0.5, clean=0.5) for m in ("original", "subg")]
    text = shown(lines, paper_claims=[claim(dataset="decoy-mnist")])
    (row,) = [line for line in text.splitlines() if "| so |" in line]
    assert "not measured" in row


def test_claims_about_verdicts_leave_oracles_out_and_heed_settings():
    setting = {"explain.segmentation": "sam"}
    lines = [result_lines.measured("original", seed=0, worst=0.5)]
    for source in ("builtin", "oracle-verdicts", "openai:gpt-4o"):
        for segmentation in ("sam", "slic"):
            lines.append(
                result_lines.measured(
                    "right reasons",
                    seed=0,
                    worst=0.6,
                    source=source,
                    setting={"explain.segmentation": segmentation},
                )
            )
    text = shown(lines, paper_claims=[claim(source="Table 2", method="right reasons", setting=setting)])
    rows = [line for line in text.splitlines() if "| so | Table 2 |" in line]
    assert len(rows) == 2
    assert all("sam" in row and "oracle" not in row for row in rows)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("method", "sugb", "did you mean 'subg'"),
        ("dataset", "kne", "did you mean 'knee'"),
        ("moves", {"F1": "up"}, "moves"),
    ],
)
def test_a_claim_about_nothing_is_refused(key, value, why):
    with pytest.raises(ValidationError, match=why):
        result_lines.about("baselines", "methods", paper_claims=[claim(**{key: value})])


# --- numbering ---


def test_references_to_sections_are_to_sections_that_the_paper_has():
    """Other papers have others: their year stands on the same line or on one of the two before."""
    known = {source.removeprefix("Sec. ") for source in paper.SOURCES if source.startswith("Sec.")} | {"4"}
    listed = subprocess.run(
        ["git", "ls-files", "src", "experiments", "docs", "README.md", "examples"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    checked = 0
    for file in listed:
        if not file.endswith((".py", ".yaml", ".md", ".txt", ".json", ".ipynb")):
            continue
        lines = (ROOT / file).read_text("utf-8").splitlines()
        for n, line in enumerate(lines):
            for numbers in re.findall(r"(?:Sec\.|Section) (\d[\d., ]*)", line):
                for number in re.findall(r"\d+(?:\.\d+)*", numbers):
                    checked += 1
                    elsewhere = re.search(r"\b(19|20)\d\d\b", " ".join(lines[max(0, n - 2) : n + 1]))
                    assert number in known or elsewhere, f"{file}:{n + 1}: Sec. {number}"
    assert checked > 40
