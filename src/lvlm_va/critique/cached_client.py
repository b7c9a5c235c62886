"""Where questions are asked: never one twice, never one without keeping the answer."""

import asyncio
import threading
from dataclasses import replace
from typing import Protocol
from weakref import WeakValueDictionary

from lvlm_va.critique.budget import Budget
from lvlm_va.critique.question import Backend, Question, Reply
from lvlm_va.critique.store import Store
from lvlm_va.errors import AnswerFailed, CriticError
from lvlm_va.io.redaction import redact, redact_all

__all__ = ["AskedElsewhere", "CachedClient", "Claims", "Halted"]

_TOLERATED_FAILURES = 10  # in a row; beyond, it is not the question but the endpoint


class Halted(Exception):
    """The run ends; this question is not asked."""


class AskedElsewhere(Exception):
    """Another machine asks this question."""


class Claims(Protocol):
    """Who of several machines asks a question."""

    def take(self, key: str) -> bool:
        """Whether this one does; may wait for a disk."""
        ...


class CachedClient:
    """Known answers come from the store, new ones from a backend, each question once.

    Args:
        store: where every question and answer goes.
        budget: from which each call is paid.
        stop: once it is set, nothing more is asked.
        at_once: how many calls may be under way.
        claims: of machines that share the questions; None where this is the only one.
    """

    def __init__(
        self,
        store: Store,
        budget: Budget,
        stop: threading.Event,
        at_once: int,
        claims: Claims | None = None,
    ) -> None:
        self._store = store
        self._budget = budget
        self._stop = stop
        self._claims = claims
        self._closed = False
        self._failures = 0
        self._slots = asyncio.Semaphore(at_once)
        # Held by those who ask: a question's lock lives as long as anyone wants the answer.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.refused = False  # whether someone came after closing

    def close(self) -> None:
        """Ask nothing more; answers under way are still recorded."""
        self._closed = True

    async def ask(self, question: Question, backend: Backend) -> Reply:
        """The answer to a question; on the disk when it returns.

        Raises:
            Halted: if the client is closed.
            AskedElsewhere: if another machine asks it.
            AnswerFailed: if the question went unanswered.
            CriticError: if too many in a row did, or none can be answered.
            BudgetReached, RunError: as said there.
        """
        await asyncio.sleep(0)  # a backend that only computes would never let the others run
        told = backend.kind == "lvlm"  # what it is told is all it knows, so equal questions are one
        key = question.content_key(backend.name) if told else question.key(backend.name)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:  # the same question twice at once: the second finds the first one's answer
            self._check()
            if self._store.may_know(question, backend.name):
                known = await asyncio.to_thread(self._known, question, backend)
                if known is not None:
                    return known
            if self._claims is not None and told and not await asyncio.to_thread(self._claims.take, key):
                raise AskedElsewhere
            async with self._budget.reserve(question, backend) as paid:
                try:
                    async with self._slots:  # free again while the answer goes to the disk
                        self._check()
                        reply = _clean(await backend.answer(question))
                except AnswerFailed as failed:
                    self._check()  # it may have failed because it was told to stop waiting
                    error = AnswerFailed(redact(str(failed)))
                    if failed.usd != 0:
                        paid.append(Reply("", "", usd=failed.usd))
                    await self._store.keep_failure(question, backend.name, str(error))
                    self._failures += 1
                    if self._failures >= _TOLERATED_FAILURES:
                        raise CriticError(
                            f"{self._failures} questions in a row failed. The last failure: {error}"
                        ) from None
                    raise error from None
                await self._store.keep(question, backend.name, reply)
                self._failures = 0
                paid.append(reply)
                return reply

    def _known(self, question: Question, backend: Backend) -> Reply | None:
        if backend.kind == "lvlm":
            return self._store.find(question, backend.name)
        return self._store.lookup(question.key(backend.name))

    def _check(self) -> None:
        if self._closed or self._stop.is_set():
            self.refused = True
            raise Halted


def _clean(reply: Reply) -> Reply:
    """A reply without secrets, whoever gave it: it is kept, and goes into the next question."""
    text, model, problem, note = redact_all(reply.text, reply.model, reply.problem, reply.note)
    return replace(reply, text=text, model=model, problem=problem, note=note)
