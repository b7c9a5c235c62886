"""From the results of an experiment to its page, and to its table in the README."""

from collections.abc import Sequence

from experiments.description import Experiment
from experiments.pages import curve, judged, methods
from experiments.pages.kind import Kind
from experiments.pages.opening import closing, opening
from experiments.pages.paper import only_in_the_paper
from experiments.pages.setups import setups
from experiments.results import Result

__all__ = ["headline", "render"]

_KINDS: dict[str, Kind] = {"methods": methods.KIND, "curve": curve.KIND, "judged": judged.KIND}


def render(about: Experiment, results: Sequence[Result]) -> tuple[str, dict[str, bytes]]:
    """The page of an experiment and the files beside it.

    Args:
        about: the experiment.
        results: measured and failed ones.

    Returns:
        (Markdown, {file name: content}): README.md, and NAME.svg where anything is measured.
    """
    kind, every = _KINDS[about.page], setups(results)
    lines = opening(about, every, kind.note(about))
    files: dict[str, bytes] = {}
    figure = kind.figure(about, every)
    if figure is not None:
        files[f"{about.name}.svg"] = figure
        lines += ["", f"![{kind.caption(about)}]({about.name}.svg)"]
    for setup in every:
        lines += kind.sections(about, setup)
    lines += only_in_the_paper(about, every)
    return "\n".join([*lines, *closing(results)]) + "\n", files


def headline(about: Experiment, results: Sequence[Result]) -> list[str]:
    """The table for the README, with few columns: lines of Markdown, a table for each data set and size.

    Args:
        about: the experiment.
        results: those that failed are left out, the page has them.
    """
    lines: list[str] = []
    for setup in setups(results):
        if setup.any is not None:
            lines += [f"**{setup.title}**", "", *_KINDS[about.page].short(about, setup), ""]
    return lines[:-1]
