"""The page of a study: one file with images, style and script inside, which loads nothing."""

import base64
import hashlib
import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lvlm_va.study.kinds import KINDS

__all__ = ["render_study_page"]


def render_study_page(fingerprint: str, questions: Sequence[Mapping[str, Any]]) -> str:
    """The page.

    What models and people wrote reaches it as JSON, and the document as text, never as markup. The only
    script that its policy allows is its own, by its hash.

    Args:
        fingerprint: of the study.
        questions: JSON-able, see `build.shown`.
    """
    script = importlib.resources.files("lvlm_va.study").joinpath("templates/page.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    asked = [name for name in KINDS if any(question["kind"] == name for question in questions)]
    return (
        _environment()
        .get_template("page.html")
        .render(
            count=len(questions),
            kinds=[KINDS[name] for name in asked],
            script=Markup(script),  # noqa: S704 -- our own file
            digest=digest,
            contents={
                "study": fingerprint,
                "kinds": {name: asdict(KINDS[name]) for name in asked},
                "questions": list(questions),
            },
        )
    )


def _environment() -> Environment:
    return Environment(
        # The report's style sheet comes first, this page's own rules after it.
        loader=ChoiceLoader([PackageLoader("lvlm_va.study"), PackageLoader("lvlm_va.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
