"""Tasks that depend on each other, run side by side; a failure stops only what needs it."""

import heapq
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from lvlm_va.errors import LvlmVaError

__all__ = ["Outcome", "Task", "run_tasks"]


@dataclass(frozen=True)
class Task:
    """A call that can be sent to another process.

    Attributes:
        key: unique among the tasks.
        words: what it does, for a person.
        function: importable by name; its arguments and result can be pickled.
        arguments: positional.
        needs: keys of the tasks that must have succeeded before.
    """

    key: str
    words: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        task: which.
        value: what the function returned; None where it failed.
        failed: why it failed, in words for the person; None where it did not.
        details: a traceback, where the failure is a defect of this package.
        seconds: wall clock.
    """

    task: Task
    value: Any = None
    failed: str | None = None
    details: str | None = None
    seconds: float = 0.0


def run_tasks(tasks: Sequence[Task], start: Callable[[], Executor], workers: int) -> Iterator[Outcome]:
    """Run all tasks; outcomes come as they happen. Of those that can run, the first in the list goes first.

    Args:
        tasks: what they need comes from among themselves.
        start: makes an executor; called again where a worker died, after what it ran has failed. Whoever gave
            it ends what it made.
        workers: how many tasks are under way at once.

    Raises:
        ValueError: if a task needs one that is not there, or tasks need each other in a circle.
    """
    place = {task.key: n for n, task in enumerate(tasks)}
    missing = {need for task in tasks for need in task.needs} - set(place)
    if missing:
        raise ValueError(f"tasks need {', '.join(sorted(missing))}, which are not among them")
    order = TopologicalSorter({task.key: task.needs for task in tasks})
    try:
        order.prepare()
    except CycleError as error:
        raise ValueError(
            f"tasks need each other in a circle: {', '.join(sorted(set(error.args[1])))}"
        ) from None
    ready: list[int] = []
    failed: dict[str, str] = {}
    running: dict[Future[Outcome], Task] = {}
    executor = start()
    try:
        while order.is_active():
            for key in order.get_ready():
                heapq.heappush(ready, place[key])
            outcomes: list[Outcome] = []
            broken = False
            while ready and not outcomes and len(running) < workers:
                task = tasks[heapq.heappop(ready)]
                reason = next((failed[need] for need in task.needs if need in failed), None)
                if reason is None:
                    running[executor.submit(_run, task)] = task
                else:
                    outcomes.append(Outcome(task, failed=reason))
            for future in [] if outcomes else wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                try:
                    outcomes.append(future.result())
                except BrokenExecutor:
                    broken = True
                    told = "its process died; memory may have run out: try fewer --workers"
                    outcomes.append(Outcome(task, failed=told))
            for outcome in outcomes:
                if outcome.failed is not None:
                    failed[outcome.task.key] = outcome.failed
                order.done(outcome.task.key)
                yield outcome
            if broken:
                executor = start()
    finally:
        for future in running:
            future.cancel()


def _run(task: Task) -> Outcome:
    """In the worker: an error becomes an outcome there, since not every exception can be sent back."""
    start = time.perf_counter()
    try:
        value = task.function(*task.arguments)
    except LvlmVaError as error:
        if error.exit_code == 130:
            raise
        return Outcome(task, failed=str(error), seconds=time.perf_counter() - start)
    except Exception as error:  # noqa: BLE001 a defect in one trial must not lose the hours of the others
        words = f"unexpected {type(error).__name__}: {error}"
        return Outcome(
            task, failed=words, details=traceback.format_exc(), seconds=time.perf_counter() - start
        )
    return Outcome(task, value=value, seconds=time.perf_counter() - start)
