"""One optimisation step, divided among processes and, where memory runs out, into parts done in turn.

A step's loss is a sum of terms, each a mean over samples of one kind: cross-entropy over all samples, right
reasons over alignment samples. A part's mean, weighted with the share of the samples that are in it, adds up
to the mean of the whole; so do the gradients. The result is that of the undivided step up to rounding, unless
samples of a batch see each other (batch normalisation in training mode): there a part has its own statistics.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lvlm_va.errors import ModelError
from lvlm_va.models.memory import free, is_out_of_memory, reason
from lvlm_va.training.process_group import ProcessGroup

__all__ = ["MicroBatching", "Part"]


class Part(NamedTuple):
    """Some samples of a step.

    Attributes:
        samples: one (n_i, ...) tensor for each kind of sample, possibly empty.
        shares: for each kind, which share of all its samples this is; weighs a mean over them.
        fraction: weighs a term that is not about samples, such as Σ θ²; sums to 1 over the parts.
    """

    samples: tuple[Tensor, ...]
    shares: tuple[float, ...]
    fraction: float


class MicroBatching:
    """How steps are divided; where memory runs out the division becomes finer, and stays so.

    Args:
        group: the processes that share each step.
        parts: in how many parts this process does its share.
        note: told, in one sentence, when memory ran out.
    """

    def __init__(
        self, group: ProcessGroup, parts: int = 1, note: Callable[[str], None] = lambda _: None
    ) -> None:
        self.group = group
        self.parts = parts
        self._note = note

    def backward(
        self, model: nn.Module, samples: Sequence[Tensor], terms: Callable[[Part], Tensor]
    ) -> Tensor:
        """Leave the gradient of a step's loss in the parameters' `grad`, the same in every process.

        Args:
            model: its gradients are replaced.
            samples: the whole step: one (n_i, ...) tensor for each kind of sample, such as indices.
            terms: the (t,) weighted terms of the loss of one part: every mean over a kind of sample times its
                share, everything else times the fraction; zero for a kind without samples.

        Returns:
            (t,) the terms of the whole step, without gradient; their sum is the loss.

        Raises:
            ModelError: if memory does not suffice for a single sample.
        """
        own = [self.group.shard(kind) for kind in samples]
        while True:
            model.zero_grad(set_to_none=True)
            try:
                total = self._in_parts(own, [len(kind) for kind in samples], terms)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                why = reason(error)
            self._refine(max(len(kind) for kind in own), why)
            free()
        self.group.all_reduce_gradients(model)
        self.group.all_reduce([total])
        return total

    def _in_parts(
        self, own: Sequence[Tensor], counts: Sequence[int], terms: Callable[[Part], Tensor]
    ) -> Tensor:
        total: Tensor | None = None
        for samples in zip(*(torch.tensor_split(kind, self.parts) for kind in own), strict=True):
            shares = tuple(len(part) / max(count, 1) for part, count in zip(samples, counts, strict=True))
            values = terms(Part(samples, shares, 1 / (self.parts * self.group.size)))
            loss = values.sum()
            if loss.requires_grad:  # else the part is empty
                torch.autograd.backward(loss)
            total = values.detach() if total is None else total + values.detach()
        assert total is not None
        return total

    def _refine(self, samples: int, why: str) -> None:
        if self.parts >= samples:
            raise ModelError(
                f"not enough memory to train on a single image ({why}); "
                "take smaller images, a smaller model, or another device"
            )
        self.parts = min(2 * self.parts, samples)
        self._note(
            f"Out of memory ({why}); each step is now done in {self.parts} parts. The result is the same up "
            "to rounding, unless the model has batch normalisation: it sees one part at a time."
        )
