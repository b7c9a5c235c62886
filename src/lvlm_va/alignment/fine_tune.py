"""Fine-tuning with batches that mix alignment and training samples in the ratio I_a / I_s.

    L = CE + λ · right reasons + γ · Σ θ² + κ · CE of counterfactual images

The units of λ and γ are those of `alignment.rrr`; κ weighs one mean cross-entropy against another.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from lvlm_va.alignment.counterfactuals import Counterfactuals
from lvlm_va.alignment.rrr import parameter_norm, right_reasons
from lvlm_va.data.held import HeldImages, hold
from lvlm_va.data.imageset import ImageSet, images_on
from lvlm_va.data.labels import several_labels
from lvlm_va.errors import ConfigError, ModelError
from lvlm_va.models.compute import Compute, Precision, choose_compute
from lvlm_va.models.copying import copied
from lvlm_va.models.likelihood import Likelihood
from lvlm_va.models.memory import preferably_on
from lvlm_va.training import loop
from lvlm_va.training.batches import count_batches, in_batches
from lvlm_va.training.loop import UNDER_A_ROOT, Score, Step, finite_gradients
from lvlm_va.training.micro_batching import MicroBatching, Part
from lvlm_va.training.process_group import ProcessGroup
from lvlm_va.training.resumption import Resumption

__all__ = ["AlignmentSet", "Epoch", "FineTuning", "fine_tune", "mixed_batches"]


class AlignmentSet(NamedTuple):
    """The critiqued images with their correction masks.

    Attributes:
        indices: (N,) int64 positions in the training set.
        masks: (N, H, W) correction masks A, bool or weights in [0, 1].
        explained: (N,) int64, of images with several labels the one that each mask is about; else not needed.
    """

    indices: Tensor
    masks: Tensor
    explained: Tensor | None = None


@dataclass(frozen=True)
class FineTuning:
    """Settings of one fine-tuning; the units of `lam` and `gamma` are those of `alignment.rrr`.

    Attributes:
        lam: λ, weight of the right-reasons term.
        gamma: γ, weight of Σ θ².
        counterfactual: κ, weight of the cross-entropy of counterfactual images (see
            `alignment.counterfactuals`), I_a of them a batch; 0 is the paper.
        epochs: passes over the training set; one is N_train / I_s iterations.
        learning_rate: Adam's step size at the start.
        decay: "none" keeps the step size, "cosine" lets it fall to zero over the fine-tuning.
        training_batch: I_s, training samples a batch.
        alignment_batch: I_a, alignment samples a batch.
        jitter: standard deviation σ of fresh Gaussian noise on every alignment sample, in units of the
            pixel range. An alignment sample is seen hundreds of times: without noise the model learns to
            have a small gradient at just these N points.
        statistics: whether batch normalisation uses and updates the statistics of each batch ("batch") or
            keeps those it has ("frozen"); frozen ones make the right-reasons term cheaper, since samples of a
            batch then no longer depend on each other.
        precision: of convolutions and matrix products, see `models.compute`.
        seed: of the order of the samples, the jitter and the model's own randomness (dropout).
    """

    lam: float
    gamma: float = 0.0
    counterfactual: float = 0.0
    epochs: int = 10
    learning_rate: float = 1e-3
    decay: str = "none"
    training_batch: int = 64
    alignment_batch: int = 64
    jitter: float = 0.0
    statistics: Literal["batch", "frozen"] = "batch"
    precision: Precision = "auto"
    seed: int = 0


class Epoch(NamedTuple):
    """One epoch: what it cost (means over its iterations, unweighted), and the score after it, if judged."""

    cross_entropy: float
    right_reasons: float
    parameter_norm: float
    counterfactual: float = 0.0
    score: Score | None = None


def mixed_batches(
    training: int, alignment: int, settings: FineTuning, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of index pairs: I_s of 0..training−1 and I_a of 0..alignment−1.

    Training samples come in random order, each once; an incomplete last batch is kept, and a single last
    sample joins the batch before it. Alignment samples are drawn as shuffled decks, so that over-sampling
    shows each as often as any other (±1).
    """
    iterations = count_batches(training, settings.training_batch)
    needed = iterations * settings.alignment_batch
    if alignment:
        decks = [torch.randperm(alignment, generator=generator) for _ in range(-(-needed // alignment))]
        deck = torch.split(torch.cat(decks)[:needed], settings.alignment_batch)
    order = in_batches(torch.randperm(training, generator=generator), settings.training_batch)
    for step in range(iterations):
        yield order[step], deck[step] if alignment else torch.empty(0, dtype=torch.int64)


def fine_tune(
    model: nn.Module,
    training: ImageSet,
    alignment: AlignmentSet,
    settings: FineTuning,
    *,
    judge: Callable[[nn.Module], Score] | None = None,
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] = lambda _: None,
    resumption: Resumption | None = None,
    group: ProcessGroup | None = None,
) -> tuple[nn.Module, list[Epoch]]:
    """Right-for-the-right-reasons fine-tuning (Sec. 4.2) of a copy of the model.

    The second backward pass runs through the alignment samples only, unless batch normalisation ties the
    samples of a batch together.

    Where several processes were launched, all call this and each computes its part of every batch, starting
    from the main one's weights; the result is that of one process if batch normalisation is frozen or
    absent. The same holds where memory runs out and a batch is done in parts.

    Args:
        model: maps (n, C, H, W) in [0, 1] to (n, K) outputs; it is not changed.
        training: the training set.
        alignment: critiqued images and their masks. An empty one leaves plain fine-tuning.
        settings: see `FineTuning`.
        judge: scores the model, in evaluation mode, after every epoch; the best epoch is kept, of equals the
            first. Without it the last epoch is.
        progress: called with (iterations done, iterations in all).
        note: told, in one sentence, when memory ran out.
        resumption: where the state is kept after each epoch, and found again. The caller removes it.
        group: the processes that train together; all that were launched if not given.

    Returns:
        The aligned copy, in evaluation mode, and one `Epoch` per epoch.

    Raises:
        ModelError: if nothing in the model can be trained, it cannot be copied, the loss or its gradient
            stops being finite, or memory does not suffice for a single sample.
    """
    if settings.decay not in ("cosine", "none"):
        raise ConfigError(f"align.decay is {settings.decay!r}; it must be cosine or none")
    if settings.statistics not in ("batch", "frozen"):
        raise ConfigError(f"align.statistics is {settings.statistics!r}; it must be batch or frozen")
    if not any(p.requires_grad for p in model.parameters()):
        raise ModelError("no parameter of the model requires a gradient; unfreeze what is to be aligned")
    if several_labels(training.labels) and alignment.explained is None and len(alignment.indices):
        raise ConfigError(
            "images have several labels, so the alignment set must say which of them each mask is about: "
            "AlignmentSet(indices, masks, explained)"
        )
    aligned = copied(model)
    compute = choose_compute(aligned, settings.precision)
    optimizer = torch.optim.Adam(aligned.parameters(), lr=settings.learning_rate, fused=True)
    iterations = settings.epochs * count_batches(len(training), settings.training_batch)
    cosine = settings.decay == "cosine"
    running = loop.Loop(
        model=aligned,
        steps=_steps(aligned, training, alignment, settings, compute, note),
        epochs=settings.epochs,
        iterations=iterations,
        optimizer=optimizer,
        schedule=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(iterations, 1))
        if cosine
        else None,
        compute=compute,
        micro_batching=MicroBatching(group or ProcessGroup.here(), note=note),
        seed=settings.seed,
        check=partial(_require_finite, aligned, settings),
        to_training_mode=partial(_to_training_mode, settings=settings),
        judge=judge,
        keep_best=judge is not None,
        resumption=resumption,
        progress=progress,
        note=note,
    )
    weights = _weights(settings)
    history = []
    for epoch in running.run():
        ce, reasons, norm, others = (
            t / w if w > 0 else 0.0 for t, w in zip(epoch.terms, weights, strict=True)
        )
        history.append(Epoch(ce, reasons, norm, others, epoch.score))
    return aligned, history


def _steps(
    model: nn.Module,
    training: ImageSet,
    alignment: AlignmentSet,
    settings: FineTuning,
    compute: Compute,
    note: Callable[[str], None],
) -> Callable[[torch.Generator], Iterator[Step]]:
    """The mixed batches of an epoch; the alignment samples are gathered once."""

    def gather(home: torch.device) -> tuple[HeldImages, Tensor, Tensor, Counterfactuals | None]:
        images = hold(training, alignment.indices, home)
        labels, masks = training.labels[alignment.indices].to(home), alignment.masks.to(home)
        if not settings.counterfactual > 0:
            return images, labels, masks, None
        others = Counterfactuals.of_set(
            training, alignment.indices, alignment.masks, home, alignment.explained
        )
        return images, labels, masks, others

    # Seen hundreds of times, so they stay where the model is.
    alignment_images, alignment_labels, masks, counterfactuals = preferably_on(compute.device, gather, note)
    home = alignment_images.device
    explained = torch.zeros_like(alignment.indices) if alignment.explained is None else alignment.explained

    def steps(generator: torch.Generator) -> Iterator[Step]:
        for chosen, critiqued in mixed_batches(len(training), len(alignment.indices), settings, generator):
            samples, labels = alignment_images[critiqued], alignment_labels[critiqued]
            if settings.jitter > 0:
                noise = torch.randn(samples.shape, generator=generator)
                samples = samples + settings.jitter * noise.to(home)
            images, targets = images_on(training, chosen, home), training.labels[chosen].to(home)
            others, other_labels = images[:0], targets[:0]
            if counterfactuals is not None:
                others, other_labels = counterfactuals.draw(
                    images, targets, settings.alignment_batch, generator
                )
            yield Step(
                (
                    samples,
                    labels,
                    masks[critiqued],
                    explained[critiqued],
                    images,
                    targets,
                    others,
                    other_labels,
                ),
                partial(_weighted, model, compute, settings, len(samples) + len(images)),
            )

    return steps


def _require_finite(model: nn.Module, settings: FineTuning, terms: Tensor, iteration: int) -> None:
    """Refuse a step whose loss or gradient is no number: by which derivative it comes to that."""
    loss = terms.sum()
    where = f"in iteration {iteration} of fine-tuning with λ = {settings.lam:g}"
    smaller = "choose a smaller align.lambda or align.learning_rate"
    if bool(torch.isnan(terms[1])) and bool(torch.isfinite(terms[0])):
        raise ModelError(
            f"the derivative of the model's answers with respect to the image is NaN {where}; {UNDER_A_ROOT}"
        )
    if not bool(torch.isfinite(loss)):
        raise ModelError(f"the loss became {loss.item()} {where}; {smaller}")
    if not finite_gradients(model):
        # No λ is to blame: the smallest would not help.
        second = "the second derivative of the model" if settings.lam > 0 else "the gradient"
        raise ModelError(f"{second} is NaN or infinite {where}, although the loss is not; {UNDER_A_ROOT}")


def _weights(settings: FineTuning) -> tuple[float, float, float, float]:
    """Of the four terms of the loss."""
    return 1.0, settings.lam, settings.gamma, settings.counterfactual


def _weighted(model: nn.Module, compute: Compute, settings: FineTuning, ordinary: int, part: Part) -> Tensor:
    """(4,) the terms of one part of a step with `ordinary` alignment and training samples, weighted."""
    samples, labels, masks, explained, images, targets, others, other_labels = part.samples
    terms = _terms(
        model,
        compute,
        torch.cat([samples, images, others]),
        torch.cat([labels, targets, other_labels]).to(compute.device),
        masks.to(compute.device),
        explained.to(compute.device),
        len(others),
        settings,
    )
    shares = ((len(samples) + len(images)) / ordinary, part.shares[0], part.fraction, part.shares[6])
    weighted = zip(_weights(settings), shares, terms, strict=True)
    # A weight of 0 is left out: 0 · ∞ is not a number.
    return torch.stack([w * share * term if w > 0 else torch.zeros_like(term) for w, share, term in weighted])


def _terms(
    model: nn.Module,
    compute: Compute,
    images: Tensor,
    labels: Tensor,
    masks: Tensor,
    explained: Tensor,
    counterfactual: int,
    settings: FineTuning,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four terms of the loss, unweighted; 0 where there is no sample for one.

    The images are the len(masks) alignment samples, then training samples, last `counterfactual` others.
    """
    n, ordinary = len(masks), len(labels) - counterfactual
    penalised = n > 0 and settings.lam > 0
    placed = compute.place(model, images, twice=penalised)
    critiqued = placed[:n].detach().requires_grad_(penalised)
    with compute.autocast():
        if settings.statistics == "batch" and _mixes_samples(model):
            # Batch normalisation must see the mixed batch as a whole.
            passes = [torch.cat([critiqued, placed[n:]])]
        else:
            # Apart, so that the second backward pass runs through the alignment samples only.
            # A copy, since a model may begin with an in-place operation, which no leaf allows.
            passes = [critiqued.clone(), placed[n:]]
        outputs = [model(part).float() for part in passes if len(part)]
    likelihood = Likelihood.of(labels)
    logits = torch.cat(outputs) if outputs else placed.new_zeros(0, 1)
    zero = logits.new_zeros(())
    reasons = zero
    if penalised:
        log_probabilities = likelihood.log_probabilities(logits[:n], explained)
        reasons = right_reasons(log_probabilities, critiqued, masks).mean()
    return (
        likelihood.loss(logits[:ordinary], labels[:ordinary]) if ordinary else zero,
        reasons,
        parameter_norm(model) if settings.gamma > 0 else zero,
        likelihood.loss(logits[ordinary:], labels[ordinary:]) if counterfactual else zero,
    )


def _to_training_mode(model: nn.Module, settings: FineTuning) -> None:
    model.train()
    if settings.statistics == "frozen":
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def _mixes_samples(model: nn.Module) -> bool:
    """Whether, in training, a sample's output depends on the others in its batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
