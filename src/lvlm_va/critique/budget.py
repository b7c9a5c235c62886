"""A limit in US dollars that is not crossed: money is set aside before a question is sent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, runtime_checkable

from lvlm_va.critique.question import Backend, Question, Reply
from lvlm_va.critique.tokens import expected_tokens, input_tokens
from lvlm_va.errors import BudgetReached, ConfigError

__all__ = ["Budget", "Priced", "usd_of"]

_MARGIN = 1.25  # how much longer than estimated a prompt may turn out


@runtime_checkable
class Priced(Protocol):
    """A backend that knows what its model charges."""

    model: str

    def usd(self, input_tokens: int, output_tokens: int) -> float | None:
        """US dollars, or None where no price is known."""
        ...


def usd_of(backend: Backend, input_tokens: int, output_tokens: int) -> float | None:
    """What a call costs: nothing where no LVLM answers, None where no price is known."""
    if backend.kind != "lvlm":
        return 0.0
    return backend.usd(input_tokens, output_tokens) if isinstance(backend, Priced) else None


class Budget:
    """Money set aside for questions under way, and money spent.

    Args:
        limit: US dollars, or None for no limit.
        spent: what was spent before.
        backends: who will be asked.

    Raises:
        ConfigError: if the limit is not a number ≥ 0, or there is one and a backend's prices are unknown.
    """

    def __init__(self, limit: float | None, spent: float, *backends: Backend) -> None:
        if limit is not None and not limit >= 0:
            raise ConfigError(f"a limit must be a number of US dollars ≥ 0, not {limit}")
        for backend in backends:
            if limit is not None and usd_of(backend, 1, 1) is None:
                raise ConfigError(
                    f"a limit of {limit:g} USD cannot be held: no price is known for {backend.name}; "
                    "give its prices (USD per million input and output tokens), or no limit"
                )
        self._limit = limit
        self._spent = spent
        self._reserved: dict[object, float] = {}  # one entry per call under way
        self._settled = asyncio.Condition()

    @asynccontextmanager
    async def reserve(self, question: Question, backend: Backend) -> AsyncIterator[list[Reply]]:
        """Set aside what the answer may cost at most; append the reply to the list to pay its true price.

        Waits while answers under way may still turn out cheaper than what was set aside for them.

        Raises:
            BudgetReached: if the question might cross the limit.
        """
        most = self._most(question, backend) if self._limit is not None else 0.0
        ticket = object()
        async with self._settled:
            while self._limit is not None and self._committed() + most > self._limit:
                if not self._reserved:
                    raise BudgetReached(
                        f"the limit of {self._limit:g} USD is reached: {self._spent:.4f} USD are spent and "
                        f"the next question may cost {most:.4f}; all answers are kept, raise the limit to "
                        "go on"
                    )
                await self._settled.wait()
            self._reserved[ticket] = most
        paid: list[Reply] = []
        try:
            yield paid
        finally:
            del self._reserved[ticket]
            # A call whose tokens the server did not count is taken at the most it may have cost.
            self._spent += sum(most if reply.usd is None else reply.usd for reply in paid)
            async with self._settled:
                self._settled.notify_all()

    def _committed(self) -> float:
        return self._spent + sum(self._reserved.values())

    def _most(self, question: Question, backend: Backend) -> float:
        model = backend.model if isinstance(backend, Priced) else ""
        longest = question.parameters.get("max_tokens", 4 * expected_tokens(question))
        usd = usd_of(backend, round(_MARGIN * input_tokens(question, model)), longest)
        assert usd is not None, "prices were checked at the start"
        return usd
