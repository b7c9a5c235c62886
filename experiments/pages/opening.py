"""What every page says first: what was run, on what, what the numbers mean; and last: what failed."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.pages.measures import Cell
from experiments.pages.numbers import table
from experiments.pages.setups import Setup

__all__ = ["ORACLES", "closing", "opening"]

ORACLES = (
    "An *oracle* reads the ground truth: such rows are upper bounds, not results of the method. "
    "The *built-in critic* measures segments; it is no vision-language model."
)

_GROUPS = (
    "AGA is the plain mean of the accuracies of the groups of the main test set, each counting the same; WGA "
    "is the worst of them. Δ is against the original model of the same seed, over the seeds that have both."
)
_PLAIN = (
    "Where groups are not known (DecoyMNIST) plain accuracy, the mean over pictures, stands for AGA and WGA."
)


def opening(about: Mapping[str, Any], setups: Sequence[Setup], *notes: str) -> list[str]:
    """Title, command, what measured it, settings, and how to read the numbers: lines of Markdown.

    Args:
        about: the experiment; see `render`.
        setups: of the page.
        notes: paragraphs about this kind of page.
    """
    facts = [
        ("Paper", about.get("paper")),
        ("Command", f"`{about['command']}`" if about.get("command") else None),
        ("Measured by", "; ".join(_provenance(setups))),
        *((f"{setup.title}", ", ".join(settings)) for setup in setups if (settings := _settings(setup))),
        (
            "Varied",
            f"{about.get('axis') or ''} (`{about['varies']}`)".strip() if about.get("varies") else None,
        ),
        ("How λ and epochs were chosen", about.get("how_chosen")),
    ]
    lines = [f"# {title(about, setups)}", ""]
    lines += [f"{name}: {text}  " for name, text in facts if text]
    plain = [_PLAIN] if any(setup.any is not None and not setup.groups for setup in setups) else []
    grouped = [_GROUPS] if any(setup.groups for setup in setups) else []
    quick = any(setup.size == "quick" for setup in setups)
    paragraphs = [
        " ".join(
            ["Numbers: mean ± standard deviation (n − 1) over n seeds.", *grouped, *plain],
        ),
        ORACLES,
        *(["Quick size proves that everything runs; its numbers mean nothing."] if quick else []),
        *notes,
        *([about["notes"]] if about.get("notes") else []),
    ]
    for paragraph in paragraphs:
        lines += ["", paragraph]
    if not any(setup.any for setup in setups):
        lines += ["", "No cell is measured yet."]
    return lines


def title(about: Mapping[str, Any], setups: Sequence[Setup]) -> str:
    """The experiment's title; anything but the full size is said in it."""
    sizes = dict.fromkeys(setup.size for setup in setups)
    words = str(about["title"])
    if list(sizes) in ([], ["full"]):
        return words
    if len(sizes) == 1:
        return f"{words}, {next(iter(sizes))} size"
    return f"{words} ({'; '.join(setup.title for setup in setups)})"


def closing(cells: Sequence[Cell]) -> list[str]:
    """The failed cells with their reasons; nothing where none failed."""
    failed = [[str(cell["cell"]), str(cell["failed"])] for cell in cells if "failed" in cell]
    return ["", "## Failed cells", "", *table(["cell", "reason"], failed)] if failed else []


def _provenance(setups: Sequence[Setup]) -> list[str]:
    """Versions and machines that measured the cells, each once."""
    told: dict[str, None] = {}
    for setup in setups:
        for arm in setup.arms:
            for cell in setup.cells(arm).values():
                versions = ", ".join(f"{k} {v}" for k, v in cell.get("versions", {}).items())
                told[" on ".join(word for word in (versions, cell.get("machine")) if word)] = None
    return [words for words in told if words]


def _settings(setup: Setup) -> list[str]:
    """What differs from the project file, by the experiment, the size and the user: of any cell."""
    cells = (cell for arm in setup.arms for cell in setup.cells(arm).values())
    return list(dict.fromkeys(setting for cell in cells for setting in cell.get("settings", ())))
