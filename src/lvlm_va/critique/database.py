"""An SQLite file that belongs to one process at a time and explains its own failures."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from lvlm_va.errors import RunError

__all__ = ["Database"]

_APPLICATION = 0x4C56_4C4D  # "LVLM"
_BUSY_SECONDS = 0.5
_CHECKED = 1 << 28
"""Bytes up to which a file is checked as a whole when it is opened. A larger one, for which that would take
longer than what is wanted of it, is checked page by page as it is read."""


class Database:
    """A locked SQLite file of one application and version; commits are on the disk when they return.

    Threads may share it. Every method raises `RunError`, saying what to do, where SQLite raises an error
    of its own.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._turn = threading.RLock()  # of the threads that use it

    @classmethod
    def open(cls, path: Path, schema: str, version: int) -> Self:
        """Open the file, or create it with `schema` (SQL statements, each ending in ";" and a line end).

        Raises:
            RunError: if the file belongs to another program, has another version, is damaged, is in use
                by another process, or cannot be created.
        """
        try:
            connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise RunError(f"{path}: the file cannot be opened or created ({error})") from None
        database = cls(path, connection)
        try:
            with database._explained():
                database._prepare(schema, version)
        except BaseException:
            connection.close()
            raise
        return database

    def close(self) -> None:
        """Release the file."""
        with self._turn:
            self._connection.close()

    def rows(self, statement: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._turn, self._explained():
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, and on the disk at the end. Other threads wait until then.

        One inside another is part of it.
        """
        with self._turn, self._explained():
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite may have rolled back by itself
                    self._connection.execute("ROLLBACK")
                raise

    def _prepare(self, schema: str, version: int) -> None:
        run = self._connection.execute
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA foreign_keys = ON")
        run("PRAGMA synchronous = FULL")
        application, found = (
            run(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        empty = not run("SELECT 1 FROM sqlite_master").fetchone()
        if application != _APPLICATION and not (empty and application == 0):
            raise RunError(
                f"{self._path}: a database of another program; give the run a directory of its own"
            )
        if not empty and found != version:
            raise RunError(
                f"{self._path}: written in version {found} of this file's format, but this lvlm-va reads "
                f"version {version}; use the lvlm-va that wrote it, or a new run directory"
            )
        run("PRAGMA journal_mode = WAL")
        with self.transaction():  # takes the lock, also where there is nothing to create
            if empty:
                for statement in schema.split(";\n"):
                    run(statement)
                run(f"PRAGMA application_id = {_APPLICATION}")
                run(f"PRAGMA user_version = {version}")
        pages, size = (run(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        if pages * size > _CHECKED:
            return
        (health,) = run("PRAGMA quick_check(1)").fetchone()
        if health != "ok":
            raise sqlite3.DatabaseError(health)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise RunError(f"{self._path}: {_advice(error)} ({error})") from error


def _advice(error: sqlite3.Error) -> str:
    """What is wrong and what a person can do about it."""
    match getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "the file is in use by another process; wait until it ends, or stop it"
        case sqlite3.SQLITE_FULL:
            return "the disk is full; make room and run the same command again, nothing is lost"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return "the file cannot be written; check its rights and those of its directory"
        case sqlite3.SQLITE_IOERR:
            return "the disk reports an error; check it and its free space, then run the same command again"
        case sqlite3.SQLITE_NOTADB:
            return "this is not a file of lvlm-va; give the run a directory of its own"
        case sqlite3.SQLITE_CORRUPT:
            return "the file is damaged; restore it from a copy, or move it away to ask everything again"
        case _:
            return "the file cannot be used"
