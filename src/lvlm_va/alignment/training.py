"""Fine-tuning with batches that mix alignment and training samples in the ratio I_a / I_s."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lvlm_va.alignment.rrr import parameter_norm, right_reasons
from lvlm_va.data.imageset import ImageSet
from lvlm_va.errors import ConfigError, ModelError
from lvlm_va.models.seeding import seeded

__all__ = ["AlignmentSet", "Epoch", "FineTuning", "fine_tune", "mixed_batches"]


class AlignmentSet(NamedTuple):
    """The critiqued pictures with their correction masks.

    Attributes:
        indices: (N,) int64 positions in the training set.
        masks: (N, H, W) correction masks A, bool or weights in [0, 1].
    """

    indices: Tensor
    masks: Tensor


@dataclass(frozen=True)
class FineTuning:
    """Settings of one fine-tuning; the units of `lam` and `gamma` are those of `alignment.rrr`.

    Attributes:
        lam: λ, weight of the right-reasons term.
        gamma: γ, weight of Σ θ².
        epochs: passes over the training set; one is N_train / I_s iterations.
        learning_rate: Adam's step size at the start.
        decay: "none" keeps the step size, "cosine" lets it fall to zero over the fine-tuning.
        training_batch: I_s, training samples a batch.
        alignment_batch: I_a, alignment samples a batch.
        jitter: standard deviation σ of fresh Gaussian noise on every alignment sample, in units of the
            pixel range. An alignment sample is seen hundreds of times: without noise the model learns to
            have a small gradient at just these N points.
        seed: of the order of the samples, the jitter and the model's own randomness (dropout).
    """

    lam: float
    gamma: float = 0.0
    epochs: int = 10
    learning_rate: float = 1e-3
    decay: str = "none"
    training_batch: int = 64
    alignment_batch: int = 64
    jitter: float = 0.0
    seed: int = 0


class Epoch(NamedTuple):
    """What one epoch cost: means over its iterations, unweighted."""

    cross_entropy: float
    right_reasons: float
    parameter_norm: float


def mixed_batches(
    training: int, alignment: int, settings: FineTuning, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of index pairs: I_s of 0..training−1 and I_a of 0..alignment−1.

    Training samples come in random order, each once; an incomplete last batch is kept. Alignment samples
    are drawn as shuffled decks, so that over-sampling shows each as often as any other (±1).
    """
    iterations = -(-training // settings.training_batch)
    needed = iterations * settings.alignment_batch
    if alignment:
        decks = [torch.randperm(alignment, generator=generator) for _ in range(-(-needed // alignment))]
        deck = torch.split(torch.cat(decks)[:needed], settings.alignment_batch)
    order = torch.split(torch.randperm(training, generator=generator), settings.training_batch)
    for step in range(iterations):
        yield order[step], deck[step] if alignment else torch.empty(0, dtype=torch.int64)


def fine_tune(
    model: nn.Module,
    training: ImageSet,
    alignment: AlignmentSet,
    settings: FineTuning,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[nn.Module, list[Epoch]]:
    """Right-for-the-right-reasons fine-tuning (Sec. 4.3) of a copy of the model.

    The second backward pass runs through the alignment samples only, unless batch normalisation ties the
    samples of a batch together.

    Args:
        model: maps (n, C, H, W) in [0, 1] to (n, K) outputs; it is not changed.
        training: the training set.
        alignment: critiqued pictures and their masks. An empty one leaves plain fine-tuning.
        settings: see `FineTuning`.
        progress: called with (iterations done, iterations in all).

    Returns:
        The aligned copy, in evaluation mode, and one `Epoch` per epoch.

    Raises:
        ModelError: if nothing in the model can be trained, or the loss stops being finite (λ too large, as
            a rule).
    """
    if settings.decay not in ("cosine", "none"):
        raise ConfigError(f"align.decay is {settings.decay!r}; it must be cosine or none")
    if not any(p.requires_grad for p in model.parameters()):
        raise ModelError("no parameter of the model requires a gradient; unfreeze what is to be aligned")
    device = next(model.parameters()).device
    with seeded(settings.seed, device):
        return _fine_tune(model, training, alignment, settings, device, progress)


def _fine_tune(
    model: nn.Module,
    training: ImageSet,
    alignment: AlignmentSet,
    settings: FineTuning,
    device: torch.device,
    progress: Callable[[int, int], None] | None,
) -> tuple[nn.Module, list[Epoch]]:
    aligned = copy.deepcopy(model).train()
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.Adam(aligned.parameters(), lr=settings.learning_rate, fused=True)
    iterations = settings.epochs * -(-len(training) // settings.training_batch)
    schedule = (
        torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(iterations, 1))
        if settings.decay == "cosine"
        else None
    )
    alignment_images = training.images(alignment.indices).to(device)
    alignment_labels = training.labels[alignment.indices].to(device)
    masks = alignment.masks.to(device)

    history = []
    done = 0
    for _ in range(settings.epochs):
        sums = torch.zeros(3, device=device)
        batches = 0
        for chosen, critiqued in mixed_batches(len(training), len(alignment.indices), settings, generator):
            samples = alignment_images[critiqued]
            if settings.jitter > 0:
                noise = torch.randn(samples.shape, generator=generator)
                samples = samples + settings.jitter * noise.to(device)
            images = torch.cat([samples, training.images(chosen).to(device)])
            labels = torch.cat([alignment_labels[critiqued], training.labels[chosen].to(device)])
            terms = _terms(aligned, images, labels, masks[critiqued], settings)
            loss = terms[0] + settings.lam * terms[1] + settings.gamma * terms[2]
            if not torch.isfinite(loss):
                raise ModelError(
                    f"the loss became {loss.item()} in iteration {done + 1} of fine-tuning with "
                    f"λ = {settings.lam:g}; choose a smaller align.lambda or align.learning_rate"
                )
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            if schedule is not None:
                schedule.step()
            sums += torch.stack([t.detach() for t in terms])
            batches += 1
            done += 1
            if progress is not None:
                progress(done, iterations)
        history.append(Epoch(*(sums / batches).tolist()))
    return aligned.eval(), history


def _terms(
    model: nn.Module, images: Tensor, labels: Tensor, masks: Tensor, settings: FineTuning
) -> tuple[Tensor, Tensor, Tensor]:
    """The three terms of the loss, unweighted; the first len(masks) images are the alignment samples."""
    n = len(masks)
    zero = images.new_zeros(())
    penalised = n > 0 and settings.lam > 0
    critiqued = images[:n].detach().requires_grad_(penalised)
    if _mixes_samples(model):
        # Batch normalisation must see the mixed batch as a whole.
        outputs: Tensor = model(torch.cat([critiqued, images[n:]]))
    else:
        # Apart, so that the second backward pass runs through the alignment samples only.
        outputs = torch.cat([model(part) for part in (critiqued, images[n:]) if len(part)])
    log_probabilities = F.log_softmax(outputs.float(), 1)
    reasons = right_reasons(log_probabilities[:n], critiqued, masks).mean() if penalised else zero
    norm = parameter_norm(model) if settings.gamma > 0 else zero
    return F.nll_loss(log_probabilities, labels), reasons, norm


def _mixes_samples(model: nn.Module) -> bool:
    """Whether, in training, a sample's output depends on the others in its batch."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
