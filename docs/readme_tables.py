"""The README's tables of results, written from the committed results.

Between <!-- NAME --> and <!-- /NAME --> stands the table of results/NAME. Run again when results or the words
of pages change: python docs/readme_tables.py
"""

import re
from pathlib import Path

from experiments.description import read_experiment
from experiments.pages import headline
from experiments.results import read_results
from lvlm_va.errors import RunError

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "results"

# What the pages of the results have and the README leaves out.
_COLUMNS = ("reads", "ΔWGA")
_ROWS = ("oracle verdicts",)

_MARKED = re.compile(r"<!-- ([\w-]+) -->\n.*?<!-- /\1 -->", flags=re.DOTALL)


def blocks(text: str, results: Path = RESULTS) -> dict[str, str]:
    """Marker → the table between <!-- marker --> and <!-- /marker -->, for every marker of the text.

    Raises:
        RunError: if there are no results of that name.
    """
    return {match[1]: shortened(_block(results / match[1])) for match in _MARKED.finditer(text)}


def written(text: str, results: Path = RESULTS) -> str:
    """The text with its tables as the results have them."""
    found = blocks(text, results)
    return _MARKED.sub(lambda m: f"<!-- {m[1]} -->\n{found[m[1]]}\n<!-- /{m[1]} -->", text)


def shortened(text: str) -> str:
    """Without the columns and rows that the README leaves out; what is no table stays."""
    lines, kept = [], list[int]()
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            kept = []
        elif not kept:
            kept = [n for n, title in enumerate(cells) if title not in _COLUMNS]
        if not line.startswith("|"):
            lines.append(line)
        elif not any(cell in _ROWS for cell in cells):
            lines.append("| " + " | ".join(cells[n] for n in kept) + " |")
    return "\n".join(lines)


def _block(folder: Path) -> str:
    results = read_results(folder)
    if not results:
        raise RunError(
            f"the README has a table <!-- {folder.name} -->, but there is nothing in {folder}: run "
            f"python -m experiments {folder.name}, or take the table out"
        )
    return "\n".join(headline(read_experiment(folder.name), results))


if __name__ == "__main__":
    README.write_text(written(README.read_text("utf-8")), "utf-8")
