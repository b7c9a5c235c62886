"""What a kind of page consists of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from experiments.description import Experiment
from experiments.pages.setups import Setup

__all__ = ["Kind"]


@dataclass(frozen=True)
class Kind:
    """How the results of an experiment are shown.

    Attributes:
        note: a paragraph that says how to read the page.
        caption: what the figure shows, for those who cannot see it.
        figure: an SVG file; None where nothing is measured.
        sections: of one setup: lines of Markdown, the first empty.
        short: the table for the README.
    """

    note: Callable[[Experiment], str]
    caption: Callable[[Experiment], str]
    figure: Callable[[Experiment, Sequence[Setup]], bytes | None]
    sections: Callable[[Experiment, Setup], list[str]]
    short: Callable[[Experiment, Setup], list[str]]
