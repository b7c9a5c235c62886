"""Who changed which verdict, when and why: one line for each action, in the run, never rewritten.

The lines are also what undo and redo are made of, so that these outlive the page and the server. An action
of an author is undone only by that author.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import RunError
from lvlm_va.io.files import append_line
from lvlm_va.run.directory import disk_error

__all__ = ["HISTORY", "Action", "Change", "append", "new_action", "read_history", "steps_of"]

HISTORY = "verdicts.history.jsonl"

Kind = Literal["set", "undo", "redo", "looked at"]


@dataclass(frozen=True)
class Change:
    """One verdict, before and after."""

    before: Verdict
    after: Verdict


@dataclass(frozen=True)
class Action:
    """One thing that somebody did.

    Attributes:
        number: counts up.
        time: ISO 8601, UTC.
        author: who.
        kind: "set", "undo" and "redo" (of the action `of`), or "looked at" (nothing changed).
        reason: why, in the author's words; may be empty.
        changes: the verdicts.
        images: those that were looked at.
        of: which action is undone or done again.
    """

    number: int
    time: str
    author: str
    kind: Kind
    reason: str = ""
    changes: tuple[Change, ...] = ()
    images: tuple[str, ...] = ()
    of: int | None = None


_ACTION = TypeAdapter(Action)


def read_history(path: Path) -> list[Action]:
    """All actions, oldest first; none where nothing was changed yet.

    A last line that a killed process left unfinished is left out.

    Raises:
        RunError: naming a line that cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error})") from None
    lines, _, _unfinished = text.rpartition("\n")
    found = []
    for number, line in enumerate(lines.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found.append(_ACTION.validate_json(line))
        except ValidationError:
            raise RunError(
                f"{path}, line {number}: is not an action of the studio; restore the file, or move it away"
            ) from None
    return found


def new_action(history: Sequence[Action], author: str, kind: Kind, **values: Any) -> Action:
    """The next action, now."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    number = max((action.number for action in history), default=0) + 1
    return Action(number, time, author, kind, **values)


def append(path: Path, action: Action) -> None:
    """Write an action behind the others; it is on the disk when this returns.

    Raises:
        RunError: if the disk does not take it.
    """
    try:
        append_line(path, json.dumps(_plain(action), ensure_ascii=False))
    except OSError as error:
        raise disk_error(path, error) from None


def _plain(action: Action) -> Mapping[str, Any]:
    return {key: value for key, value in asdict(action).items() if value not in (None, (), "")}


def steps_of(history: Iterable[Action], author: str) -> tuple[list[Action], list[Action]]:
    """What an author can undo, and what done again: the last of each list is next."""
    done: list[Action] = []
    undone: list[Action] = []
    for action in history:
        if action.author != author or action.kind == "looked at":
            continue
        if action.kind == "set":
            done.append(action)
            undone.clear()
        elif action.kind == "undo":
            _move(action.of, done, undone)
        else:
            _move(action.of, undone, done)
    return done, undone


def _move(number: int | None, source: list[Action], target: list[Action]) -> None:
    for action in source:
        if action.number == number:
            source.remove(action)
            target.append(action)
            return
