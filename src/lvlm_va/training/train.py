"""Ordinary training, from scratch or from pretrained weights: cross-entropy and a step size that falls."""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lvlm_va.data.imageset import ImageSet, images_on
from lvlm_va.errors import ConfigError, ModelError
from lvlm_va.models.compute import Compute, Precision, choose_compute
from lvlm_va.models.mode import evaluating
from lvlm_va.models.predict import accuracy, logits
from lvlm_va.training.batches import count_batches, in_batches
from lvlm_va.training.gradients import UNDER_A_ROOT, finite_gradients
from lvlm_va.training.micro_batching import Division, Part
from lvlm_va.training.process_group import Crew
from lvlm_va.training.resumption import Resumption, packed, unpacked
from lvlm_va.training.seeding import seeded

__all__ = ["Epoch", "Optimizer", "Trained", "train"]

Optimizer = Literal["adam", "adamw", "sgd"]

_MOMENTUM = 0.9


class Epoch(NamedTuple):
    """What one epoch came to.

    Attributes:
        cross_entropy: mean over the training pictures as they were met, in nats.
        validation: accuracy on the validation set afterwards, in [0, 1]; None where there is none.
    """

    cross_entropy: float
    validation: float | None


@dataclass(frozen=True)
class Trained:
    """How a training went.

    Attributes:
        epochs: those that were done.
        kept: which of them the model is from, counted from 1.
        how: why that one, in words.
        compute: device and number format, in words.
    """

    epochs: tuple[Epoch, ...]
    kept: int
    how: str
    compute: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "epochs": [epoch._asdict() for epoch in self.epochs],
            "epoch_kept": self.kept,
            "how_kept": self.how,
            "compute": self.compute,
        }


def train(
    model: nn.Module,
    training: ImageSet,
    *,
    epochs: int,
    batch: int = 128,
    learning_rate: float = 1e-3,
    optimizer: Optimizer = "adam",
    weight_decay: float = 0.0,
    precision: Precision = "auto",
    flip: bool = False,
    validation: ImageSet | None = None,
    patience: int | None = None,
    seed: int = 0,
    resumption: Resumption | None = None,
    after_epoch: Callable[[int, nn.Module], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] = lambda _: None,
    crew: Crew | None = None,
) -> Trained:
    """Train `model` in place and leave it in evaluation mode.

    Where several processes were launched, all call this with the same arguments, and each computes its part
    of every batch; batch normalisation then sees one part at a time, and its running statistics are averaged
    after each epoch.

    Args:
        model: maps (n, C, H, W) in [0, 1] to (n, K) outputs; it starts from the weights it has, and what does
            not require a gradient stays.
        training: the training set.
        epochs: passes over it.
        batch: pictures an iteration; a last one that would be alone joins the iteration before it. Where
            memory does not suffice, an iteration is done in parts.
        learning_rate: step size at the start; it falls to zero as a half cosine.
        optimizer: "adam", "adamw" (decay apart from the gradient), or "sgd" with a momentum of 0.9.
        weight_decay: of all trainable parameters: added to the gradient as weight_decay · θ (adam, sgd), or
            taken from θ in proportion to the step size (adamw).
        precision: see `choose_compute`.
        flip: mirror each picture left to right with a probability of ½.
        validation: measured after each epoch.
        patience: stop after so many epochs in a row without a better validation accuracy, and keep the best
            epoch; None trains to the end and keeps the last.
        seed: of the order of the pictures, their flips, and the model's own randomness (dropout); initial
            weights are the caller's.
        resumption: where the state is kept after each epoch, and found again. The caller removes it.
        after_epoch: called with the number of each epoch, from 1, and the model in evaluation mode, once the
            epoch is done (not again after a resumption); True ends the training there.
        progress: called with (iterations done, iterations in all).
        note: told about epochs and whatever else is worth a line.
        crew: the processes that train together; all that were launched if not given.

    Raises:
        ConfigError: if `patience` is given without a validation set.
        ModelError: if nothing in the model can be trained, the loss or its gradient stops being finite, or
            memory does not suffice for a single picture.
    """
    if patience is not None and validation is None:
        raise ConfigError("model.patience needs a validation set; leave it out to train to the end")
    if not any(p.requires_grad for p in model.parameters()):
        raise ModelError("no parameter of the model requires a gradient; unfreeze what is to be trained")
    compute, crew = choose_compute(model, precision), crew or Crew.here()
    course = _Course(
        model,
        _optimizer(optimizer, model.parameters(), learning_rate, weight_decay),
        epochs * count_batches(len(training), batch),
        torch.Generator().manual_seed(seed),
        Division(crew, note=note),
    )
    # Seeds differ between processes, or their dropout would not.
    with seeded(seed + crew.rank, compute.device):
        found = resumption.read() if resumption is not None and crew.leads else None
        if crew.size > 1:  # all start from the leader's weights, or from where it stopped
            found = crew.agree(packed(course.state(compute.device)) if found is None else found)
        if found is not None:
            course.restore(unpacked(found), compute.device, chance=crew.leads)
        if course.history:
            note(f"  goes on after epoch {len(course.history)} of {epochs}")
        for number in range(len(course.history) + 1, epochs + 1):
            if course.exhausted(patience):
                break
            loss = _epoch(course, training, batch, flip, compute, progress)
            crew.average_statistics(model)
            reached = None
            if validation is not None:
                # In float32, like everything that is measured; the leader's word is law.
                reached = crew.agree(accuracy(logits(model, validation, batch=batch), validation.labels))
            course.finish(Epoch(loss, reached), keep_best=patience is not None)
            note(_told(number, epochs, course.history[-1]))
            if resumption is not None and crew.leads:
                resumption.write(course.state(compute.device))
            if after_epoch is not None:
                with evaluating(model):
                    ended = crew.agree(after_epoch(number, model))
                if ended:
                    break
    if course.best is not None:
        model.load_state_dict(course.best["model"])
    compute.settle(model)
    model.eval()
    return Trained(
        tuple(course.history),
        kept=len(course.history) if course.best is None else course.best["epoch"],
        how="the last" if course.best is None else "best plain validation accuracy, of equals the earliest",
        compute=str(compute),
    )


