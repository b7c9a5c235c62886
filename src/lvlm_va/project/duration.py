"""How long the alignment of a project will take, from two small steps of it that are timed."""

import time

import torch
from torch import nn

from lvlm_va.alignment.fine_tune import AlignmentSet, FineTuning, fine_tune
from lvlm_va.config.schema import Config
from lvlm_va.data.imageset import ArrayImageSet
from lvlm_va.data.splits import Splits
from lvlm_va.project.stages.trial import fine_tuning
from lvlm_va.training.batches import count_batches
from lvlm_va.training.process_group import ProcessGroup

__all__ = ["alignment_samples", "seconds_a_sample"]

_FEW = 4  # training samples of a timed step
_FORWARD = 1 / 3
"""A prediction in units of a sample of fine-tuning, which goes forward once and back about twice as long."""


def seconds_a_sample(model: nn.Module, splits: Splits, config: Config) -> float:
    """Seconds for one sample of fine-tuning: the second of two steps, when everything is set up.

    Args:
        model: as it will be aligned, on its device; it is copied.
        splits: the images.
        config: the settings; the step has their mix of samples and their largest λ.
    """
    settings = config.align
    training = splits.train
    some = torch.arange(min(_FEW, len(training))).repeat(2)
    images = ArrayImageSet(
        training.images(some), training.labels[some], list(map(str, range(len(some)))), training.class_names
    )
    n = len(some) // 2
    mixed = max(1, round(n * settings.alignment_batch / settings.training_batch))
    masks = torch.zeros(n, *images.pixels.shape[2:], dtype=torch.bool)
    masks[:, : masks.shape[1] // 2] = True
    recipe = {"epochs": 1, "training_batch": n, "alignment_batch": mixed}
    tuning = FineTuning(**vars(fine_tuning(config, max(settings.lam))) | recipe)
    moments: list[float] = []
    fine_tune(
        model,
        images,
        AlignmentSet(torch.arange(n), masks, torch.zeros(n, dtype=torch.int64)),
        tuning,
        progress=lambda *_: moments.append(time.perf_counter()),
        group=ProcessGroup(),
    )
    return (
        (moments[-1] - moments[0]) / (len(moments) - 1) / (n + mixed + _drawn(tuning.counterfactual, mixed))
    )


def alignment_samples(config: Config, splits: Splits) -> float:
    """How many samples of fine-tuning the alignment comes to: all λ, and the validation set in between."""
    settings, training = config.align, len(splits.train)
    extra = settings.alignment_batch + _drawn(settings.counterfactual, settings.alignment_batch)
    steps = settings.epochs * count_batches(training, settings.training_batch)
    tuned = settings.epochs * training + steps * extra
    # As they are, and with condemned segments put in; after each epoch, and at the end.
    scored = 0 if splits.validation is None else 2 * len(splits.validation)
    times = 1 + (settings.epochs if settings.keep == "best" else 0)
    masks = 1
    if config.evaluate.bounds and splits.train.spurious_masks(torch.tensor([0])) is not None:
        masks = 2  # the oracle's, too
    return masks * len(settings.lam) * (tuned + _FORWARD * times * scored)


def _drawn(weight: float, batch: int) -> int:
    """Counterfactual samples of a batch."""
    return batch if weight > 0 else 0
