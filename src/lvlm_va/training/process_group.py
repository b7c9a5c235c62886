"""Several processes that work on one run together, started by torchrun; one process alone is a group of one.

Every process computes the gradient of its own part of each batch; the parts are weighted so that their *sum*
is the gradient of the whole batch, and that sum is taken over processes after the backward pass.
DistributedDataParallel would average instead, which is wrong for parts of unequal size, and does not support
`torch.autograd.grad` inside the loss, which the right-reasons term needs.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
from torch import Tensor, distributed, nn

from lvlm_va.errors import RunError
from lvlm_va.training.resumption import packed, unpacked

__all__ = ["ProcessGroup", "launched_group"]

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a training.

    Attributes:
        rank: which of them this is, 0 ≤ rank < size.
        size: how many.
    """

    rank: int = 0
    size: int = 1

    @staticmethod
    def here() -> "ProcessGroup":
        """The processes of torch's default group; this one alone where there is none."""
        if distributed.is_available() and distributed.is_initialized():
            return ProcessGroup(distributed.get_rank(), distributed.get_world_size())
        return ProcessGroup()

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and speaks to people and critics."""
        return self.rank == 0

    def shard(self, whole: Tensor) -> Tensor:
        """This process's part of (n, ...) samples: together the parts are the whole; one may be empty."""
        return torch.tensor_split(whole, self.size)[self.rank]

    def broadcast(self, value: T) -> T:
        """What the main process has for `value` (anything that pickles; tensors on the CPU).

        Raises:
            RunError: in the others, if the main process has ended.
        """
        if self.size == 1:
            return value
        box = [value]
        try:
            distributed.broadcast_object_list(box)
        except RuntimeError:
            if self.is_main:
                raise
            raise RunError("the main process has ended; see what it said") from None
        return box[0]

    def broadcast_read(self, read: T | None) -> T:
        """What the main process read; None in the others, which did not."""
        return cast(T, self.broadcast(read))

    def on_main(self, compute: Callable[[], T]) -> T:
        """What `compute` gives in the main process, for all of them; the others wait."""
        return self.broadcast(compute() if self.is_main else cast(T, None))

    def gathered(self, value: T) -> list[T]:
        """What every process has for `value` (as for `broadcast`), by rank; in all of them.

        Raises:
            RunError: if one of them has ended.
        """
        if self.size == 1:
            return [value]
        values: list[T] = [value] * self.size
        try:
            distributed.all_gather_object(values, value)
        except RuntimeError:
            raise RunError(
                "another of the processes has ended; see what it said. What is done is kept"
            ) from None
        return values

    def broadcast_weights(self, model: nn.Module) -> None:
        """Give `model` the main process's parameters and buffers."""
        if self.size > 1:
            model.load_state_dict(unpacked(self.broadcast(packed(model.state_dict()))))

    def all_reduce(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor, in place, by its sum over the processes; shapes must agree among them."""
        tensors = list(tensors)
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, summed in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
            tensor.copy_(summed.view(tensor.shape))

    def all_reduce_gradients(self, model: nn.Module) -> None:
        """Sum the gradients of a model over the processes; one that has none counts as zero."""
        if self.size == 1:
            return
        trained = [p for p in model.parameters() if p.requires_grad]
        for parameter in trained:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.all_reduce(p.grad for p in trained if p.grad is not None)

    def average_statistics(self, model: nn.Module) -> None:
        """Average a model's buffers (running statistics of batch normalisation) over the processes."""
        buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self.all_reduce(buffers)
        if self.size > 1:
            for buffer in buffers:
                buffer /= self.size


@contextmanager
def launched_group() -> Iterator[ProcessGroup]:
    """The processes that torchrun launched, connected while the block runs; this one alone without torchrun.

    Each process has the GPU of its local rank, where there are GPUs.
    """
    if distributed.is_available() and distributed.is_initialized():
        yield ProcessGroup.here()
        return
    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        yield ProcessGroup()
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    # The others wait while the main process asks critics, which may take days; torchrun ends them if it dies.
    distributed.init_process_group(backend, timeout=timedelta(days=30))
    try:
        yield ProcessGroup.here()
    finally:
        distributed.destroy_process_group()
