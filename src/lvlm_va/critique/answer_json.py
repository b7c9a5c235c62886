"""The JSON in a text from outside: its outermost values, each read once, from left to right.

Nothing is looked for inside a value that cannot be read, nor after it: where such a value ends is a guess,
and what looks like an answer may stand inside a sentence that it quotes. The time taken grows with the
length of the text and with nothing else.
"""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Found", "Unreadable", "json_values"]

_START = re.compile(r"\{|\[(?=\s*+\{)")  # any other "[" is prose
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|,\s*+(?=[}\]])|[{}\[\]]', re.DOTALL)
_CLOSES = {"{": "}", "[": "]"}
_DEEPEST = 20


class Unreadable(ValueError):
    """The text holds a value that is cut off, broken, or says a key twice."""


@dataclass(frozen=True)
class Found:
    """An outermost object, or list of objects: its value, and text[start:end] where it stands."""

    value: Any
    start: int
    end: int


def json_values(text: str) -> Iterator[Found]:
    """The outermost JSON objects and lists of objects in `text`, whatever prose stands around them.

    Slips are let pass that leave no doubt about what is meant: a comma after the last item, a line
    break inside a string, Python's way of writing (single quotes, True). Braces around words, as in {1, 2},
    are prose.

    Raises:
        Unreadable: on arriving at a value that cannot be read.
    """
    position = 0
    while opening := _START.search(text, position):
        start = opening.start()
        source, position = _extent(text, start)
        if not any(character in '"{[' for character in source[1:-1]):
            continue
        try:
            value = json.loads(source, strict=False, object_pairs_hook=_unique)
        except Unreadable:
            raise
        except ValueError as error:
            value = _python(source, error)
        yield Found(value, start, position)


def _extent(text: str, start: int) -> tuple[str, int]:
    """The source of the value that opens at `start`, without commas after last items, and its end."""
    kept, expected, copied = [], [], start
    for token in _TOKEN.finditer(text, start):
        sign = token[0][0]
        if sign == ",":
            kept.append(text[copied : token.start()])
            copied = token.end()
        elif sign in _CLOSES:
            expected.append(_CLOSES[sign])
            if len(expected) > _DEEPEST:
                raise Unreadable("nested beyond all reason")
        elif sign in "}]":
            if sign != expected.pop():
                raise Unreadable("brackets do not match")
            if not expected:
                kept.append(text[copied : token.end()])
                return "".join(kept), token.end()
    raise Unreadable("cut off")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise Unreadable("a key occurs twice: which one counts would be a guess")
    return dict(pairs)


def _python(source: str, problem: ValueError) -> Any:
    """The value that Python would read; of names only those of constants, of no use as code.

    Raises:
        Unreadable: with the problem that JSON has, if Python cannot read it either.
    """
    try:
        return _constant(ast.parse(source.strip(), mode="eval").body)
    except Unreadable:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError, KeyError):
        raise Unreadable(str(problem)) from None


def _constant(node: ast.expr) -> Any:
    match node:
        case ast.Dict(keys=keys, values=values):
            names = [_constant(key) for key in keys if key is not None]
            if len(names) < len(values) or not all(isinstance(name, str) for name in names):
                raise ValueError("a key is no text")
            return _unique(list(zip(names, map(_constant, values), strict=True)))
        case ast.List(elts=items):
            return [_constant(item) for item in items]
        case ast.Constant(value=bool() | str() | int() | float() | None as value):
            return value
        case ast.Name(id=name):
            return {"true": True, "false": False, "null": None}[name]
    raise ValueError("no constant")
