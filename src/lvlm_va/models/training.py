"""Ordinary training from scratch: cross-entropy, Adam, cosine decay."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from lvlm_va.data.imageset import ImageSet
from lvlm_va.errors import ModelError
from lvlm_va.models.seeding import seeded

__all__ = ["train"]


def train(
    model: nn.Module,
    training: ImageSet,
    *,
    epochs: int,
    batch: int = 128,
    learning_rate: float = 1e-3,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> float:
    """Train `model` in place and leave it in evaluation mode.

    Args:
        model: maps (n, C, H, W) in [0, 1] to (n, K) outputs.
        training: the training set.
        epochs: passes over it.
        batch: pictures an iteration.
        learning_rate: Adam's step size at the start; it falls to zero as a half cosine.
        seed: of the order of the pictures and the model's own randomness (dropout); initial weights are
            the caller's.
        progress: called with (iterations done, iterations in all).

    Returns:
        Mean cross-entropy of the last epoch, in nats.

    Raises:
        ModelError: if the loss stops being finite.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    iterations = epochs * -(-len(training) // batch)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(iterations, 1))
    model.train()
    done, mean = 0, float("nan")
    with seeded(seed, device):
        for _ in range(epochs):
            total = 0.0
            for chosen in torch.split(torch.randperm(len(training), generator=generator), batch):
                outputs = model(training.images(chosen).to(device))
                loss = F.cross_entropy(outputs, training.labels[chosen].to(device))
                if not torch.isfinite(loss):
                    raise ModelError(
                        f"the loss became {loss.item()} in iteration {done + 1} of training; "
                        "choose a smaller model.learning_rate"
                    )
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                optimizer.step()
                schedule.step()
                total += float(loss.detach()) * len(chosen)
                done += 1
                if progress is not None:
                    progress(done, iterations)
            mean = total / len(training)
    model.eval()
    return mean
