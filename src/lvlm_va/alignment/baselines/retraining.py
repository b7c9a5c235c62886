"""Training again from the initial weights, on other images; a judge may choose the epoch."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn

from lvlm_va.data.imageset import ImageSet
from lvlm_va.errors import ConfigError
from lvlm_va.io.hints import did_you_mean
from lvlm_va.models.copying import copied
from lvlm_va.training.loop import Score
from lvlm_va.training.train import train

__all__ = ["Judge", "Retrained", "checked_recipe", "retrain"]

Judge = Callable[[nn.Module], Score]
"""Scores a model in evaluation mode; the larger, the better."""

_RECIPE = ("epochs", "batch", "learning_rate", "optimizer", "weight_decay", "precision", "flip")


class Retrained(NamedTuple):
    """A model trained again.

    Attributes:
        model: in evaluation mode.
        score: the judge's, of the epoch kept; None without a judge.
        record: for JSON, as `Trained.to_dict` with the score of each epoch.
    """

    model: nn.Module
    score: Score | None
    record: dict[str, Any]


def checked_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe as keyword arguments of `models.training.train`.

    Raises:
        ConfigError: naming a key that does not belong there, or if the number of epochs is missing.
    """
    for key in recipe:
        if key not in _RECIPE:
            raise ConfigError(f"recipe: unknown {key!r}; {did_you_mean(key, _RECIPE)}")
    if "epochs" not in recipe:
        raise ConfigError("recipe: epochs is missing; say for how many the model is trained")
    return dict(recipe)


def retrain(
    initial: nn.Module,
    images: ImageSet,
    recipe: Mapping[str, Any],
    *,
    judge: Judge | None,
    seed: int,
    progress: Callable[[int, int], None] | None,
    note: Callable[[str], None],
) -> Retrained:
    """Train a copy of `initial` on `images`.

    Args:
        initial: the model with its initial weights; not changed.
        images: what to train on.
        recipe: see `checked_recipe`.
        judge: scores the model after every epoch; the best is kept, of equals the earliest. Without it the
            last epoch is kept.
        seed: see `models.training.train`.
        progress: likewise.
        note: likewise.
    """
    model = copied(initial)
    went = train(model, images, **recipe, judge=judge, seed=seed, progress=progress, note=note)
    record = {"images": len(images), **went.to_dict()}
    if judge is None:
        return Retrained(model, None, record)
    score = went.scores[went.kept - 1]
    return Retrained(
        model, score, record | {"scores": [list(one) for one in went.scores], "score": list(score)}
    )
