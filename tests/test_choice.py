"""Scoring by verdicts: closed forms for models whose every decision is known."""

import torch
from torch import Tensor, nn

from lvlm_va.alignment.counterfactuals import Counterfactuals
from lvlm_va.alignment.verdict_score import score_by_verdicts
from lvlm_va.data.imageset import ArrayImageSet
from lvlm_va.models.predict import logits

NAMES = ("dark", "light")


class Corner(nn.Module):
    """Decides by the corner alone: bright is class 1."""

    def forward(self, x: Tensor) -> Tensor:
        bright = x[:, 0, :2, :2].mean((1, 2))
        return torch.stack([1 - bright, bright], 1)


class Middle(nn.Module):
    """Decides by the middle alone."""

    def forward(self, x: Tensor) -> Tensor:
        bright = x[:, 0, 3:5, 3:5].mean((1, 2))
        return torch.stack([1 - bright, bright], 1)


def images(n: int) -> ArrayImageSet:
    """Class 1 has a bright middle and, in this biased set, a bright corner."""
    labels = torch.arange(n) % 2
    pixels = torch.zeros(n, 1, 8, 8)
    pixels[labels == 1, :, 3:5, 3:5] = 1
    pixels[labels == 1, :, :2, :2] = 1
    return ArrayImageSet(pixels, labels, [str(i) for i in range(n)], NAMES)


def condemned_corners(training: ArrayImageSet) -> Counterfactuals:
    masks = torch.zeros(len(training), 8, 8, dtype=torch.bool)
    masks[training.labels == 1, :2, :2] = True
    return Counterfactuals.of(training.pixels, training.labels, masks)


def test_a_shortcut_is_seen_although_the_validation_set_rewards_it() -> None:
    validation, made = images(20), condemned_corners(images(10))
    relies, sound = (score_by_verdicts(model, validation, made) for model in (Corner(), Middle()))
    assert relies.as_is == sound.as_is == {"dark": 1.0, "light": 1.0}
    assert relies.pasted == {"dark": 0.0, "light": 1.0}, "every image now has a bright corner"
    assert sound.pasted == {"dark": 1.0, "light": 1.0}
    assert (relies.worst, relies.overall, relies.score) == (0.0, 0.75, 0.375)
    assert (sound.worst, sound.overall, sound.score) == (1.0, 1.0, 1.0)


def test_it_is_the_same_for_known_outputs_any_batch_and_leaves_the_mode() -> None:
    validation, made = images(21), condemned_corners(images(10))
    model = Corner().train()
    whole = score_by_verdicts(model, validation, made, seed=3)
    assert score_by_verdicts(model, validation, made, seed=3, batch=2) == whole
    outputs = logits(model, validation)
    assert score_by_verdicts(model, validation, made, outputs=outputs, seed=3) == whole
    assert model.training


def test_a_class_without_images_has_no_accuracy() -> None:
    everything = images(20)
    light = torch.arange(1, 20, 2)
    validation = ArrayImageSet(
        everything.pixels[light], everything.labels[light], [str(i) for i in light], NAMES
    )
    assert set(score_by_verdicts(Middle(), validation, condemned_corners(everything)).as_is) == {"light"}
