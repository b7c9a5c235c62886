"""The one training loop, which takes a loss: original training, fine-tuning and baselines all run in it.

Where several processes were launched, all run it with the same arguments, and each computes its part of every
step; batch normalisation then sees one part at a time, and its running statistics are averaged after each
epoch. A process that is killed goes on after the last whole epoch, bit for bit.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lvlm_va.models.compute import Compute
from lvlm_va.models.mode import evaluating
from lvlm_va.training.micro_batching import MicroBatching, Part
from lvlm_va.training.resumption import Resumption, packed, unpacked
from lvlm_va.training.seeding import seeded

__all__ = ["UNDER_A_ROOT", "Epoch", "Loop", "Score", "Step", "finite_gradients"]

Score = tuple[float, ...]
"""How good a model is, compared as tuples are: by the first number, then the second."""


UNDER_A_ROOT = (
    "as a rule the model takes a root, a norm or a standard deviation of something that is zero: add a small "
    "number under the root"
)
"""What to look for where a function is finite and its derivative is not."""


class Step(NamedTuple):
    """One iteration.

    Attributes:
        samples: one (n_i, ...) tensor for each kind of sample, such as indices.
        loss: the (t,) weighted terms of the loss of a part of them, see `MicroBatching.backward`.
        weight: of this step in the epoch's mean.
    """

    samples: tuple[Tensor, ...]
    loss: Callable[[Part], Tensor]
    weight: float = 1.0


class Epoch(NamedTuple):
    """One epoch: the means of the loss's terms over its steps, and the score after it, if judged."""

    terms: tuple[float, ...]
    score: Score | None


