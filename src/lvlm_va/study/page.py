"""The page of a study: one file with images, style and script inside, which loads nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lvlm_va.report.one_file import one_file_page
from lvlm_va.study.kinds import KINDS

__all__ = ["render_study_page"]


def render_study_page(fingerprint: str, questions: Sequence[Mapping[str, Any]]) -> str:
    """The page, see `one_file_page`.

    Args:
        fingerprint: of the study.
        questions: JSON-able, see `build.shown`.
    """
    asked = [name for name in KINDS if any(question["kind"] == name for question in questions)]
    return one_file_page(
        "lvlm_va.study",
        "page.html",
        "templates/page.js",
        count=len(questions),
        kinds=[KINDS[name] for name in asked],
        contents={
            "study": fingerprint,
            "kinds": {name: asdict(KINDS[name]) for name in asked},
            "questions": list(questions),
        },
    )
