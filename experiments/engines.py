"""Where tasks run: in this process, in several on this machine, or on a Dask cluster over many."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from lvlm_va.errors import ConfigError
from lvlm_va.io.hints import did_you_mean

__all__ = ["ENGINES", "engine"]

ENGINES = ("processes", "dask")


@contextmanager
def engine(name: str, workers: int, scheduler: str | None = None) -> Iterator[Callable[[], Executor]]:
    """A maker of executors, for `run_tasks`; what it started ends with the block.

    Args:
        name: "processes", or "dask", which `pip install 'lvlm-va[dask]'` brings: a quarter of Ray's size (70
            against 285 MB installed).
        workers: processes. With one, tasks run in this process.
        scheduler: address of a running Dask scheduler, e.g. tcp://node1:8786. Its workers must have lvlm-va
            installed and see the folder of runs. Without it a cluster of `workers` processes is started here.

    Raises:
        ConfigError: if there is no such engine, or Dask is missing or cannot be reached.
    """
    if name not in ENGINES:
        raise ConfigError(f"--engine {name!r}; {did_you_mean(name, ENGINES)}")
    if scheduler is not None and name != "dask":
        raise ConfigError("--scheduler is for --engine dask")
    if name == "dask":
        with _dask(workers, scheduler) as client:
            yield lambda: client.get_executor(pure=False, retries=0)
        return
    started: list[_Processes] = []

    def start() -> Executor:
        if workers == 1:
            return _Here()
        started.append(_Processes(workers))
        return started[-1]

    try:
        yield start
    except BaseException:
        for executor in started:
            executor.end()
        raise
    for executor in started:
        executor.shutdown()


class _Here(Executor):
    """Runs a task when it is submitted, so that progress bars and Ctrl-C work as ever."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class _Processes(ProcessPoolExecutor):
    """Fresh processes that share the cores, and can be ended while they work."""

    def __init__(self, workers: int) -> None:
        threads = max(1, (os.cpu_count() or 1) // workers)
        super().__init__(workers, mp_context=get_context("spawn"), initializer=_prepare, initargs=(threads,))

    def end(self) -> None:
        """Stop the workers now; what they finished is kept, the rest is done again."""
        processes = list((getattr(self, "_processes", None) or {}).values())
        self.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()


def _prepare(threads: int) -> None:
    """In a worker: Ctrl-C is for the parent, which ends this process; cores are shared."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for a torch that comes with the task
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


@contextmanager
def _dask(workers: int, scheduler: str | None) -> Iterator[Any]:
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        raise ConfigError("--engine dask needs Dask: pip install 'lvlm-va[dask]'") from None
    if scheduler is not None:
        try:
            with Client(scheduler, timeout=10) as client:
                yield client
        except (OSError, ValueError) as error:
            raise ConfigError(f"--scheduler {scheduler}: cannot be reached ({error})") from None
        return
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=40
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client
