"""SUBG and JTT against a toy whose best classifiers are known, and against direct computations."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import baseline_toy as toy
from lvlm_va.alignment.baselines import Baseline, jtt, subg
from lvlm_va.alignment.baselines.balance import balanced
from lvlm_va.alignment.baselines.jtt import up_sampled
from lvlm_va.data.imageset import ArrayImageSet, Groups, groups_of
from lvlm_va.data.view import View
from lvlm_va.errors import ConfigError, DataError, ModelError
from lvlm_va.models.predict import logits
from lvlm_va.training.train import train

RECIPE: dict[str, Any] = {"epochs": 10, "batch": 50, "learning_rate": 0.1}


@pytest.fixture(scope="module")
def training() -> ArrayImageSet:
    return toy.images(2000, agree=0.95, seed=1)


@pytest.fixture(scope="module")
def validation() -> ArrayImageSet:
    return toy.images(1000, agree=0.5, seed=2)


@pytest.fixture(scope="module")
def test_set() -> ArrayImageSet:
    return toy.images(20000, agree=0.5, seed=3)


def state(model: nn.Module) -> list[Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def unchanged(model: nn.Module, call: Callable[[nn.Module], Baseline]) -> Baseline:
    """`call` on the model in a mixed mode, with one parameter frozen; nothing of this may change."""
    model.train()[1].eval()  # type: ignore[index]
    frozen = next(model.parameters()).requires_grad_(False)
    before, modes = state(model), [m.training for m in model.modules()]
    baseline = call(model)
    assert same(state(model), before)
    assert [m.training for m in model.modules()] == modes
    assert not frozen.requires_grad
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())
    assert not any(m.training for m in baseline.model.modules())
    json.dumps(baseline.record, allow_nan=False)
    return baseline


@given(of=st.lists(st.integers(0, 4), min_size=1, max_size=60), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_balanced_draw_has_as_many_of_every_group(of: list[int], seed: int) -> None:
    groups = Groups(tuple("abcde"), torch.tensor(of))
    drawn = balanced(groups, torch.Generator().manual_seed(seed))
    smallest = min(of.count(g) for g in set(of))
    assert len(set(drawn.tolist())) == len(drawn)
    counts = torch.bincount(groups.of[drawn], minlength=5).tolist()
    assert counts == [smallest if g in of else 0 for g in range(5)]


def test_subg_mends_what_plain_training_takes_from_the_shortcut(
    training: ArrayImageSet, validation: ArrayImageSet, test_set: ArrayImageSet
) -> None:
    plain = toy.linear()
    train(plain, training, **RECIPE)
    assert toy.worst(plain, test_set) == pytest.approx(toy.SHORTCUT, abs=0.06)
    told: list[str] = []
    one = subg(toy.linear(), training, recipe=RECIPE, as_long=True, note=told.append)
    assert toy.worst(one.model, test_set) == pytest.approx(toy.SOUND, abs=0.07)
    assert one.sees == "group labels of training"
    assert dict(one.record["groups"]) == dict(zip(toy.GROUPS, (950, 50, 50, 950), strict=True))
    assert (one.record["per_group"], one.record["times_shown"]) == (50, 10)
    assert one.record["training"]["images"] == 2000, "as many iterations as on all images"
    assert "SUBG trains on 50 images of each group, 200 of 2000." in told


@pytest.mark.parametrize("times", [1, 10])
def test_subg_is_plain_training_on_the_balanced_images(training: ArrayImageSet, times: int) -> None:
    recipe = RECIPE | {"epochs": 1 if times > 1 else RECIPE["epochs"]}

    def balance(model: nn.Module) -> Baseline:
        return subg(model, training, recipe=recipe, as_long=times > 1, seed=4)

    baseline = unchanged(toy.mlp(), balance)
    groups = groups_of(training)
    assert groups is not None
    by_hand = toy.mlp()
    next(by_hand.parameters()).requires_grad_(False)
    chosen = balanced(groups, torch.Generator().manual_seed(4))
    train(by_hand, View(training, torch.cat([chosen] * times)), **recipe, seed=4)
    assert same(state(by_hand), state(baseline.model))
    assert baseline.record["training"]["how_kept"] == "the last"
    assert not same(state(baseline.model), state(subg(toy.mlp(), training, recipe=recipe, seed=5).model))


def test_subg_keeps_the_epoch_of_the_best_worst_group(
    training: ArrayImageSet, validation: ArrayImageSet
) -> None:
    recipe = RECIPE | {"epochs": 4}
    baseline = subg(toy.linear(), training, recipe=recipe, validation=validation)
    record = baseline.record["training"]
    assert record["score"] == max(record["scores"])
    assert record["scores"].index(record["score"]) + 1 == record["epoch_kept"]
    assert toy.worst(baseline.model, validation) == record["score"][0]
    assert len({tuple(score) for score in record["scores"]}) > 1
    assert baseline.sees == "group labels of training and validation"


def test_of_equal_scores_the_earliest_counts(training: ArrayImageSet) -> None:
    judged: list[list[Tensor]] = []

    def indifferent(model: nn.Module) -> tuple[float]:
        judged.append(state(model))
        return (1.0,)

    baseline = jtt(
        toy.linear(),
        training,
        training,
        recipe=RECIPE | {"epochs": 3},
        identification_epochs=(1, 2),
        upweight=(5, 2),
        judge=indifferent,
    )
    record = baseline.record
    assert len(judged) == 12
    assert same(state(baseline.model), judged[0])
    assert not same(judged[0], judged[1])
    assert (record["T"], record["upweight"], record["training"]["epoch_kept"]) == (1, 5, 1)


def test_a_group_without_images_is_left_out_and_told(training: ArrayImageSet) -> None:
    groups = groups_of(training)
    assert groups is not None
    without = View(training, (groups.of != 1).nonzero()[:, 0])
    told: list[str] = []
    record = subg(toy.linear(), without, recipe=RECIPE | {"epochs": 1}, note=told.append).record
    assert (record["left_out"], record["per_group"]) == (["low, light"], 50)
    assert "SUBG leaves out groups without training images: low, light." in told


def test_what_groups_are_missing_is_told(training: ArrayImageSet) -> None:
    ungrouped = ArrayImageSet(training.pixels, training.labels, training.ids, toy.CLASSES)
    with pytest.raises(DataError, match=r"SUBG needs the group of every training image"):
        subg(toy.linear(), ungrouped, recipe=RECIPE)
    with pytest.raises(DataError, match=r"SUBG needs the group of every validation image"):
        subg(toy.linear(), training, recipe=RECIPE, validation=ungrouped)
    with pytest.raises(DataError, match=r"JTT needs the group of every validation image"):
        jtt(toy.linear(), training, ungrouped, recipe=RECIPE)
    attribute = ArrayImageSet(
        training.pixels,
        training.labels,
        training.ids,
        toy.CLASSES,
        groups=Groups(("dark", "light"), groups_of(training).of % 2),  # type: ignore[union-attr]
    )
    with pytest.raises(DataError, match=r"group 'dark' has training images of the classes low, high"):
        subg(toy.linear(), attribute, recipe=RECIPE)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [({"epochs": 1, "learningrate": 1}, "did you mean 'learning_rate'"), ({"batch": 3}, "epochs is missing")],
)
def test_a_recipe_that_cannot_be_used_is_told(
    recipe: dict[str, Any], message: str, training: ArrayImageSet
) -> None:
    with pytest.raises(ConfigError, match=message):
        subg(toy.linear(), training, recipe=recipe)
    with pytest.raises(ConfigError, match=message):
        jtt(toy.linear(), training, training, recipe=recipe)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_mistakes_occur_as_often_as_asked_for(data: st.DataObject) -> None:
    images = toy.images(12, agree=0.5, seed=0)
    errors = sorted(data.draw(st.sets(st.integers(0, 11))))
    factor = data.draw(st.integers(2, 7))
    view = up_sampled(images, torch.tensor(errors, dtype=torch.int64), factor)
    counts = torch.bincount(view.positions, minlength=12).tolist()
    assert counts == [factor if i in errors else 1 for i in range(12)]


def test_jtt_identifies_and_retrains_as_written_out(
    training: ArrayImageSet, validation: ArrayImageSet
) -> None:
    recipe = RECIPE | {"epochs": 3}
    baseline = unchanged(
        toy.mlp(),
        lambda model: jtt(
            model, training, validation, recipe=recipe, identification_epochs=(2,), upweight=(8,), seed=3
        ),
    )
    first = toy.mlp()
    next(first.parameters()).requires_grad_(False)
    second, wrong = copy.deepcopy(first), torch.tensor([])

    def look(number: int, model: nn.Module) -> bool:
        nonlocal wrong
        if number == 2:
            wrong = (logits(model, training).argmax(1) != training.labels).nonzero()[:, 0]
        return False

    train(first, training, **recipe, seed=3, after_epoch=look)
    assert 0 < len(wrong) < 500
    (identified,) = baseline.record["identification"]
    assert identified["errors"] == len(wrong)
    groups = groups_of(training)
    assert groups is not None
    by_group = torch.bincount(groups.of[wrong], minlength=4).tolist()
    assert identified["errors_by_group"] == dict(zip(toy.GROUPS, by_group, strict=True))
    assert baseline.record["training"]["images"] == 2000 + 7 * len(wrong)

    kept: list[list[Tensor]] = []
    train(
        second,
        View(training, torch.cat([torch.arange(2000), *[wrong] * 7])),
        **recipe,
        seed=3,
        after_epoch=lambda _, model: kept.append(state(model)) or False,  # type: ignore[func-returns-value]
    )
    assert same(kept[baseline.record["training"]["epoch_kept"] - 1], state(baseline.model))
    assert baseline.sees == "group labels of validation"


def test_jtt_chooses_by_the_worst_group_and_beats_plain_training(
    training: ArrayImageSet, validation: ArrayImageSet, test_set: ArrayImageSet
) -> None:
    one = jtt(
        toy.linear(), training, validation, recipe=RECIPE, identification_epochs=(5, 2), upweight=(2, 20)
    )
    assert toy.worst(one.model, test_set) > toy.SHORTCUT + 0.25
    candidates = one.record["candidates"]
    assert [(c["T"], c["upweight"]) for c in candidates] == [(2, 2), (2, 20), (5, 2), (5, 20)]
    best = max(candidates, key=lambda c: c["score"])
    assert (one.record["T"], one.record["upweight"]) == (best["T"], best["upweight"])
    assert toy.worst(one.model, validation) == best["score"][0]


def test_jtt_with_a_judge_of_the_callers_needs_no_groups(training: ArrayImageSet) -> None:
    plain = ArrayImageSet(training.pixels, training.labels, training.ids, toy.CLASSES)
    baseline = jtt(
        toy.linear(),
        plain,
        plain,
        recipe=RECIPE | {"epochs": 2},
        identification_epochs=(1,),
        upweight=(2, 5),
        judge=lambda model: (model[2].weight.norm().item(),),
    )
    assert baseline.record["training"]["score"] == [baseline.model[2].weight.norm().item()]
    assert "errors_by_group" not in baseline.record["identification"][0]
    assert baseline.sees == "no group labels; its judge is the caller's"


class _Right(nn.Module):
    """Right by construction, and trainable: the label is the first pixel."""

    def __init__(self, wrong_at_first: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(-0.01 if wrong_at_first else 1.0))

    def forward(self, x: Tensor) -> Tensor:
        z = self.scale * (x[:, 0, 0, :1] - 0.5)
        return torch.cat([-z, z], 1)


def honest() -> ArrayImageSet:
    labels = torch.arange(40) % 2
    return ArrayImageSet(
        labels.float()[:, None, None, None],
        labels,
        [str(i) for i in range(40)],
        toy.CLASSES,
        groups=Groups(("l", "h"), labels),
    )


def test_an_error_set_that_is_empty_for_every_t_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"all 40 training images right after 1, 2 epochs, so there is"):
        jtt(_Right(False), honest(), honest(), recipe=RECIPE | {"epochs": 2})


def test_an_error_set_that_is_empty_for_one_t_is_told() -> None:
    """The first epoch is one step too small to turn the sign; later ones turn it."""
    told: list[str] = []
    baseline = jtt(
        _Right(True),
        honest(),
        honest(),
        recipe={"epochs": 8, "batch": 40, "learning_rate": 0.008},
        identification_epochs=(1, 4),
        upweight=(2,),
        note=told.append,
    )
    one, other = baseline.record["identification"]
    assert (one["errors"], "outcome" in one) == (40, False)
    assert other["errors"] == 0
    assert other["outcome"] == (
        "the identification model gets all 40 training images right after 4 epochs: nothing to up-sample"
    )
    assert [c["T"] for c in baseline.record["candidates"]] == [1]
    assert "JTT: no mistake after 4 epochs; nothing to up-sample with this T." in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"identification_epochs": (0,)}, "identification_epochs is"),
        ({"identification_epochs": (11,)}, "to the 10 epochs of the recipe"),
        ({"identification_epochs": ()}, "identification_epochs is"),
        ({"identification_epochs": (1.5,)}, "give whole numbers"),
        ({"upweight": (1,)}, "1 changes nothing"),
        ({"upweight": (2.5,)}, "whole numbers"),
        ({"upweight": ()}, "upweight is"),
    ],
)
def test_candidates_that_cannot_be_used_are_told(
    arguments: dict[str, Any], message: str, training: ArrayImageSet
) -> None:
    with pytest.raises(ConfigError, match=message):
        jtt(toy.linear(), training, training, recipe=RECIPE, **arguments)
