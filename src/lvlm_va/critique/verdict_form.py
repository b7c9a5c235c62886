"""From one JSON value of a judge's answer to its verdicts: the agreed form, and slips that leave no doubt.

Agreed is {"verdicts": [{"segment": 1, "spurious": true, "reason": "..."}]}. Let pass are

- a list without the object around it, another usual name for that object, one object a line, segments as
  keys of SPURIOUS and VALID (of true it could not be said what is true);
- "1", 1.0, "segment 1" for 1; "true", "yes", "SPURIOUS" for true; "verdict": "SPURIOUS" for "spurious": true;
- names in capitals, no reason, and a few more keys with plain values that say nothing about the verdict.

Where a segment may be mixed (`critique.split`), "mixed" is a third value beside true and false.

Everything else is refused, and so is what says one thing twice in different words.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StrictInt,
    StrictStr,
    ValidationError,
    model_validator,
)

__all__ = ["MIXED", "Line", "WrongForm", "is_loose", "read_form"]

MIXED = "mixed"
"""What a judge answers, in place of true or false, of a segment that holds both."""

_SEGMENT = re.compile(r"\s{0,9}(?:(?:segment|seg|mark|no)?[\s_.:#-]{0,3})([0-9]{1,4})\s{0,9}", re.I | re.A)
_TRUE, _FALSE = {"true", "yes", "spurious"}, {"false", "no", "valid", "not spurious"}
_NAMES = {
    "segment_id": "segment",
    "segment_number": "segment",
    "segmentid": "segment",
    "is_spurious": "spurious",
}
_WORDED = ("verdict", "judgement", "judgment")  # names of a verdict that says SPURIOUS or VALID
_CONTAINERS = re.compile(
    r"(?:final[_ ])?answer|final|output|results?|response|json|segments|judge?ments?", re.IGNORECASE
)
_TELLING = ("segment", "spurious", "valid", "verdict")
_MOST_EXTRA = 4  # keys of a line
_NO_BOOLEAN = "Input should be a valid boolean"


class WrongForm(ValueError):
    """JSON that is not of the agreed form; the message names the place in our words."""


def _whole(value: object) -> object:
    if isinstance(value, str) and (found := _SEGMENT.fullmatch(value)):
        return int(found[1])
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _spurious(value: object) -> bool | None:
    """True, False, or None for mixed."""
    word = value.strip().lower() if isinstance(value, str) and len(value) < 20 else value
    if isinstance(word, str) and (word in _TRUE or word in _FALSE):
        return word in _TRUE
    if word == MIXED:
        return None
    if not isinstance(value, bool):
        raise ValueError(_NO_BOOLEAN)
    return value


def _verdict_in(value: object) -> bool | str | None:
    """What a value says if it is one word, SPURIOUS, VALID or MIXED; None if it is no such word."""
    word = value.strip().lower() if isinstance(value, str) and len(value) < 20 else None
    said: dict[str, bool | str] = {"spurious": True, "valid": False, MIXED: MIXED}
    return said.get(word or "")


class Line(BaseModel):
    """The verdict on one segment, as a judge writes it; `spurious` is None where the segment is mixed."""

    model_config = ConfigDict(extra="allow")

    segment: Annotated[StrictInt, BeforeValidator(_whole)]
    spurious: Annotated[bool | None, BeforeValidator(_spurious)]
    reason: StrictStr | None = None

    @model_validator(mode="before")
    @classmethod
    def _usual_names(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        found: dict[str, Any] = {}
        for key, inner in value.items():
            name = _NAMES.get(key.strip().lower(), key.strip().lower())
            if name in _WORDED and (said := _verdict_in(inner)) is not None:
                name, inner = "spurious", said
            name = name if name in cls.model_fields else key
            if name in found:
                raise ValueError("a key that is there twice under two names")
            found[name] = inner
        return found

    @model_validator(mode="after")
    def _nothing_else_is_said(self) -> "Line":
        more = self.model_extra or {}
        if len(more) > _MOST_EXTRA or any(isinstance(value, dict | list) for value in more.values()):
            raise ValueError("an unknown key")
        if any(word in key.lower() for key in more for word in _TELLING):
            raise ValueError("an unknown key that sounds like a verdict")
        own = MIXED if self.spurious is None else self.spurious
        if any(_verdict_in(value) not in (None, own) for value in more.values()):
            raise ValueError("an unknown key that says the opposite")
        return self


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow")

    verdicts: list[Line]

    @model_validator(mode="after")
    def _one_plain_key_more(self) -> "_Answer":
        more = self.model_extra or {}
        if len(more) > 1 or any(isinstance(value, dict | list) for value in more.values()):
            raise ValueError("an unknown key")
        if any(word in key.lower() for key in more for word in _TELLING):
            raise ValueError("an unknown key that sounds like a verdict")
        return self


def read_form(value: object, *, mixed: bool = False) -> tuple[Line, ...]:
    """The verdicts in one value.

    Args:
        value: from JSON.
        mixed: whether a segment may be mixed.

    Raises:
        WrongForm: if it is not of the agreed form, or of one that leaves no doubt.
    """
    try:
        lines = tuple(_Answer.model_validate(_unwrapped(value)).verdicts)
        for place, line in enumerate(lines):
            if line.spurious is None and not mixed:
                where = _path(("verdicts", place, "spurious"))
                raise WrongForm(f"the judge's answer has the wrong form at {where}: {_NO_BOOLEAN}")
        return lines
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        raise WrongForm(
            f"the judge's answer has the wrong form at {_path(first['loc'])}: {message}"
        ) from None


def is_loose(value: object) -> bool:
    """Whether a value is the verdict on one segment, without an object around it."""
    return isinstance(value, dict) and any(
        _NAMES.get(key.lower(), key.lower()) == "segment" for key in value if len(key) < 30
    )


def _unwrapped(value: object) -> object:
    """The value as {"verdicts": [...]}, as far as it is one of the usual other forms of that."""
    for _ in range(3):
        if isinstance(value, list):
            if len(value) == 1 and isinstance(value[0], dict) and "verdicts" in value[0]:
                value = value[0]
                continue
            return {"verdicts": value}
        if not isinstance(value, dict):
            break
        if is_loose(value):
            return {"verdicts": [value]}
        if value and all(_SEGMENT.fullmatch(key) for key in value):
            return {"verdicts": _by_segment(value)}
        names = {key.strip().lower(): key for key in value}
        if "verdicts" in names:
            inner = value[names["verdicts"]]
            if isinstance(inner, dict) and inner and all(_SEGMENT.fullmatch(key) for key in inner):
                inner = _by_segment(inner)
            return {("verdicts" if key == names["verdicts"] else key): one for key, one in value.items()} | {
                "verdicts": inner
            }
        only = next(iter(names)) if len(names) == 1 else ""
        if not _CONTAINERS.fullmatch(only) or not isinstance(value[names[only]], dict | list):
            break
        value = value[names[only]]
    return value


def _by_segment(value: Mapping[str, object]) -> list[object]:
    lines: list[object] = []
    for key, inner in value.items():
        line: Mapping[str, object] = inner if isinstance(inner, Mapping) else {"spurious": _verdict_in(inner)}
        # A line that names its segment as well must name the same: two keys of one meaning are refused.
        lines.append({**line, "segment": key} if not is_loose(line) else line)
        if is_loose(line) and _whole(next(v for k, v in line.items() if is_loose({k: v}))) != _whole(key):
            raise WrongForm("the judge's answer has the wrong form: a segment under the number of another")
    return lines


def _path(location: tuple[int | str, ...]) -> str:
    """Where the form is wrong, in our words: the answer's own keys must not reach a prompt."""
    known = {*_Answer.model_fields, *Line.model_fields}
    parts = [str(part) if isinstance(part, int) or part in known else "an unknown key" for part in location]
    return ".".join(parts) or "the top"
