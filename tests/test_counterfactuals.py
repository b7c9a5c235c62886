"""Counterfactual images: what changes, what stays, and that training with them moves a real shortcut."""

import dataclasses

import pytest
import torch
from torch import nn

from lvlm_va.alignment.counterfactuals import Counterfactuals
from lvlm_va.alignment.fine_tune import AlignmentSet, FineTuning, fine_tune
from lvlm_va.data.imageset import ArrayImageSet
from lvlm_va.errors import ConfigError
from lvlm_va.evaluate.accuracy import accuracy
from lvlm_va.models.predict import logits
from lvlm_va.training.train import train

SIDE = 16


def corner_masks(n: int) -> torch.Tensor:
    masks = torch.zeros(n, SIDE, SIDE, dtype=torch.bool)
    masks[:, :4, :4] = True
    return masks


def test_what_is_masked_goes_and_the_rest_stays() -> None:
    images = torch.rand(3, 3, SIDE, SIDE)
    masks = corner_masks(3)
    images[:, :, :4, :4] += 5  # nothing around it suggests such values
    made = Counterfactuals.of(images, torch.tensor([0, 1, 2]), masks)
    assert made.without[:, :, :4, :4].max() <= 1
    assert torch.equal(made.without[:, :, 5:], images[:, :, 5:])
    assert made.labels.tolist() == [0, 1, 2]

    recipients = torch.rand(2, 3, SIDE, SIDE)
    pasted = made.pasted(recipients, torch.tensor([2, 0]))
    assert torch.equal(pasted[:, :, :4, :4], images[[2, 0], :, :4, :4])
    assert torch.equal(pasted[:, :, 5:, :], recipients[:, :, 5:, :])
    assert torch.equal(pasted[:, :, :, 5:], recipients[:, :, :, 5:])


def test_empty_and_overlarge_masks_are_left_out() -> None:
    masks = corner_masks(4)
    masks[1] = False
    masks[2, :, :5] = True
    made = Counterfactuals.of(torch.rand(4, 1, SIDE, SIDE), torch.arange(4), masks)
    assert made.labels.tolist() == [0, 3]
    nothing = Counterfactuals.of(torch.rand(1, 1, SIDE, SIDE), torch.tensor([0]), torch.zeros(1, SIDE, SIDE))
    assert len(nothing) == 0
    images, labels = nothing.draw(torch.rand(5, 1, SIDE, SIDE), torch.arange(5), 4, torch.Generator())
    assert len(images) == len(labels) == 0


def test_a_draw_keeps_each_image_with_its_own_class() -> None:
    # The class is written into a pixel far from the mask.
    images = torch.rand(6, 1, SIDE, SIDE) / 2
    labels = torch.tensor([0, 1, 2, 3, 4, 5])
    images[:, 0, -1, -1] = labels / 10
    made = Counterfactuals.of(images[:3], labels[:3], corner_masks(3))
    drawn, classes = made.draw(images[3:], labels[3:], 20, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn[:, 0, -1, -1], classes / 10)
    assert set(classes[:10].tolist()) <= {0, 1, 2}
    assert set(classes[10:].tolist()) <= {3, 4, 5}


def shortcut(n: int, seed: int, *, biased: bool) -> ArrayImageSet:
    """A faint bar, upright or lying, tells the class; in a biased set a bright corner tells it, too."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    pixels = 0.5 + 0.15 * torch.randn(n, 1, SIDE, SIDE, generator=generator)
    bar = torch.randint(6, 14, (n,), generator=generator)
    for i in range(n):
        if labels[i]:
            pixels[i, 0, 5:, bar[i]] += 0.25
        else:
            pixels[i, 0, bar[i], 5:] += 0.25
    tagged = labels == 1 if biased else torch.rand(n, generator=generator) < 0.5
    pixels[tagged, 0, :4, :4] = 1.0
    spurious = corner_masks(n) & tagged[:, None, None]
    return ArrayImageSet(
        pixels.clamp(0, 1), labels, [str(i) for i in range(n)], ("lying", "upright"), spurious
    )


def test_training_with_them_frees_a_model_of_its_shortcut_and_plain_training_does_not() -> None:
    training, test = shortcut(400, 0, biased=True), shortcut(400, 1, biased=False)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 5),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(4),
        nn.Flatten(),
        nn.Linear(256, 2),
    )
    train(model, training, epochs=4, batch=32)
    indices = torch.arange(64)
    truth = training.spurious_masks(indices)
    assert truth is not None
    settings = FineTuning(lam=0.0, epochs=4, training_batch=32, alignment_batch=32, precision="float32")

    def after(settings: FineTuning) -> float:
        tuned, _ = fine_tune(model, training, AlignmentSet(indices, truth), settings)
        return accuracy(logits(tuned, test), test.labels)

    plain = after(settings)
    freed = after(dataclasses.replace(settings, counterfactual=1.0))
    assert plain < 0.75
    assert freed > plain + 0.15


def test_frozen_statistics_stay_to_the_bit_and_others_move() -> None:
    training = shortcut(64, 0, biased=True)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 14 * 14, 2))
    alignment = AlignmentSet(torch.arange(8), corner_masks(8))
    for statistics, moved in (("frozen", False), ("batch", True)):
        settings = FineTuning(lam=1.0, epochs=1, statistics=statistics, training_batch=16, alignment_batch=8)
        tuned, _ = fine_tune(model, training, alignment, settings)
        assert torch.equal(tuned[1].running_mean, model[1].running_mean) is not moved
        assert not torch.equal(tuned[1].weight, model[1].weight)
    with pytest.raises(ConfigError, match="must be batch or frozen"):
        fine_tune(model, training, alignment, FineTuning(lam=1.0, statistics="still"))  # type: ignore[arg-type]


def test_the_best_epoch_is_kept_of_equals_the_first() -> None:
    training = shortcut(32, 0, biased=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 2))
    alignment = AlignmentSet(torch.empty(0, dtype=torch.int64), torch.zeros(0, SIDE, SIDE))
    settings = FineTuning(lam=0.0, epochs=4, training_batch=8)
    seen: list[torch.Tensor] = []
    scores = iter([(0.5, 1.0), (0.9, 0.2), (0.9, 0.2), (0.9, 0.1)])

    def judge(candidate: nn.Module) -> tuple[float, float]:
        assert not candidate.training
        seen.append(candidate[1].weight.detach().clone())
        return next(scores)

    kept, history = fine_tune(model, training, alignment, settings, judge=judge)
    assert torch.equal(kept[1].weight, seen[1])
    assert [epoch.score for epoch in history] == [(0.5, 1.0), (0.9, 0.2), (0.9, 0.2), (0.9, 0.1)]
    last, _ = fine_tune(model, training, alignment, settings)
    assert torch.equal(last[1].weight, seen[3])
