"""Pages of one file, for people elsewhere: images, style and script inside; they load and send nothing."""

import base64
import hashlib
import importlib.resources
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

__all__ = ["one_file_page"]


def one_file_page(package: str, template: str, script: str, **contents: Any) -> str:
    """The page.

    What models and people wrote reaches it as JSON, and the document as text, never as markup. The only
    script that its policy allows is its own, by its hash.

    Args:
        package: whose templates/ they are; the report's own can be included, too.
        template: extends one_file.html, which has head, policy, script and contents, and is given the rest.
        script: a file of the package; behind one_file.js, whose helpers it has.
        contents: what else the template is given.
    """
    own = importlib.resources.files(package)
    shared = importlib.resources.files("lvlm_va.report").joinpath("templates/one_file.js")
    text = shared.read_text("utf-8") + own.joinpath(script).read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("lvlm_va.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        script=Markup(text),  # noqa: S704 -- our own files
        digest=digest,
        **contents,
    )