class _Course:
    """A training under way: whatever changes in it, and must be kept to go on from there."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        iterations: int,
        generator: torch.Generator,
        division: Division,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.iterations = iterations
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(iterations, 1))
        self.generator = generator
        self.division = division
        self.done = 0
        self.history: list[Epoch] = []
        self.best: dict[str, Any] | None = None

    def finish(self, epoch: Epoch, *, keep_best: bool) -> None:
        """Take note of an epoch, and of the model if it is the best so far."""
        self.history.append(epoch)
        if keep_best and (self.best is None or epoch.validation > self.best["validation"]):
            self.best = {
                "epoch": len(self.history),
                "validation": epoch.validation,
                "model": copy.deepcopy(self.model.state_dict()),
            }

    def exhausted(self, patience: int | None) -> bool:
        """Whether `patience` epochs in a row were no better than the best."""
        if patience is None or self.best is None:
            return False
        return len(self.history) - int(self.best["epoch"]) >= patience

    def state(self, device: torch.device) -> dict[str, Any]:
        """Everything, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "order": self.generator.get_state(),
            "chance": torch.get_rng_state(),
            "chance_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            "parts": self.division.parts,
            "done": self.done,
            "history": [tuple(epoch) for epoch in self.history],
            "best": self.best,
        }

    def restore(self, state: dict[str, Any], device: torch.device, *, chance: bool) -> None:
        """Go back to a `state`; `chance` says whether torch's own generators do too."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["order"])
        self.division.parts = state["parts"]
        self.done = state["done"]
        self.history = [Epoch(*epoch) for epoch in state["history"]]
        self.best = state["best"]
        if chance:
            torch.set_rng_state(state["chance"])
            if device.type == "cuda" and state["chance_cuda"] is not None:
                torch.cuda.set_rng_state(state["chance_cuda"], device)


def _epoch(
    course: _Course,
    training: ImageSet,
    batch: int,
    flip: bool,
    compute: Compute,
    progress: Callable[[int, int], None] | None,
) -> float:
    """One pass over the training set; returns the mean cross-entropy."""
    model, generator, total = course.model.train(), course.generator, 0.0

    def cross_entropy(part: Part) -> Tensor:
        chosen, flipped = part.samples
        if not len(chosen):
            return torch.zeros(1, device=compute.device)
        images = images_on(training, chosen, compute.device)
        if flip:
            images = torch.where(flipped.to(images.device)[:, None, None, None], images.flip(3), images)
        images = compute.place(model, images)
        with compute.autocast():
            outputs = model(images)
        return (
            F.cross_entropy(outputs.float(), training.labels[chosen].to(compute.device))[None]
            * part.shares[0]
        )

    for chosen in in_batches(torch.randperm(len(training), generator=generator), batch):
        flipped = torch.rand(len(chosen), generator=generator) < 0.5 if flip else torch.zeros_like(chosen)
        (loss,) = course.division.backward(model, (chosen, flipped), cross_entropy).tolist()
        if not math.isfinite(loss):
            raise ModelError(
                f"the loss became {loss} in iteration {course.done + 1} of training; "
                "choose a smaller model.learning_rate"
            )
        # Before the step, which would spread what is not a number to every weight.
        if not finite_gradients(model):
            raise ModelError(
                f"the gradient is NaN or infinite in iteration {course.done + 1} of training, although the "
                f"loss is not; {UNDER_A_ROOT}, or choose a smaller model.learning_rate"
            )
        course.optimizer.step()
        course.schedule.step()
        course.done += 1
        total += loss * len(chosen)
        if progress is not None:
            progress(course.done, course.iterations)
    return total / len(training)


def _optimizer(
    name: Optimizer, parameters: Iterable[Tensor], learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(parameters, learning_rate, momentum=_MOMENTUM, weight_decay=weight_decay)
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(parameters, learning_rate, weight_decay=weight_decay)


def _told(number: int, epochs: int, epoch: Epoch) -> str:
    validation = "" if epoch.validation is None else f", validation accuracy {epoch.validation:.4f}"
    return f"  epoch {number} of {epochs}: cross-entropy {epoch.cross_entropy:.4f}{validation}"
