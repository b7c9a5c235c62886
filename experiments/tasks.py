"""Tasks that depend on each other, run side by side; a failure stops only what needs it."""

import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, field
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
    needs: tuple[str, ...] = field(default=())


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
    """Run all tasks; outcomes come as they happen.

    Args:
        tasks: what they need comes from among themselves.
        start: makes an executor; called again where a worker died, after what it ran has failed. Whoever gave
            it ends what it made.
        workers: how many tasks are under way at once.

    Raises:
        ValueError: if a task needs one that is not there, or tasks need each other in a circle.
    """
    waiting = {task.key: task for task in tasks}
    missing = {need for task in tasks for need in task.needs} - set(waiting)
    if missing:
        raise ValueError(f"tasks need {', '.join(sorted(missing))}, which are not among them")
    reasons: dict[str, str | None] = {}
    running: dict[Future[Outcome], Task] = {}
    executor = start()
    try:
        while waiting or running:
            for task in _blocked(waiting, reasons):
                failed = next(need for need in task.needs if reasons.get(need))
                del waiting[task.key]
                reasons[task.key] = reasons[failed]
                yield Outcome(task, failed=str(reasons[failed]))
            for task in _ready(waiting, reasons)[: workers - len(running)]:
                del waiting[task.key]
                running[executor.submit(_run, task)] = task
            if not running:
                if waiting and not _blocked(waiting, reasons):
                    raise ValueError(f"tasks need each other in a circle: {', '.join(sorted(waiting))}")
                continue
            broken = False
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                task = running.pop(future)
                try:
                    outcome = future.result()
                except BrokenExecutor:
                    broken = True
                    outcome = Outcome(
                        task, failed="its process died; memory may have run out: try fewer --workers"
                    )
                reasons[task.key] = outcome.failed
                yield outcome
            if broken:
                executor = start()
    finally:
        for future in running:
            future.cancel()


def _ready(waiting: Mapping[str, Task], reasons: Mapping[str, str | None]) -> list[Task]:
    return [t for t in waiting.values() if all(n in reasons and reasons[n] is None for n in t.needs)]


def _blocked(waiting: Mapping[str, Task], reasons: Mapping[str, str | None]) -> list[Task]:
    return [t for t in waiting.values() if any(reasons.get(n) is not None for n in t.needs)]


def _run(task: Task) -> Outcome:
    """In the worker: an error becomes an outcome there, since not every exception can be sent back."""
    start = time.perf_counter()
    try:
        value = task.function(*task.arguments)
    except LvlmVaError as error:
        if error.exit_code == 130:
            raise
        return Outcome(task, failed=str(error), seconds=time.perf_counter() - start)
    except Exception as error:  # noqa: BLE001 a defect in one cell must not lose the hours of the others
        words = f"unexpected {type(error).__name__}: {error}"
        return Outcome(
            task, failed=words, details=traceback.format_exc(), seconds=time.perf_counter() - start
        )
    return Outcome(task, value=value, seconds=time.perf_counter() - start)
