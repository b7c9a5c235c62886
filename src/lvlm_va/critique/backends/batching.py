"""Questions that arrive together are answered together, on a thread of their own."""

import asyncio
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

__all__ = ["Batches"]

_PAUSE = 0.02  # seconds that the first of a batch waits for others; a generation takes far longer
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Batches(Generic[_Item, _Result]):
    """Collects what is asked concurrently on one event loop; the loop stays free while a batch is answered.

    Args:
        run: answers a batch, on the thread; one result or one exception for each item, in their order.
            What it raises is raised for every item of the batch.
        key: only items with equal keys share a batch.
        size: items per batch at most.
    """

    def __init__(
        self,
        run: Callable[[Sequence[_Item]], Sequence[_Result | Exception]],
        key: Callable[[_Item], Hashable],
        size: int,
    ) -> None:
        self._run = run
        self._key = key
        self._size = size
        self._waiting: list[tuple[_Item, asyncio.Future[_Result]]] = []
        self._serving: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")

    async def ask(self, item: _Item) -> _Result:
        """The result for one item."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_Result] = loop.create_future()
        self._waiting.append((item, future))
        if self._serving is None or self._serving.done():
            self._serving = loop.create_task(self._serve())
        return await future

    def close(self) -> None:
        """Answer nothing more. The thread ends with the batch under way."""
        if self._serving is not None:
            self._serving.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _serve(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE)
            batch = self._next()
            if not batch:
                return
            results: Sequence[_Result | Exception]
            try:
                items = [item for item, _ in batch]
                results = await asyncio.get_running_loop().run_in_executor(self._thread, self._run, items)
            except Exception as error:  # noqa: BLE001 -- not swallowed: all who wait receive it
                results = [error] * len(batch)
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():  # whoever asked has been cancelled
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    def _next(self) -> list[tuple[_Item, "asyncio.Future[_Result]"]]:
        """The longest waiting item and those that may share its batch; none if nobody waits."""
        self._waiting = [waiting for waiting in self._waiting if not waiting[1].done()]
        if not self._waiting:
            return []
        key = self._key(self._waiting[0][0])
        batch = [waiting for waiting in self._waiting if self._key(waiting[0]) == key][: self._size]
        self._waiting = [waiting for waiting in self._waiting if waiting not in batch]
        return batch
