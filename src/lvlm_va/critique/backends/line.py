"""The connections, limits and pauses that all calls of one endpoint share."""

import asyncio
import time
from dataclasses import dataclass

from aiolimiter import AsyncLimiter

from lvlm_va.critique.backends.connection import Connections
from lvlm_va.errors import AnswerFailed

__all__ = ["Line"]

_STEP = 0.25  # seconds after which a wait looks whether it still makes sense
_clock, _sleep = time.monotonic, asyncio.sleep  # replaced by tests, which need not wait


@dataclass
class Line:
    """What belongs to one event loop.

    Attributes:
        name: of the critic, for errors.
        loop: the loop.
        connections: to the endpoint.
        slots: one for each call that may be under way.
        limiter: how fast calls may follow each other, or None.
        quiet_until: when the next call may start, by `now`.
        halted: whether nothing more is waited for.
    """

    name: str
    loop: asyncio.AbstractEventLoop
    connections: Connections
    slots: asyncio.Semaphore
    limiter: AsyncLimiter | None
    quiet_until: float = 0.0
    halted: bool = False

    def now(self) -> float:
        """Seconds on a clock of its own."""
        return _clock()

    def keep_quiet(self, seconds: float) -> None:
        """Let no call start for so long: the server asked one of them to wait."""
        self.quiet_until = max(self.quiet_until, self.now() + seconds)

    async def wait_until(self, moment: float = 0.0) -> None:
        """Wait until a moment and until no quiet is asked for, in steps short enough to notice `halted`.

        Raises:
            AnswerFailed: if `halted` is set meanwhile.
        """
        while (pause := max(moment, self.quiet_until) - self.now()) > 0:
            if self.halted:
                raise AnswerFailed(f"{self.name}: stopped while waiting to ask again")
            await _sleep(min(pause, _STEP))