@dataclass(eq=False)
class Loop:
    """A training under way.

    Attributes:
        model: trained in place.
        steps: yields the steps of one epoch, given the generator of everything that is drawn for them.
        epochs: passes.
        iterations: steps of all epochs together.
        optimizer: of the model's parameters.
        schedule: of its step size, advanced after every step; None keeps it.
        compute: device and number format.
        micro_batching: how steps are divided over processes and, where memory is short, in time.
        seed: of the generator, and of the model's own randomness (dropout).
        check: called with the terms of a step and its number, before the optimizer; raises if they are bad.
        to_training_mode: called before each epoch.
        judge: scores the model, in evaluation mode, after every epoch; in the main process.
        keep_best: whether the epoch with the best score is kept, of equals the first; else the last.
        patience: stop after so many epochs in a row without a better score.
        after_epoch: called with the number of each epoch, from 1, and the model in evaluation mode, once the
            epoch is done (not again after a resumption); True ends the training there.
        resumption: where the state is kept after each epoch, and found again. The caller removes it.
        progress: called with (iterations done, iterations in all).
        tell: called with the number of each epoch and the epoch.
        history: what was done.
    """

    model: nn.Module
    steps: Callable[[torch.Generator], Iterator[Step]]
    epochs: int
    iterations: int
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler | None
    compute: Compute
    micro_batching: MicroBatching
    seed: int
    check: Callable[[Tensor, int], None]
    to_training_mode: Callable[[nn.Module], object] = nn.Module.train
    judge: Callable[[nn.Module], Score] | None = None
    keep_best: bool = False
    patience: int | None = None
    after_epoch: Callable[[int, nn.Module], bool] | None = None
    resumption: Resumption | None = None
    progress: Callable[[int, int], None] | None = None
    tell: Callable[[int, Epoch], None] = lambda _number, _epoch: None
    note: Callable[[str], None] = lambda _: None
    history: list[Epoch] = field(default_factory=list)
    _best: dict[str, Any] | None = None
    _done: int = 0

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)

    @property
    def kept(self) -> int:
        """The number of the epoch that is kept, from 1."""
        return len(self.history) if self._best is None else int(self._best["epoch"])

    def run(self) -> list[Epoch]:
        """Train; leaves the kept epoch's weights in the model, and the model in evaluation mode.

        Raises:
            ModelError: what `check` raises, or if memory does not suffice for a single sample.
        """
        group = self.micro_batching.group
        # Seeds differ between processes, or their dropout would not.
        with seeded(self.seed + group.rank, self.compute.device):
            self._resume()
            for number in range(len(self.history) + 1, self.epochs + 1):
                if self._exhausted():
                    break
                terms = self._epoch()
                group.average_statistics(self.model)
                self.model.eval()
                score = None if self.judge is None else group.on_main(partial(self.judge, self.model))
                self._finish(Epoch(terms, score))
                self.tell(number, self.history[-1])
                if self.resumption is not None and group.is_main:
                    self.resumption.write(self._state())
                if self.after_epoch is not None:
                    with evaluating(self.model):
                        ended = group.broadcast(self.after_epoch(number, self.model))
                    if ended:
                        break
        if self._best is not None:
            self.model.load_state_dict(self._best["model"])
        self.compute.settle(self.model)
        self.model.eval()
        return self.history

    def _epoch(self) -> tuple[float, ...]:
        self.to_training_mode(self.model)
        sums: Sequence[float] = ()
        weights = 0.0
        for samples, loss, weight in self.steps(self._generator):
            terms = self.micro_batching.backward(self.model, samples, loss)
            self._done += 1
            # Before the optimizer, which would spread what is no number to every weight.
            self.check(terms, self._done)
            self.optimizer.step()
            if self.schedule is not None:
                self.schedule.step()
            values = [weight * value for value in terms.tolist()]
            sums = [a + b for a, b in zip(sums, values, strict=True)] if sums else values
            weights += weight
            if self.progress is not None:
                self.progress(self._done, self.iterations)
        return tuple(total / weights for total in sums)

    def _finish(self, epoch: Epoch) -> None:
        """Take note of an epoch, and of the model if it is the best so far."""
        self.history.append(epoch)
        if self.keep_best and (self._best is None or (epoch.score or ()) > self._best["score"]):
            weights = copy.deepcopy(self.model.state_dict())
            self._best = {"epoch": len(self.history), "score": epoch.score or (), "model": weights}

    def _exhausted(self) -> bool:
        """Whether `patience` epochs in a row were no better than the best."""
        if self.patience is None or self._best is None:
            return False
        return len(self.history) - self.kept >= self.patience

    def _resume(self) -> None:
        """Go on from where it stopped; of several processes all start from the main one's weights."""
        group = self.micro_batching.group
        found = self.resumption.read() if self.resumption is not None and group.is_main else None
        if group.size > 1:
            found = group.broadcast(packed(self._state()) if found is None else found)
        if found is not None:
            self._restore(unpacked(found), chance=group.is_main)
        if self.history:
            self.note(f"  goes on after epoch {len(self.history)} of {self.epochs}")

    def _state(self) -> dict[str, Any]:
        """Everything, as tensors and plain values."""
        device = self.compute.device
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "order": self._generator.get_state(),
            "chance": torch.get_rng_state(),
            "chance_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            "parts": self.micro_batching.parts,
            "done": self._done,
            "history": [tuple(epoch) for epoch in self.history],
            "best": self._best,
        }

    def _restore(self, state: dict[str, Any], *, chance: bool) -> None:
        """Go back to a `_state`; `chance` says whether torch's own generators do too."""
        device = self.compute.device
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self._generator.set_state(state["order"])
        self.micro_batching.parts = state["parts"]
        self._done = state["done"]
        self.history = [Epoch(*epoch) for epoch in state["history"]]
        self._best = state["best"]
        if chance:
            torch.set_rng_state(state["chance"])
            if device.type == "cuda" and state["chance_cuda"] is not None:
                torch.cuda.set_rng_state(state["chance_cuda"], device)


def finite_gradients(model: nn.Module) -> bool:
    """Whether all gradients that the parameters have are finite; one synchronisation with a GPU."""
    finite = [p.grad.isfinite().all() for p in model.parameters() if p.grad is not None]
    return not finite or bool(torch.stack(finite).all())
