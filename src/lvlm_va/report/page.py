"""How a page is made: one HTML file from a template, every text in it escaped."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lvlm_va.report import words

__all__ = ["render_page"]


def render_page(template: str, contents: Mapping[str, Any]) -> str:
    """The page.

    Args:
        template: a file in templates/.
        contents: everything that it names.
    """
    return _environment().get_template(template).render(contents)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lvlm_va.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {name: getattr(words, name) for name in words.__all__}
    return environment
