"""JTT, just train twice: the images that a first, short training gets wrong count more in a second one.

Liu, Haghgoo, Chen, Raghunathan, Koh, Sagawa, Liang and Finn, "Just train twice: improving group robustness
without training group information" (ICML 2021); their code is anniesch/jtt. As there, an identification
model is trained for T epochs, the training images it gets wrong are up-sampled λ_up times, and a second
training starts again from the initial weights; T, λ_up and the epoch of the second training are chosen by
worst-group accuracy on validation. Training groups are not read, validation groups are.

What differs:
- Mistakes are those of the model in evaluation mode after epoch T; the authors collect them while epoch T is
  trained, each image with the weights of that moment.
- A mistake occurs λ_up times in all, as in the paper's loss; in the authors' code λ_up times beside once.
- Optimizer, step size (here it falls as a half cosine over the epochs of the recipe, in the first training
  too, though it ends after T) and weight decay are the caller's recipe, the same for both trainings. The
  authors use SGD with a constant step size and a strong weight decay, which they tune as well.
- Of equal worst-group accuracies the best average over groups decides, then the first.
- A T after which no training image is wrong is recorded as such, and an error if it is so for every T: the
  second training would be the ordinary one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lvlm_va.alignment.baselines.balance import (
    group_sizes,
    groups_needed,
    judge_by_groups,
    mistakes,
    one_class_needed,
)
from lvlm_va.alignment.baselines.result import Baseline
from lvlm_va.alignment.baselines.retraining import Judge, Retrained, checked_recipe, retrain
from lvlm_va.data.imageset import ImageSet, groups_of
from lvlm_va.data.view import View
from lvlm_va.errors import ConfigError, ModelError
from lvlm_va.models.copying import copied
from lvlm_va.training.process_group import ProcessGroup
from lvlm_va.training.train import train

__all__ = ["jtt", "up_sampled"]


def up_sampled(training: ImageSet, errors: Tensor, upweight: int) -> View:
    """The training set with each of `errors` (n,), int64 positions, `upweight` times instead of once."""
    return View(training, torch.cat([torch.arange(len(training)), errors.repeat(upweight - 1)]))


def jtt(
    initial: nn.Module,
    training: ImageSet,
    validation: ImageSet,
    *,
    recipe: Mapping[str, Any],
    identification_epochs: Sequence[int] = (1, 2),
    upweight: Sequence[int] = (5, 20, 50),
    judge: Judge | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Baseline:
    """Train a copy of `initial` twice, for every T and λ_up, and keep the best.

    One identification training serves every T; there is a second training for every T and λ_up.

    Args:
        initial: the model with its initial weights, maps (n, C, H, W) in [0, 1] to (n, K); not changed.
        training: the training set; its groups, if it knows them, are counted for the record alone.
        validation: what is judged by; it must know its groups unless a `judge` is given.
        recipe: of both trainings: `epochs` and, if wanted, `batch`, `learning_rate`, `optimizer`,
            `weight_decay`, `precision` and `flip` of `models.training.train`.
        identification_epochs: values of T to try, from 1 to the epochs of the recipe.
        upweight: values of λ_up to try, 2 or more.
        judge: scores a model in place of the worst-group accuracy on `validation`.
        seed: of the order of the images in both trainings.
        progress: called with (iterations done, iterations in all) of each training in turn.
        note: told about epochs, error sets and candidates.

    Returns:
        A `Baseline` whose record has "identification" (per T: the number of "errors", by group where
        training groups are known, and an "outcome" in words where there is none), "candidates" (per T and
        λ_up the "score"), the chosen "T" and "upweight", and "training", see `retrain`.

    Raises:
        DataError: if the validation set knows no groups and no judge is given.
        ConfigError: if the recipe has an unknown key, or T or λ_up cannot be used.
        ModelError: if the identification model makes no mistake after any T.
    """
    recipe = checked_recipe(recipe)
    Ts = sorted(set(identification_epochs))
    if not Ts or not 1 <= Ts[0] <= Ts[-1] <= recipe["epochs"] or any(T != int(T) for T in Ts):
        raise ConfigError(
            f"identification_epochs is {list(identification_epochs)}; give whole numbers from 1 to the "
            f"{recipe['epochs']} epochs of the recipe"
        )
    if not upweight or min(upweight) < 2 or any(factor != int(factor) for factor in upweight):
        raise ConfigError(f"upweight is {list(upweight)}; give whole numbers from 2 on (1 changes nothing)")
    sees = "no group labels; its judge is the caller's"
    one_class_needed(training, "JTT")
    if judge is None:
        judge = judge_by_groups(validation, groups_needed(validation, "validation", "JTT"))
        sees = "group labels of validation"

    errors = _identify(initial, training, recipe, Ts, seed=seed, progress=progress, note=note)
    identification = [_counted(training, T, found) for T, found in errors.items()]
    if not any(len(found) for found in errors.values()):
        raise ModelError(
            f"JTT: the identification model gets all {len(training)} training images right after "
            f"{_listed(Ts)}, so there is nothing to up-sample; identify earlier or train it less well, e.g. "
            "with a smaller learning rate or a strong weight decay"
        )
    candidates: list[dict[str, Any]] = []
    best: Retrained | None = None
    chosen = (0, 0)
    for T, found in errors.items():
        if not len(found):
            note(f"JTT: no mistake after {_listed([T])}; nothing to up-sample with this T.")
            continue
        for factor in upweight:
            note(f"JTT: T = {T}, {len(found)} mistakes, λ_up = {factor}.")
            trained = retrain(
                initial,
                up_sampled(training, found, factor),
                recipe,
                judge=judge,
                seed=seed,
                progress=progress,
                note=note,
            )
            assert trained.score is not None, "there is a judge"
            candidates.append(
                {
                    "T": T,
                    "upweight": factor,
                    "score": list(trained.score),
                    "epoch_kept": trained.record["epoch_kept"],
                }
            )
            if best is None or best.score is None or trained.score > best.score:
                best, chosen = trained, (T, factor)
    assert best is not None, "some T has mistakes, and there is a λ_up"
    record = {
        "method": "JTT",
        "identification": identification,
        "candidates": candidates,
        "T": chosen[0],
        "upweight": chosen[1],
        "training": best.record,
    }
    return Baseline(best.model, sees, record)


def _identify(
    initial: nn.Module,
    training: ImageSet,
    recipe: Mapping[str, Any],
    Ts: Sequence[int],
    *,
    seed: int,
    progress: Callable[[int, int], None] | None,
    note: Callable[[str], None],
) -> dict[int, Tensor]:
    """T → positions of the training images that the model gets wrong after T epochs."""
    errors: dict[int, Tensor] = {}

    def after_epoch(number: int, trained: nn.Module) -> bool:
        if number in Ts:
            errors[number] = ProcessGroup.here().broadcast(mistakes(trained, training))
        return number == Ts[-1]

    note(f"JTT: training the identification model for {_listed(Ts)}.")
    train(
        copied(initial),
        training,
        **recipe,
        seed=seed,
        after_epoch=after_epoch,
        progress=progress,
        note=note,
    )
    return errors


def _counted(training: ImageSet, T: int, errors: Tensor) -> dict[str, Any]:
    groups = groups_of(training)
    counted: dict[str, Any] = {"T": T, "errors": len(errors)}
    if groups is not None:
        counted["errors_by_group"] = group_sizes(groups, errors)
    if not len(errors):
        counted["outcome"] = (
            f"the identification model gets all {len(training)} training images right after "
            f"{_listed([T])}: nothing to up-sample"
        )
    return counted


def _listed(Ts: Sequence[int]) -> str:
    """E.g. "1 epoch", "1, 2 epochs"."""
    return f"{', '.join(map(str, Ts))} epoch{'' if list(Ts) == [1] else 's'}"
