"""Work on many images in parts that do not depend on each other, shared out over processes or machines.

The parts are the same however many share them, and each is computed whole by one, so the numbers are the
same, too. Every finished part is on the disk at once: a run that was killed goes on with the next.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import nn

from lvlm_va.errors import ConfigError, LvlmVaError, RunError
from lvlm_va.models.copying import copied
from lvlm_va.project.stages.context import Context
from lvlm_va.training.process_group import ProcessGroup

__all__ = ["Work", "forget_shards", "in_shards", "model_to_share", "parts_of", "shards"]

UNFINISHED = "segments/unfinished-"
"""Of a stage's name: the folder of its finished parts."""

T = TypeVar("T")
Note = Callable[[str], None]


@dataclass(frozen=True)
class Work(Generic[T]):
    """What is done with the images.

    Attributes:
        stage: whose results these are.
        inputs: fingerprint of what the results depend on.
        sizes: images of each part.
        give: number of a part → what its computation takes. Called where that is done, or of a Dask cluster
            in the main process; then tensors must be on the CPU.
        prepare: is called with what tells people, and makes the computation. Called once in each process, and
            to be sent to others: a function of a module, or a `partial` of one.
        save: result → bytes of a file.
        load: reads one back; raises ValueError or KeyError where it is damaged.
    """

    stage: str
    inputs: str
    sizes: Sequence[int]
    give: Callable[[int], tuple[Any, ...]]
    prepare: Callable[[Note], Callable[..., T]]
    save: Callable[[T], bytes]
    load: Callable[[Path], T]


def parts_of(total: int, size: int) -> list[slice]:
    """0..total, `size` at a time."""
    return [slice(first, min(first + size, total)) for first in range(0, total, size)]


def model_to_share(context: Context, model: nn.Module) -> nn.Module:
    """The model, or a copy of it on the CPU where it is to be sent to a Dask cluster."""
    if context.config.scheduler is None or context.inputs.device.type == "cpu":
        return model
    return copied(model).cpu()


def in_shards(context: Context, work: Work[T]) -> list[T]:
    """The results of all parts, in order; else as `shards`."""
    found = dict(shards(context, work))
    return [found[number] for number in range(len(work.sizes))]


def shards(context: Context, work: Work[T]) -> Iterator[tuple[int, T]]:
    """Number and result of every part as they come; to be called by every process that was launched.

    Once the results are kept elsewhere, `forget_shards`.

    Raises:
        ConfigError: if Dask is wanted and missing, its scheduler cannot be reached, or torchrun shares out
            the work already.
        RunError: if a process or the cluster has ended.
        LvlmVaError: what a part raised.
    """
    run, group, total = context.run, context.run.group, sum(work.sizes)
    folder = f"{UNFINISHED}{work.stage}/{work.inputs}"
    if group.is_main:
        _forget_others(run.file(folder))
    kept = group.on_main(lambda: dict(_kept(run.file(folder), work)))
    yield from kept.items()
    left = [number for number in range(len(work.sizes)) if number not in kept]
    done = sum(work.sizes[number] for number in kept)
    for number, result in _computed(context, work, left):
        if len(left) > 1 and group.is_main:
            run.write(f"{folder}/{number}", work.save(result))
        done += work.sizes[number]
        context.console.progress(done, total)
        yield number, result


def forget_shards(context: Context, stage: str) -> None:
    """Remove the finished parts of a stage, whose result is kept elsewhere."""
    if context.run.group.is_main:
        shutil.rmtree(context.run.file(UNFINISHED + stage), ignore_errors=True)


def _forget_others(folder: Path) -> None:
    """Remove what was finished with other settings, and never used."""
    if folder.parent.is_dir():
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)


def _kept(folder: Path, work: Work[T]) -> Iterator[tuple[int, T]]:
    """The parts that were finished before."""
    for number in range(len(work.sizes)):
        try:
            yield number, work.load(folder / str(number))
        except (FileNotFoundError, ValueError, KeyError):
            continue


def _computed(context: Context, work: Work[T], numbers: Sequence[int]) -> Iterator[tuple[int, T]]:
    """Number and result of each part; every process is given all of them."""
    scheduler, group = context.config.scheduler, context.run.group
    if not numbers:
        return
    if scheduler is not None:
        if group.size > 1:
            raise ConfigError("scheduler: torchrun shares out the work already; leave out one of them")
        yield from _by_workers(scheduler)(scheduler, numbers, work.give, partial(work.prepare, _silent))
        return
    prepared = work.prepare(_once(context.console.note))

    def compute(number: int) -> T:
        return prepared(*work.give(number))

    for turn in parts_of(len(numbers), group.size):
        yield from _together(group, numbers[turn], compute)


def _together(group: ProcessGroup, turn: Sequence[int], compute: Callable[[int], T]) -> list[tuple[int, T]]:
    """The results of parts of which each process computes one; an error in one process ends all."""
    mine = turn[group.rank : group.rank + 1]
    if group.size == 1:
        return [(number, compute(number)) for number in mine]
    done: list[tuple[int, T]] = []
    failed: LvlmVaError | None = None
    try:
        done = [(number, compute(number)) for number in mine]
    except LvlmVaError as error:
        failed = error
    everyone = group.gathered((done, failed))
    for _, raised in everyone:
        if raised is not None:
            raise raised if group.is_main else RunError("the main process has ended; see what it said")
    return [result for results, _ in everyone for result in results]


def _by_workers(scheduler: str) -> Callable[..., Iterator[tuple[int, Any]]]:
    try:
        from lvlm_va.training.dask_workers import by_workers
    except ImportError:
        raise ConfigError(f"scheduler: {scheduler} needs Dask: pip install 'lvlm-va[dask]'") from None
    return by_workers


def _once(note: Note) -> Note:
    """Tells the same thing once: what is done about little memory is done for every part."""
    said: set[str] = set()

    def tell(text: str) -> None:
        if text not in said:
            said.add(text)
            note(text)

    return tell


def _silent(_text: str) -> None:
    """A worker on another machine has nobody to tell."""
