"""The README's tables of results, written from the committed results.

Between <!-- NAME --> and <!-- /NAME --> stands the table of results/NAME: of its cells, if it has any
(results/NAME/cells/*.json, with experiment.json beside the folder). Run again when results or
words of pages change: python docs/readme_tables.py
"""

import json
import re
from pathlib import Path

from lvlm_va.experiments import medical_tables, tables
from lvlm_va.experiments.pages import headline

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "results"

_MARKER = re.compile(r"<!-- ([\w-]+) -->\n(.*?)<!-- /\1 -->", flags=re.DOTALL)

MEDICAL = ("knee-reduced", "skin-reduced")


def markers(text: str) -> list[str]:
    """The names of all tables that the text has a place for."""
    return [match[1] for match in _MARKER.finditer(text)]


def blocks(text: str, results: Path = RESULTS) -> dict[str, str]:
    """Marker → the table between <!-- marker --> and <!-- /marker -->."""
    return {marker: _block(marker, results) for marker in markers(text)}


def written(text: str, results: Path = RESULTS) -> str:
    """The text with its tables as the results have them."""
    found = blocks(text, results)
    return _MARKER.sub(lambda m: f"<!-- {m[1]} -->\n{found[m[1]]}\n<!-- /{m[1]} -->", text)


def _block(marker: str, results: Path) -> str:
    folder = results / marker
    if (folder / "cells").is_dir():
        about = _read(folder / "experiment.json")
        return "\n".join(headline(about, [_read(file) for file in sorted(folder.glob("cells/*.json"))]))
    if marker == "medical":
        lines: list[str] = []
        for name in MEDICAL:
            document = _read(results / name / "results.json")
            lines += [f"**{document['experiment']}**", ""]
            lines += [*medical_tables.headline(document, document["cells"]), ""]
        return "\n".join(lines).rstrip()
    document = _read(folder / "results.json")
    return "\n".join(tables.headline(document, document["cells"]))


def _read(file: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads(file.read_text("utf-8"))
    return document


if __name__ == "__main__":
    README.write_text(written(README.read_text("utf-8")), "utf-8")
