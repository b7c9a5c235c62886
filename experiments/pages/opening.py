"""What every page says first: what was run, on what, what the numbers mean; and last: what failed."""

import shlex
from collections import Counter
from collections.abc import Sequence

from experiments.description import Experiment
from experiments.pages.numbers import table
from experiments.pages.paper import NOTE
from experiments.pages.setups import Setup
from experiments.results import Result

__all__ = ["ORACLES", "closing", "opening"]

ORACLES = (
    "An *oracle* reads the ground truth: such rows are upper bounds, not results of the method. "
    "The *built-in critic* measures segments; it is no vision-language model."
)

_GROUPS = (
    "AGA is the plain mean of the accuracies of the groups of the main test set, each counting the same; WGA "
    "is the worst of them. Δ is against the original model that was changed, by seed."
)
_PLAIN = (
    "Where groups are not known (DecoyMNIST) plain accuracy, the mean over images, stands for AGA and WGA."
)


def opening(about: Experiment, setups: Sequence[Setup], note: str) -> list[str]:
    """Title, command, what measured it, settings, and how to read the numbers: lines of Markdown.

    Args:
        about: the experiment.
        setups: of the page.
        note: a paragraph about this kind of page.
    """
    facts = [
        ("Paper", about.paper),
        ("Command", f"`{_command(about, setups)}`"),
        ("Measured by", "; ".join(_provenance(setups))),
        ("Carried over", "; ".join(_carried_over(setups))),
        *((f"{setup.title}", ", ".join(settings)) for setup in setups if (settings := _settings(setup))),
        (
            "Varied",
            f"{about.axis} (`{about.varies}`)".strip() if about.varies else None,
        ),
        ("How λ and epochs were chosen", about.how_chosen),
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
        note,
        *([about.notes] if about.notes else []),
        *([NOTE] if about.paper_rows else []),
    ]
    for paragraph in paragraphs:
        lines += ["", paragraph]
    if not any(setup.any for setup in setups):
        lines += ["", "Nothing is measured yet."]
    return lines


def title(about: Experiment, setups: Sequence[Setup]) -> str:
    """The experiment's title; anything but the full size is said in it."""
    sizes = dict.fromkeys(setup.size for setup in setups)
    words = about.title
    if list(sizes) in ([], ["full"]):
        return words
    if len(sizes) == 1:
        return f"{words}, {next(iter(sizes))} size"
    return f"{words} ({'; '.join(setup.title for setup in setups)})"


def closing(results: Sequence[Result]) -> list[str]:
    """The failed trials with their reasons; nothing where none failed."""
    failed = [[result.trial, result.failed] for result in results if result.failed is not None]
    return ["", "## Failed trials", "", *table(["trial", "reason"], failed)] if failed else []


def _command(about: Experiment, setups: Sequence[Setup]) -> str:
    """What repeats the page: with the critics that it has and the experiment does not name."""
    named = {source for compared in about.compare for source in compared.sources}
    found = dict.fromkeys(result.source for result in _measured(setups) if result.source)
    critics = (f"--critic={source}" for source in found if source not in named)
    return shlex.join(["python", "-m", "experiments", about.name, *critics])


def _provenance(setups: Sequence[Setup]) -> list[str]:
    """Versions and machines that measured the trials, each once."""
    told: dict[str, None] = {}
    for result in _measured(setups):
        versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
        told[" on ".join(word for word in (versions, result.machine) if word)] = None
    return [words for words in told if words]


def _carried_over(setups: Sequence[Setup]) -> list[str]:
    """How many trials have another fingerprint than that under which they were measured, and why."""
    why = Counter(result.carried_over for result in _measured(setups) if result.carried_over)
    return [f"{words} ({n} trials)" for words, n in why.items()]


def _settings(setup: Setup) -> list[str]:
    """What differs from the project file, by the experiment, the size and the user: of any trial."""
    return list(dict.fromkeys(setting for result in _measured([setup]) for setting in result.settings))


def _measured(setups: Sequence[Setup]) -> list[Result]:
    return [result for setup in setups for arm in setup.arms for result in setup.results(arm).values()]
