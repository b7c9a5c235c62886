"""Many small writes in few commits: each waits for the disk once, and while it waits, more arrive."""

import asyncio
import sqlite3
from collections.abc import Callable

from lvlm_va.critique.database import Database

__all__ = ["Commits", "Write"]

Write = Callable[[sqlite3.Connection], None]
"""Writes one thing; may run in another thread."""


class Commits:
    """Writes to a database from the tasks of an event loop, which runs on while the disk works."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[Write, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def soon(self, write: Write) -> None:
        """Returns when it is on the disk, together with all that arrived while the disk was busy.

        Raises:
            RunError: if the commit failed: of all that were to be written together, nothing is.
        """
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((write, kept))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        await kept

    def finish(self) -> None:
        """Write what still waits because its event loop was stopped."""
        batch, self._waiting = self._waiting, []
        if batch:
            self._commit(batch)

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            error: Exception | None = None
            try:
                await asyncio.to_thread(self._commit, batch)
            except Exception as found:  # noqa: BLE001 -- told to everyone whose answer it was
                error = found
            for _, kept in batch:
                if not kept.done():
                    kept.set_result(None) if error is None else kept.set_exception(error)

    def _commit(self, batch: list[tuple[Write, asyncio.Future[None]]]) -> None:
        with self._database.transaction() as db:
            for write, _ in batch:
                write(db)
