"""Every judgement of a person, in one SQLite file: on the disk before `add` returns, and none ever changed.

Who judges a segment again, or takes a judgement back, adds a row; the latest counts. A judgement belongs to
what was seen, so that one on other segments (another model, another J) is kept and does not count.
"""

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from lvlm_va.critique.database import Database
from lvlm_va.critique.question import as_text
from lvlm_va.io.redaction import one_line

__all__ = ["ANSWERS", "Answer", "Judgement", "Judgements"]

Answer = Literal["spurious", "relevant", "cannot say"]
ANSWERS: tuple[Answer, ...] = ("spurious", "relevant", "cannot say")

_VERSION = 1
_SCHEMA = """\
CREATE TABLE judgements (
    number  INTEGER PRIMARY KEY,
    seen    TEXT NOT NULL,    -- SHA-256 of what was judged: image, segment, explanation, how much to condemn
    critic  TEXT NOT NULL,    -- person, or person:<who>
    answer  TEXT,             -- spurious, relevant, cannot say; null: taken back
    author  TEXT NOT NULL,
    reason  TEXT NOT NULL,
    how     TEXT NOT NULL,    -- terminal, by file, ...
    time    TEXT NOT NULL     -- UTC, ISO 8601
);
CREATE INDEX judgements_of_a_segment ON judgements (critic, seen);
"""
_LONGEST = 2_000  # characters of a reason


@dataclass(frozen=True)
class Judgement:
    """What a person said of one segment.

    Attributes:
        seen: SHA-256 of what was judged, see `judging.Judging`.
        answer: "spurious", "relevant", or "cannot say", which leaves the segment unscored.
        author: who said it.
        reason: why, in the person's words; may be "".
        how: "terminal", "by file", ...
        time: UTC, ISO 8601.
    """

    seen: str
    answer: Answer
    author: str
    reason: str
    how: str
    time: str

    @property
    def spurious(self) -> bool | None:
        """R_j, None where the person cannot say."""
        return {"spurious": True, "relevant": False}.get(self.answer)


class Judgements:
    """The judgements of a run. Create with `Judgements.open`; use as a context manager.

    All methods raise `RunError`, saying what to do, where the file is damaged or cannot be written.
    """

    def __init__(self, database: Database, critic: str) -> None:
        self._database = database
        self._critic = critic

    @classmethod
    def open(cls, path: Path, critic: str) -> Self:
        """Open or create the file.

        Args:
            path: of the file.
            critic: "person" or "person:<who>"; each sees its own judgements alone.

        Raises:
            RunError: if the file is none of these, is damaged, in use, or cannot be created.
        """
        return cls(Database.open(path, _SCHEMA, _VERSION), critic)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        self._database.close()

    def add(self, seen: str, answer: Answer, *, author: str, reason: str = "", how: str = "") -> None:
        """Record a judgement; it takes the place of an earlier one of the same segment."""
        self._insert(seen, answer, author, reason, how)

    def take_back(self, seen: str, *, author: str, how: str = "") -> None:
        """Record that a judgement no longer holds."""
        self._insert(seen, None, author, "", how)

    def in_force(self) -> dict[str, Judgement]:
        """`seen` → the judgement that counts, in the order in which they were made."""
        rows = self._database.rows(
            "SELECT seen, answer, author, reason, how, time FROM judgements WHERE critic = ? ORDER BY number",
            (self._critic,),
        )
        found: dict[str, Judgement] = {}
        for row in rows:
            found.pop(row[0], None)
            if row[1] is not None:
                found[row[0]] = Judgement(*row)
        return found

    def _insert(self, seen: str, answer: Answer | None, author: str, reason: str, how: str) -> None:
        values = (
            seen,
            self._critic,
            answer,
            one_line(as_text(author), 200).strip(),
            one_line(as_text(reason), _LONGEST).strip(),
            how,
            datetime.now(UTC).isoformat(timespec="seconds"),
        )
        with self._database.transaction() as db:
            _write(db, values)


def _write(db: sqlite3.Connection, values: tuple[str | None, ...]) -> None:
    db.execute(
        "INSERT INTO judgements (seen, critic, answer, author, reason, how, time) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        values,
    )
