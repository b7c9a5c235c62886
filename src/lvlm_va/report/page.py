"""How a page is made: one HTML or Markdown file from a template, every text in it escaped."""

import html
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lvlm_va.report import words
from lvlm_va.report.words import printable

__all__ = ["markdown", "render_markdown", "render_page"]


def render_page(template: str, contents: Mapping[str, Any]) -> str:
    """The page.

    Args:
        template: a file in templates/.
        contents: everything that it names.
    """
    return _environment().get_template(template).render(contents)


def render_markdown(template: str, contents: Mapping[str, Any]) -> str:
    """The Markdown file; the template passes what a model or a person wrote through `markdown`."""
    text = _environment(escape=False).get_template(template).render(contents)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def markdown(text: str) -> str:
    """Plain text as Markdown that shows it as it is, in one line: no element, link, emphasis or cell."""
    line = html.escape(re.sub(r"[\r\n\t]+", " ", printable(text)), quote=False)
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", line)


@cache
def _environment(*, escape: bool = True) -> Environment:
    environment = Environment(
        loader=PackageLoader("lvlm_va.report"),
        autoescape=escape,  # noqa: S701 -- Markdown is escaped by `markdown`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(words, name) for name in words.__all__} | {"md": markdown}
    return environment
