"""SUBG: as many training images of every group as the smallest group has, and training on these alone.

Idrissi, Arjovsky, Pezeshki and Lopez-Paz, "Simple data balancing achieves competitive worst-group-accuracy"
(CLeaR 2022); their code is facebookresearch/BalancingGroups. As there, images are drawn once, before
training, without replacement; training starts from the initial weights; and the epoch is chosen by
worst-group accuracy on validation, which reads validation groups.

What differs:
- The authors train for as many epochs as on all images, hundreds of them. A recipe for pretrained networks
  has a handful, which on a few dozen images are a few steps. With `as_long` an epoch shows every kept
  image as often as gives as many iterations as an epoch of all images has.
- A group without training images is left out; the authors would be left without images.
- Of epochs with equal worst-group accuracy the one with the best average over groups is kept, then the
  earliest; the authors keep the latest.
- Optimizer and step size are the caller's recipe, so that all methods share one; the authors use SGD with a
  constant step size and draw batch size, step size and weight decay at random, 50 times.
- Without a validation set the last epoch is kept, and training groups alone are read.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from lvlm_va.alignment.baselines.balance import balanced, group_sizes, groups_needed, judge_by_groups
from lvlm_va.alignment.baselines.result import Baseline
from lvlm_va.alignment.baselines.retraining import checked_recipe, retrain
from lvlm_va.data.imageset import ImageSet
from lvlm_va.data.view import View

__all__ = ["subg"]


def subg(
    initial: nn.Module,
    training: ImageSet,
    *,
    recipe: Mapping[str, Any],
    validation: ImageSet | None = None,
    as_long: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Baseline:
    """Train a copy of `initial` on a group-balanced part of the training set.

    Args:
        initial: the model with its initial weights, maps (n, C, H, W) in [0, 1] to (n, K); not changed.
        training: the training set; it must know its groups (class × attribute).
        recipe: `epochs` and, if wanted, `batch`, `learning_rate`, `optimizer`, `weight_decay`, `precision`
            and `flip` of `models.training.train`.
        validation: chooses the epoch by worst-group accuracy; it must know its groups. Without it the last
            epoch is kept.
        as_long: whether an epoch has about as many iterations as one of the whole training set: every kept
            image is shown several times. Otherwise each is shown once.
        seed: of the images drawn and their order.
        progress: called with (iterations done, iterations in all).
        note: told about epochs and groups left out.

    Returns:
        A `Baseline` whose record has "groups" (name → training images), "per_group" (how many of each are
        kept), "left_out" (names of groups without training images), "times_shown" (how often an epoch shows
        each image) and "training", see `retrain`.

    Raises:
        DataError: if a set knows no groups.
        ConfigError: if the recipe has an unknown key.
    """
    recipe = checked_recipe(recipe)
    groups = groups_needed(training, "training", "SUBG")
    judge = None
    if validation is not None:
        judge = judge_by_groups(validation, groups_needed(validation, "validation", "SUBG"))
    chosen = balanced(groups, torch.Generator().manual_seed(seed))
    kept = group_sizes(groups, chosen)
    per_group = max(kept.values())
    left_out = [name for name, size in kept.items() if not size]
    if left_out:
        note(f"SUBG leaves out groups without training images: {', '.join(left_out)}.")
    note(f"SUBG trains on {per_group} images of each group, {len(chosen)} of {len(training)}.")
    shown = chosen.repeat(max(1, round(len(training) / len(chosen)))) if as_long else chosen
    trained = retrain(
        initial, View(training, shown), recipe, judge=judge, seed=seed, progress=progress, note=note
    )
    record = {
        "method": "SUBG",
        "groups": group_sizes(groups),
        "per_group": per_group,
        "left_out": left_out,
        "times_shown": len(shown) // len(chosen),
        "training": trained.record,
    }
    sees = "group labels of training" + ("" if validation is None else " and validation")
    return Baseline(trained.model, sees, record)
