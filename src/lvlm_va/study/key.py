"""study.json: what the page asks, for the analyst alone; it says whose verdict and which model is behind."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lvlm_va.errors import DataError

__all__ = ["Asked", "Study", "StudyRun", "explain_invalid", "read_json", "read_study"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class StudyRun(_Strict):
    """A run that questions were drawn from.

    Attributes:
        path: its directory, as it was given.
        project: the name of its project.
        critic: whose verdicts they are, with what must stand beside the name: an oracle, or not an LVLM.
    """

    path: str
    project: str
    critic: str


class Asked(_Strict):
    """One question.

    Attributes:
        id: as the page names it.
        kind: a key of `KINDS`.
        run: the number of its run, from 0.
        image_id: the image.
        class_name: whose specification is shown.
        segment: j; None where explanations are compared.
        spurious: the critic's verdict on it; None where explanations are compared.
        reason: the critic's reason, "" where explanations are compared.
        tokens: what the page calls the two explanations → "before" or "after"; empty for other kinds.
    """

    id: str
    kind: Literal["relevance", "reasoning", "explanations"]
    run: int
    image_id: str
    class_name: str
    segment: int | None = None
    spurious: bool | None = None
    reason: str = ""
    tokens: Mapping[str, Literal["before", "after"]] = {}


class Study(_Strict):
    """A whole study.

    Attributes:
        format: raised when an older program could misread what a newer one wrote.
        fingerprint: changes with anything a participant sees; the page writes it into the answers.
        seed: of the draw.
        runs: in the order given.
        questions: in the order of their ids.
    """

    format: Literal[1] = 1
    fingerprint: str
    seed: int
    runs: tuple[StudyRun, ...]
    questions: tuple[Asked, ...]


def read_study(path: Path) -> Study:
    """Read a study.json.

    Raises:
        DataError: if it is missing, damaged, or something else.
    """
    text = read_json(path, missing="no such study; lvlm-va study build writes it beside the page")
    try:
        return Study.model_validate_json(text)
    except ValidationError as error:
        raise DataError(f"{path}: is not the key of a study ({explain_invalid(error)})") from None


def read_json(path: Path, *, missing: str) -> str:
    """The text of a JSON file.

    Args:
        path: the file, UTF-8.
        missing: what to say where there is none.

    Raises:
        DataError: naming the file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        json.loads(text)
    except FileNotFoundError:
        raise DataError(f"{path}: {missing}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); ask for the file again") from None
    return text


def explain_invalid(error: ValidationError) -> str:
    """The first thing that is wrong with a document, and where."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else str(first["msg"])
