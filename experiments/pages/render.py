"""From the cells of an experiment to its page, and to its table in the README."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from experiments.pages import critics, curve, methods, segmentations
from experiments.pages.measures import Cell
from lvlm_va.errors import RunError
from lvlm_va.io.hints import did_you_mean

__all__ = ["headline", "render"]


class _Kind(Protocol):
    def page(self, about: Mapping[str, Any], cells: Sequence[Cell], /) -> tuple[str, dict[str, bytes]]: ...
    def headline(self, about: Mapping[str, Any], cells: Sequence[Cell], /) -> list[str]: ...


_PAGES: dict[str, _Kind] = {
    "methods": methods,
    "curve": curve,
    "critics": critics,
    "segmentations": segmentations,
}


def render(about: Mapping[str, Any], cells: Sequence[Cell]) -> tuple[str, dict[str, bytes]]:
    """The page of an experiment and the files beside it.

    Args:
        about: the experiment: "name", "title", "page" ("methods", "curve", "critics" or "segmentations");
            where there are any "paper", "command", "varies" (a key; needed by "curve" and "segmentations"),
            "values", "axis", "how_chosen", "notes" (Markdown, e.g. where ours differs from the paper).
        cells: measured and failed ones, as their JSON files have them.

    Returns:
        (Markdown, {file name: content}): README.md, and NAME.svg where anything is measured.

    Raises:
        RunError: if no such kind of page is known.
    """
    return _kind(about).page(about, cells)


def headline(about: Mapping[str, Any], cells: Sequence[Cell]) -> list[str]:
    """The table for the README, with few columns: lines of Markdown, a table for each data set and size.

    Args:
        about: as for `render`.
        cells: likewise; those that failed are left out, the page has them.
    """
    return _kind(about).headline(about, cells)


def _kind(about: Mapping[str, Any]) -> _Kind:
    try:
        return _PAGES[about["page"]]
    except KeyError:
        hint = did_you_mean(str(about["page"]), _PAGES)
        raise RunError(f"{about.get('name')}: no page is called {about['page']!r}; {hint}") from None
