"""YAML that a person wrote, with messages for that person."""

from pathlib import Path
from typing import Any

import yaml

from lvlm_va.errors import LvlmVaError
from lvlm_va.io.screen import shown

__all__ = ["parse_yaml", "read_yaml"]

_DEEPEST = 50  # levels
_MOST_VALUES = 100_000  # aliases written out: a kilobyte of them can stand for billions
_LARGEST = 4_000_000  # bytes; far more than any project, and read in seconds
_LONGEST_NUMBER = 63  # bits


class _Careful:
    """For a loader of plain values: every mistake is a YAMLError that knows its line."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)  # type: ignore[call-arg]
        self._level = 0

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()  # type: ignore[misc]
        if node is not None:
            _measure(node, {})
        return node

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self._level == _DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[attr-defined]
            raise _mistake(f"is nested more than {_DEEPEST} levels deep", mark)
        self._level += 1
        node: yaml.Node | None = super().compose_node(parent, index)  # type: ignore[misc]
        self._level -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)  # type: ignore[misc]
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if (key.tag, key.value) in seen:
                raise _mistake(f"{shown(repr(key.value))} is given twice", key.start_mark)
            seen.add((key.tag, key.value))
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)  # type: ignore[misc]
        except yaml.YAMLError:
            raise
        # PyYAML's constructors raise whatever Python does: for dates, numbers, truth values, binary data.
        except (ValueError, LookupError, AttributeError, TypeError, ArithmeticError):
            kind = node.tag.rpartition(":")[2]
            text = f"{shown(repr(node.value), 60)} " if isinstance(node, yaml.ScalarNode) else ""
            raise _mistake(f"{text}is no valid {kind}; if it is text, quote it", node.start_mark) from None
        if isinstance(value, int) and value.bit_length() > _LONGEST_NUMBER:
            raise _mistake("the number is too large", node.start_mark)
        return value


class _SafeLoader(_Careful, yaml.SafeLoader):
    """Plain values: text, numbers, truth values, dates, lists, mappings."""


class _TextLoader(_Careful, yaml.BaseLoader):
    """Text, lists and mappings: a class may be called 7, no or null."""


def read_yaml(path: Path, error: type[LvlmVaError], *, missing: str, text_only: bool = False) -> object:
    """What the file holds; None if it holds nothing but comments.

    Args:
        path: the file, UTF-8.
        error: raised if it cannot be used, naming the file.
        missing: what to say where there is no such file.
        text_only: take every value as text.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise error(f"{path}: is larger than {_LARGEST:,} bytes; is it the right file?")
        text = content.decode("utf-8")
    except FileNotFoundError:
        raise error(f"{path}: {missing}") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise error(f"{path}: cannot be read as UTF-8 text: {problem}") from None
    return parse_yaml(text, error, where=str(path), text_only=text_only)


def parse_yaml(text: str, error: type[LvlmVaError], *, where: str, text_only: bool = False) -> object:
    """What the text means; arguments as in `read_yaml`, and `where` it stands, for messages."""
    try:
        return yaml.load(text, Loader=_TextLoader if text_only else _SafeLoader)  # noqa: S506 -- plain values
    except yaml.reader.ReaderError as problem:
        line = text.count("\n", 0, problem.position) + 1
        raise error(
            f"{where}, line {line}: not valid YAML: a character that cannot be printed; remove it"
        ) from None
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        place = where if mark is None else f"{where}, line {mark.line + 1}"
        told = ": ".join(part for part in (problem.context, problem.problem) if part)
        raise error(f"{place}: not valid YAML: {shown(told, 200)}") from None
    except (yaml.YAMLError, RecursionError) as problem:
        raise error(f"{where}: not valid YAML: {shown(problem, 200)}") from None


def _mistake(what: str, mark: yaml.Mark | None) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=mark)


def _measure(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values a node stands for, and how deep they are nested, with its aliases written out."""
    if id(node) not in known:
        known[id(node)] = 0, 0  # under way
        values = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
        measured = [_measure(part, known) for part in parts]
        known[id(node)] = 1 + sum(n for n, _ in measured), 1 + max((deep for _, deep in measured), default=0)
    count, depth = known[id(node)]
    if not count:
        raise _mistake("an alias refers to what it is part of", node.start_mark)
    if count > _MOST_VALUES or depth > _DEEPEST:
        raise _mistake(
            f"with its aliases written out it has more than {_MOST_VALUES:,} values or {_DEEPEST} levels",
            node.start_mark,
        )
    return count, depth
