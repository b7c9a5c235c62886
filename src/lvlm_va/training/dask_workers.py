"""Parts of a computation on the workers of a Dask cluster, which must have this package installed.

What all parts need (a model, say) goes to every worker once, also to those that come later; a part's own
arrays travel with it, and its result comes back. A part whose worker dies is done again by another.

Importing this needs the extra `dask`.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import uuid4

import dask
from distributed import Client, KilledWorker, WorkerPlugin, as_completed

from lvlm_va._version import __version__
from lvlm_va.errors import ConfigError, ModelError, RunError

__all__ = ["by_workers"]

T = TypeVar("T")

_AHEAD = 2
"""Parts at a worker or on the way to it: it need not wait, and no more arrays than that are under way."""

_PATIENCE = 60  # seconds until the first worker is there

_lock = threading.Lock()  # a worker may have several threads, and a model is in one mode at a time
_given: dict[str, Callable[[], Callable[..., Any]]] = {}
_ready: dict[str, Callable[..., Any]] = {}


def by_workers(
    scheduler: str,
    numbers: Sequence[int],
    give: Callable[[int], tuple[Any, ...]],
    prepare: Callable[[], Callable[..., T]],
) -> Iterator[tuple[int, T]]:
    """Number and result of each part, as they are finished.

    Args:
        scheduler: address, e.g. tcp://node1:8786.
        numbers: of the parts.
        give: number → what the part needs, on the CPU; called here, when a worker is soon free.
        prepare: makes what computes a part of that; called once in each worker.

    Raises:
        ConfigError: if the scheduler or a worker of it cannot be reached.
        RunError: if workers died of a part, the cluster ended, or a worker has another version of lvlm-va.
        ModelError: if `prepare` cannot be sent.
        LvlmVaError: what a part raised.
    """
    with _client(scheduler) as client, _prepared(client, prepare) as key:
        left = iter(numbers)
        under_way: dict[Any, int] = {}
        done = as_completed(loop=client.loop)

        def send() -> None:
            wanted = _AHEAD * max(1, len(client.nthreads()))
            while len(under_way) < wanted and (number := next(left, None)) is not None:
                future = client.submit(_compute, key, __version__, give(number), pure=False)
                under_way[future] = number
                done.add(future)

        send()
        for future in done:
            number = under_way.pop(future)
            try:
                result = future.result()
            except KilledWorker:
                raise RunError(
                    f"scheduler: several workers of {scheduler} died of the same part; memory may have run "
                    "out: start fewer on a machine. What is done is kept"
                ) from None
            except CancelledError:
                raise RunError(
                    f"scheduler: {scheduler} has ended or was lost; what is done is kept, the same command "
                    "resumes"
                ) from None
            yield number, result
            send()


@contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    try:
        client = Client(scheduler, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"scheduler: {scheduler} cannot be reached ({error})") from None
    # A part's arrays travel inside its task on purpose, so that they are not lost with a worker.
    with client, dask.config.set({"distributed.admin.large-graph-warning-threshold": "10GiB"}):
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError:
            raise ConfigError(
                f"scheduler: {scheduler} has no workers; start some with: dask worker {scheduler}"
            ) from None
        yield client


class _Prepared(WorkerPlugin):
    """What all parts need; the scheduler gives it to workers that come later, too."""

    def __init__(self, key: str, prepare: Callable[[], Callable[..., Any]]) -> None:
        self.name = key
        self.prepare = prepare

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        _given[self.name] = self.prepare

    def teardown(self, worker: Any) -> None:  # noqa: ARG002
        _given.pop(self.name, None)
        _ready.pop(self.name, None)


@contextmanager
def _prepared(client: Any, prepare: Callable[[], Callable[..., Any]]) -> Iterator[str]:
    key = f"lvlm-va-{uuid4().hex}"
    try:
        client.register_plugin(_Prepared(key, prepare))
    except Exception as error:
        raise ModelError(
            f"scheduler: the model cannot be brought to the workers ({type(error).__name__}: {error}); "
            "lvlm-va and the model's code must be installed there. Or leave `scheduler` out"
        ) from error
    try:
        yield key
    finally:
        if client.status == "running":
            client.unregister_worker_plugin(key)


def _compute(key: str, version: str, given: tuple[Any, ...]) -> Any:
    """In the worker."""
    if version != __version__:
        raise RunError(
            f"scheduler: a worker has lvlm-va {__version__}, and this is {version}; install the same on both"
        )
    with _lock:
        if key not in _ready:
            _ready[key] = _given[key]()
        return _ready[key](*given)
