"""Ordinary training, from scratch or from pretrained weights: cross-entropy and a step size that falls."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from lvlm_va.data.imageset import ImageSet, images_on
from lvlm_va.errors import ConfigError, ModelError
from lvlm_va.evaluate.accuracy import accuracy
from lvlm_va.models.compute import Compute, Precision, choose_compute
from lvlm_va.models.likelihood import Likelihood
from lvlm_va.models.predict import logits
from lvlm_va.training import loop
from lvlm_va.training.batches import count_batches, in_batches
from lvlm_va.training.loop import UNDER_A_ROOT, Score, Step, finite_gradients
from lvlm_va.training.micro_batching import MicroBatching, Part
from lvlm_va.training.process_group import ProcessGroup
from lvlm_va.training.resumption import Resumption

__all__ = ["Epoch", "Optimizer", "Trained", "train"]

Optimizer = Literal["adam", "adamw", "sgd"]

_MOMENTUM = 0.9


class Epoch(NamedTuple):
    """What one epoch came to.

    Attributes:
        cross_entropy: mean over the training images as they were met, in nats.
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
        scores: the score after each epoch, where epochs were scored.
    """

    epochs: tuple[Epoch, ...]
    kept: int
    how: str
    compute: str
    scores: tuple[Score, ...] = ()

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
    judge: Callable[[nn.Module], Score] | None = None,
    seed: int = 0,
    resumption: Resumption | None = None,
    after_epoch: Callable[[int, nn.Module], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] = lambda _: None,
    group: ProcessGroup | None = None,
) -> Trained:
    """Train `model` in place by cross-entropy, and leave it in evaluation mode.

    Where several processes were launched, all call this with the same arguments, see `training.loop`.

    Args:
        model: maps (n, C, H, W) in [0, 1] to (n, K) outputs; it starts from the weights it has, and what does
            not require a gradient stays.
        training: the training set.
        epochs: passes over it.
        batch: images an iteration; a last one that would be alone joins the iteration before it. Where memory
            does not suffice, an iteration is done in parts.
        learning_rate: step size at the start; it falls to zero as a half cosine.
        optimizer: "adam", "adamw" (decay apart from the gradient), or "sgd" with a momentum of 0.9.
        weight_decay: of all trainable parameters: added to the gradient as weight_decay · θ (adam, sgd), or
            taken from θ in proportion to the step size (adamw).
        precision: see `choose_compute`.
        flip: mirror each image left to right with a probability of ½.
        validation: measured after each epoch.
        patience: stop after so many epochs in a row without a better validation accuracy, and keep the best
            epoch; None trains to the end and keeps the last.
        judge: scores the model, in evaluation mode, after every epoch in place of the validation accuracy;
            the best epoch is kept, of equals the first.
        seed: of the order of the images, their flips, and the model's own randomness (dropout); initial
            weights are the caller's.
        resumption: where the state is kept after each epoch, and found again. The caller removes it.
        after_epoch: called with the number of each epoch, from 1, and the model in evaluation mode, once the
            epoch is done (not again after a resumption); True ends the training there.
        progress: called with (iterations done, iterations in all).
        note: told about epochs and whatever else is worth a line.
        group: the processes that train together; all that were launched if not given.

    Raises:
        ConfigError: if `patience` is given without a validation set.
        ModelError: if nothing in the model can be trained, the loss or its gradient stops being finite, or
            memory does not suffice for a single image.
    """
    if patience is not None and validation is None:
        raise ConfigError("model.patience needs a validation set; leave it out to train to the end")
    if not any(p.requires_grad for p in model.parameters()):
        raise ModelError("no parameter of the model requires a gradient; unfreeze what is to be trained")
    compute = choose_compute(model, precision)
    iterations = epochs * count_batches(len(training), batch)
    sgd = _optimizer(optimizer, model.parameters(), learning_rate, weight_decay)

    def steps(generator: torch.Generator) -> Iterator[Step]:
        loss = partial(_cross_entropy, model, training, compute, flip)
        for chosen in in_batches(torch.randperm(len(training), generator=generator), batch):
            flipped = torch.rand(len(chosen), generator=generator) < 0.5 if flip else torch.zeros_like(chosen)
            yield Step((chosen, flipped), loss, weight=len(chosen))

    def accurate(candidate: nn.Module) -> Score:
        assert validation is not None
        # In float32, like everything that is measured.
        return (accuracy(logits(candidate, validation, batch=batch), validation.labels),)

    def tell(number: int, epoch: loop.Epoch) -> None:
        note(_told(number, epochs, epoch.terms[0], epoch.score, judged=judge is not None))

    running = loop.Loop(
        model=model,
        steps=steps,
        epochs=epochs,
        iterations=iterations,
        optimizer=sgd,
        schedule=torch.optim.lr_scheduler.CosineAnnealingLR(sgd, max(iterations, 1)),
        compute=compute,
        micro_batching=MicroBatching(group or ProcessGroup.here(), note=note),
        seed=seed,
        check=partial(_require_finite, model),
        judge=accurate if judge is None and validation is not None else judge,
        keep_best=patience is not None or judge is not None,
        patience=patience,
        after_epoch=after_epoch,
        resumption=resumption,
        progress=progress,
        tell=tell,
        note=note,
    )
    history = running.run()
    best = "best score on validation" if judge is not None else "best plain validation accuracy"
    return Trained(
        tuple(
            Epoch(epoch.terms[0], epoch.score[0] if judge is None and epoch.score is not None else None)
            for epoch in history
        ),
        kept=running.kept,
        how=f"{best}, of equals the earliest" if running.keep_best else "the last",
        compute=str(compute),
        scores=tuple(epoch.score for epoch in history if epoch.score is not None),
    )


def _cross_entropy(model: nn.Module, training: ImageSet, compute: Compute, flip: bool, part: Part) -> Tensor:
    """(1,) the cross-entropy of a part of a step."""
    chosen, flipped = part.samples
    if not len(chosen):
        return torch.zeros(1, device=compute.device)
    images = images_on(training, chosen, compute.device)
    if flip:
        images = torch.where(flipped.to(images.device)[:, None, None, None], images.flip(3), images)
    images = compute.place(model, images)
    with compute.autocast():
        outputs = model(images)
    labels = training.labels[chosen].to(compute.device)
    loss = Likelihood.of(labels).loss(outputs.float(), labels)
    return loss[None] * part.shares[0]


def _require_finite(model: nn.Module, terms: Tensor, iteration: int) -> None:
    """Refuse a step whose loss or gradient is no number."""
    loss = float(terms.sum())
    if not math.isfinite(loss):
        raise ModelError(
            f"the loss became {loss} in iteration {iteration} of training; choose a smaller "
            "model.learning_rate"
        )
    if not finite_gradients(model):
        raise ModelError(
            f"the gradient is NaN or infinite in iteration {iteration} of training, although the loss is "
            f"not; {UNDER_A_ROOT}, or choose a smaller model.learning_rate"
        )


def _optimizer(
    name: Optimizer, parameters: Iterable[Tensor], learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    if name == "sgd":
        return torch.optim.SGD(parameters, learning_rate, momentum=_MOMENTUM, weight_decay=weight_decay)
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    return kind(parameters, learning_rate, weight_decay=weight_decay)


def _told(number: int, epochs: int, cross_entropy: float, score: Score | None, *, judged: bool) -> str:
    text = f"  epoch {number} of {epochs}: cross-entropy {cross_entropy:.4f}"
    if score is None:
        return text
    if judged:
        return f"{text}, score {', '.join(f'{value:.4f}' for value in score)}"
    return f"{text}, validation accuracy {score[0]:.4f}"
