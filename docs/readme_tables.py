"""The README's tables of results, written from the committed results.

Run again when results change: python docs/readme_tables.py
"""

import json
import re
from pathlib import Path

from lvlm_va.experiments import medical_tables, tables

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"

MEDICAL = ("knee-reduced", "skin-reduced")


def blocks() -> dict[str, str]:
    """Marker → the table between <!-- marker --> and <!-- /marker -->."""
    decoy = _read("decoy-mnist")
    medical: list[str] = []
    for name in MEDICAL:
        document = _read(name)
        medical += [
            f"**{document['experiment']}**",
            "",
            *medical_tables.headline(document, document["cells"]),
            "",
        ]
    return {
        "decoy-mnist": "\n".join(tables.headline(decoy, decoy["cells"])),
        "medical": "\n".join(medical).rstrip(),
    }


def _read(name: str) -> dict[str, object]:
    document: dict[str, object] = json.loads((ROOT / "results" / name / "results.json").read_text("utf-8"))
    return document


def written(text: str) -> str:
    """The README with its tables as the results have them."""
    for marker, block in blocks().items():
        between = re.compile(rf"(<!-- {marker} -->\n).*?(<!-- /{marker} -->)", flags=re.DOTALL)
        text = between.sub(lambda match, block=block: f"{match[1]}{block}\n{match[2]}", text)
    return text


if __name__ == "__main__":
    README.write_text(written(README.read_text("utf-8")), "utf-8")
