"""Images with several labels or none: one label is a single logit, K labels are K networks side by side."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import drawn_labels
from lvlm_va.alignment.baselines import dfr, jtt, subg
from lvlm_va.alignment.counterfactuals import Counterfactuals
from lvlm_va.alignment.fine_tune import AlignmentSet, FineTuning, fine_tune
from lvlm_va.alignment.rrr import right_reasons
from lvlm_va.alignment.verdict_score import score_by_verdicts
from lvlm_va.data.imageset import ArrayImageSet, Groups, groups_of
from lvlm_va.data.labels import label_answers, label_strata
from lvlm_va.data.splits import Splits
from lvlm_va.data.view import View
from lvlm_va.errors import ConfigError, DataError, ModelError
from lvlm_va.evaluate.accuracy import accuracy, label_accuracy
from lvlm_va.evaluate.calibration import calibration
from lvlm_va.evaluate.groups import group_accuracy, training_weighted
from lvlm_va.evaluate.ranking import ranking
from lvlm_va.explain.attribution import attribute
from lvlm_va.explain.sampling import predictive_entropy
from lvlm_va.models.adapter import Adapted
from lvlm_va.models.deciding import decide_head
from lvlm_va.models.head import Head
from lvlm_va.models.likelihood import Likelihood
from lvlm_va.models.predict import logits
from lvlm_va.training.train import train
from test_head import SHAPE, Net, two

NAN = math.nan
EXACT = FineTuning(
    1.0,
    gamma=1e-3,
    epochs=2,
    learning_rate=3e-3,
    training_batch=16,
    alignment_batch=8,
    jitter=0.05,
    precision="float32",
)


class Side(nn.Module):
    """Networks of one logit each, side by side."""

    def __init__(self, *nets: nn.Module) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([net(x) for net in self.nets], 1)


def several(module: nn.Module, K: int, end: Any = None) -> Adapted:
    return Adapted(module, None, K, Head("sigmoid", end=end))


def one_label(n: int = 24) -> tuple[ArrayImageSet, ArrayImageSet]:
    """The same images with two classes, and with the second of them as the one label."""
    classes = two(n, seed=1, betrayed=True)
    label = ArrayImageSet(classes.pixels, classes.labels[:, None].float(), classes.ids, ("post",))
    return classes, label


def as_one() -> tuple[Adapted, Adapted]:
    """One network as a single logit for two classes, and as one label."""
    torch.manual_seed(0)
    net = Net(1)
    return Adapted(net, None, 2, Head("single-logit")), several(copy.deepcopy(net), 1)


def masks_of(images: ArrayImageSet, n: int) -> Tensor:
    masks = torch.zeros(n, *images.pixels.shape[2:], dtype=torch.bool)
    masks[:, :3, :3] = True
    return masks


# ---------------------------------------------------------------- one label is a single logit


def test_one_label_is_a_single_logit() -> None:
    classes, label = one_label()
    single, sigmoid = as_one()
    z, zs = logits(single, classes), logits(sigmoid, label)
    of = Likelihood(several=False), Likelihood(several=True)
    for pair in (
        (of[0].loss(z, classes.labels), of[1].loss(zs, label.labels)),
        (predictive_entropy(z), predictive_entropy(zs, several=True)),
        (
            of[0].log_probabilities(z, classes.labels).flip(1),
            of[1].log_probabilities(zs, torch.zeros(24).long()),
        ),
        (of[0].right(z, classes.labels), of[1].right(zs, label.labels)[:, 0]),
    ):
        torch.testing.assert_close(*pair, atol=1e-6, rtol=0)
    assert accuracy(z, classes.labels) == accuracy(zs, label.labels)
    assert calibration(z, classes.labels).ece == pytest.approx(calibration(zs, label.labels).ece, abs=1e-6)
    ours, theirs = (
        ranking(*pair) for pair in ((zs, label.labels, ("post",)), (z, classes.labels, ("bar", "post")))
    )
    assert ours.auroc["post"] == theirs.auroc["post"]
    assert ours.average_precision["post"] == theirs.average_precision["post"]


def test_the_attribution_of_one_label_is_that_of_a_single_logit() -> None:
    """Of z, of which the single logit's two are halves."""
    classes, _ = one_label()
    single, sigmoid = as_one()
    pixels, present = classes.pixels[:12], torch.ones(12).long()
    half = attribute(single, pixels, present, classes.pixels[12:]).values
    whole = attribute(sigmoid, pixels, 0 * present, classes.pixels[12:]).values
    assert float(whole.abs().max()) > 1e-3
    torch.testing.assert_close(whole / 2, half, atol=1e-6, rtol=0)


def test_fine_tuning_one_label_is_fine_tuning_a_single_logit() -> None:
    classes, label = one_label()
    indices, masks = torch.arange(12), masks_of(classes, 12)
    recipe = FineTuning(**vars(EXACT) | {"counterfactual": 0.5})
    tuned = []
    for model, images, explained in (
        (as_one()[0], classes, None),
        (as_one()[1], label, torch.zeros(12).long()),
    ):
        fitted, (first, last) = fine_tune(model, images, AlignmentSet(indices, masks, explained), recipe)
        assert first.right_reasons > 0
        assert last.counterfactual > 0
        tuned.append((first, last, fitted.state_dict()))
    (a, b, weights), (c, d, others) = tuned
    assert tuple(a)[:4] == pytest.approx(tuple(c)[:4], abs=1e-6)
    assert tuple(b)[:4] == pytest.approx(tuple(d)[:4], abs=1e-6)
    for name, tensor in weights.items():
        torch.testing.assert_close(others[name], tensor, atol=1e-6, rtol=0)


def test_training_one_label_is_training_a_single_logit() -> None:
    classes, label = one_label()
    models = as_one()
    for model, images in zip(models, (classes, label), strict=True):
        train(model, images, epochs=2, batch=8, learning_rate=3e-3, precision="float32")
    for one, other in zip(*(model.state_dict().values() for model in models), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


# ---------------------------------------------------------------- K labels are K networks


def test_labels_side_by_side_are_networks_of_their_own() -> None:
    """The label that was explained is corrected, the others are trained on as if nobody had asked."""
    torch.manual_seed(1)
    nets = [Net(1), Net(1)]
    images = drawn_labels.drawn(48, seed=4, betrayed=True)
    indices, masks, zeros = torch.arange(10), masks_of(images, 10), torch.zeros(10).long()
    both, _ = fine_tune(
        several(Side(*copy.deepcopy(nets)), 2), images, AlignmentSet(indices, masks, zeros), EXACT
    )
    for k, (net, own) in enumerate(zip(nets, (masks, masks & False), strict=True)):
        alone = ArrayImageSet(images.pixels, images.labels[:, [k]], images.ids, (drawn_labels.LABELS[k],))
        fitted, _ = fine_tune(several(net, 1), alone, AlignmentSet(indices, own, zeros), EXACT)
        found = both.module.nets[k].state_dict()
        for name, tensor in fitted.module.state_dict().items():
            torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=0)


LABELS = st.lists(
    st.lists(st.sampled_from([0.0, 1.0, -1.0, NAN]), min_size=3, max_size=3), min_size=2, max_size=9
)


@settings(max_examples=30)
@given(LABELS, st.integers(0, 99))
def test_the_loss_is_the_sum_of_torchs_and_of_its_parts(rows: list[list[float]], seed: int) -> None:
    labels, n = torch.tensor(rows), len(rows)
    z = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()
    likelihood = Likelihood.of(labels)
    known = (labels == 0) | (labels == 1)
    expected = F.binary_cross_entropy_with_logits(z[known], labels[known].double(), reduction="sum") / n
    found = likelihood.loss(z, labels)
    torch.testing.assert_close(found, expected)
    halves = [
        likelihood.loss(z[part], labels[part]) * len(z[part]) / n for part in (slice(1), slice(1, None))
    ]
    torch.testing.assert_close(halves[0] + halves[1], found)  # as micro-batches add up
    (gradient,) = torch.autograd.grad(found, z)
    assert bool((gradient[~known] == 0).all())


@settings(max_examples=30)
@given(st.lists(st.floats(-60, 60), min_size=2, max_size=6))
def test_the_entropy_is_that_of_independent_labels(row: list[float]) -> None:
    z = torch.tensor([row], dtype=torch.float64)
    expected = torch.distributions.Bernoulli(logits=z.clamp(-30, 30)).entropy().sum(1)
    torch.testing.assert_close(predictive_entropy(z, several=True), expected, atol=1e-9, rtol=1e-6)


def test_the_right_reasons_of_several_labels_by_their_formula() -> None:
    torch.manual_seed(0)
    model, explained = several(Net(3), 3), torch.tensor([2, 0, 1, 2])
    x = torch.rand(4, *SHAPE, requires_grad=True)
    masks = torch.rand(4, *SHAPE[1:]) < 0.4
    z = model(x)
    found = right_reasons(Likelihood(several=True).log_probabilities(z, explained), x, masks)
    for n, k in enumerate(explained.tolist()):
        (g,) = torch.autograd.grad(z[n, k], x, retain_graph=True)
        # ∂/∂x (log σ(z) + log σ(−z)) = (1 − 2 σ(z)) ∂z/∂x
        by_hand = ((1 - 2 * torch.sigmoid(z[n, k])) * g[n, 0])[masks[n]].square().sum()
        torch.testing.assert_close(found[n], by_hand, atol=1e-7, rtol=1e-4)


def test_the_surest_label_that_an_image_has_is_explained() -> None:
    z = torch.tensor([[3.0, 1.0, 9.0], [-3.0, -1.0, 9.0], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    labels = torch.tensor([[1, 1, 0], [1, 1, -1], [0, NAN, 0], [0, 0, 1]])
    assert Likelihood.explained(z, labels).tolist() == [0, 1, -1, 2]
    assert Likelihood.explained(z, labels, only=0).tolist() == [0, 0, -1, -1]
    assert Likelihood.answers(z, torch.tensor([0, 1, 2, 2])).tolist() == [0, 4, 2, 5]
    assert label_answers("abc")[4] == "no b"


def test_a_counterfactual_speaks_of_the_label_that_was_condemned_alone() -> None:
    images = drawn_labels.drawn(8, seed=1, betrayed=True)
    made = Counterfactuals.of(images.pixels, images.labels, masks_of(images, 8), torch.arange(8) % 2)
    assert bool((made.labels.isnan().sum(1) == 1).all())
    _, labels = made.draw(images.pixels, images.labels, 8, torch.Generator().manual_seed(0))
    assert labels.shape == (8, 2)
    assert bool((labels.isnan().sum(1) == 1).all())
    model = several(Side(nn.Sequential(nn.Flatten(), nn.Linear(144, 2))), 2)
    score = score_by_verdicts(model, images, made)
    outputs = logits(model, images)
    for k, name in enumerate(drawn_labels.LABELS):
        for value, answer in ((1, name), (0, f"no {name}")):
            of = images.labels[:, k] == value
            right = ((outputs[of, k] > 0) == bool(value)).double().mean()
            assert score.as_is[answer] == pytest.approx(float(right))
    # Condemned for one label alone, it says nothing about the other.
    only = Counterfactuals.of(images.pixels, images.labels, masks_of(images, 8), torch.zeros(8).long())
    assert set(score_by_verdicts(model, images, only).pasted) == {"bar", "no bar"}
    with pytest.raises(ConfigError, match="which of them each mask is about"):
        fine_tune(model, images, AlignmentSet(torch.arange(2), masks_of(images, 2)), EXACT)


# ---------------------------------------------------------------- measures


def test_measures_count_what_is_known() -> None:
    z = torch.tensor([[2.0, -1.0], [1.0, 1.0], [-1.0, 3.0], [-2.0, -3.0]])
    labels = torch.tensor([[1, 0], [0, -1], [1, 1], [0, NAN]])
    assert label_accuracy(z, labels, "ab") == {"a": 0.5, "b": 1.0}
    assert accuracy(z, labels) == 0.75
    assert accuracy(z, torch.full_like(labels, -1)) != accuracy(z, torch.full_like(labels, -1))  # NaN
    found = ranking(z, labels, "ab")
    assert found.auroc == {"a": 0.75, "b": 1.0}
    assert found.average_precision["a"] == pytest.approx((1 + 2 / 3) / 2)
    groups = Groups(("dull", "bright"), torch.tensor([0, 0, 1, 1]))
    of_labels = groups_of(ArrayImageSet(torch.rand(4, 1, 2, 2), labels, list("wxyz"), "ab", groups=groups))
    assert of_labels is not None
    by_group = group_accuracy(z, labels, of_labels)
    assert by_group.accuracy == {
        "a, dull": 1.0,
        "a, bright": 0.0,
        "no a, dull": 0.0,
        "no a, bright": 1.0,
        "b, bright": 1.0,
        "no b, dull": 1.0,
    }
    assert by_group.images["b, dull"] == 0
    assert (by_group.worst, by_group.average) == (0.0, pytest.approx(4 / 6))
    assert training_weighted(by_group, of_labels) == pytest.approx(4 / 6)
    with pytest.raises(DataError, match="must agree"):
        group_accuracy(z, labels, groups)


@pytest.mark.parametrize("seed", range(4))
def test_ranking_of_several_labels_is_scikit_learns(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    g = torch.Generator().manual_seed(seed)
    z = torch.randint(-3, 4, (30, 2), generator=g).double()  # with ties
    labels = torch.randint(-1, 2, (30, 2), generator=g).float()
    found = ranking(z, labels, "ab")
    for k, name in enumerate("ab"):
        known = labels[:, k] >= 0
        truth, score = labels[known, k].numpy(), z[known, k].numpy()
        if 0 < truth.sum() < len(truth):
            assert found.auroc[name] == pytest.approx(metrics.roc_auc_score(truth, score), abs=1e-12)
            precision = metrics.average_precision_score(truth, score)
            assert found.average_precision[name] == pytest.approx(precision, abs=1e-12)


@settings(max_examples=30)
@given(LABELS)
def test_strata_are_the_rarest_labels(rows: list[list[float]]) -> None:
    labels = torch.tensor(rows)
    counts = (labels == 1).sum(0).tolist()
    for row, stratum in zip(rows, label_strata(labels), strict=True):
        own = [k for k, value in enumerate(row) if value == 1]
        assert stratum == (min(own, key=lambda k: (counts[k], k)) if own else 3)


# ---------------------------------------------------------------- heads


@pytest.mark.parametrize(
    ("end", "taken"),
    [(lambda y: y, None), (torch.sigmoid, "sigmoid"), (F.logsigmoid, "log-sigmoid")],
)
def test_a_head_of_several_labels(end: Callable[[Tensor], Tensor], taken: str | None) -> None:
    torch.manual_seed(0)
    module = Net(3, end)
    head = Head.named("auto", None, "abc", several=True)
    assert head.kind == "sigmoid"
    model = Adapted(module, None, 3, head)
    decide_head(model, SHAPE)
    assert model.head.end == taken
    assert "3 labels, of which an image may have several or none (sigmoid)" in model.head.words("abc")
    pixels = torch.rand(2, *SHAPE)
    plain = Net(3)
    plain.load_state_dict(module.state_dict())
    torch.testing.assert_close(model(pixels), plain(pixels))


def test_some_outputs_are_the_labels() -> None:
    module = Net(4)
    names = ("edema", "mass", "nodule", "hernia")
    model = Adapted(module, None, 2, Head.named("auto", names, ("nodule", "edema"), several=True))
    decide_head(model, SHAPE)
    pixels = torch.rand(2, *SHAPE)
    torch.testing.assert_close(model(pixels), module(pixels)[:, [2, 0]])
    assert "2 nodule, 0 edema (sigmoid)" in model.head.words(("nodule", "edema"))


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (lambda y: torch.softmax(y, 1), "softmax over its 3 outputs.*data.labels: one"),
        (lambda y: (torch.sigmoid(y) + torch.sigmoid(-y / 2)) / 2, "cannot be told.*model.head: sigmoid"),
    ],
)
def test_what_is_no_head_of_several_labels(end: Any, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        decide_head(several(Net(3, end), 3), SHAPE)
    decide_head(several(Net(3, lambda y: torch.sigmoid(y) ** 2), 3), SHAPE, said=True)


@pytest.mark.parametrize(
    ("kind", "labels", "told"),
    [
        ("softmax", True, "may have several labels or none.*sigmoid.*data.labels: one"),
        ("single-logit", True, "may have several labels or none"),
        ("sigmoid", False, "every image has one class.*softmax.*data.labels: several"),
    ],
)
def test_heads_and_labels_that_do_not_fit(kind: Any, labels: bool, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Head.named(kind, None, ("a", "b"), several=labels)


# ---------------------------------------------------------------- sets


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([[1.0, 0.0, 0.0]] * 2, r"\(2, 3\), but there are 2"),
        ([[1.0, 0.0], [0.5, 0.0]], "label a of image 1 is 0.5"),
    ],
)
def test_labels_that_cannot_be(labels: list[list[float]], told: str) -> None:
    with pytest.raises(DataError, match=told):
        ArrayImageSet(torch.rand(2, 1, 2, 2), torch.tensor(labels), ["x", "y"], "ab")


def test_all_parts_have_labels_of_one_form() -> None:
    classes, label = one_label(4)
    label = ArrayImageSet(label.pixels, torch.zeros(4, 2), label.ids, classes.class_names)
    with pytest.raises(DataError, match="one class an image, or all several labels"):
        Splits(name="mixed", train=classes, tests={"test": label})
    taken = View(drawn_labels.drawn(6, seed=0, betrayed=True), torch.tensor([5, 5, 1]))
    groups = groups_of(taken)
    assert taken.labels.shape == (3, 2)
    assert groups is not None
    assert groups.of.shape == (3, 2)


def test_baselines_are_for_one_class() -> None:
    images, recipe = drawn_labels.drawn(12, seed=0, betrayed=True), {"epochs": 1}
    with pytest.raises(DataError, match="SUBG is for images with one class each"):
        subg(Net(2), images, recipe=recipe)
    with pytest.raises(DataError, match="JTT is for images with one class each"):
        jtt(Net(2), images, images, recipe=recipe, identification_epochs=(1,), judge=lambda _: (0.0,))
    with pytest.raises(DataError, match="DFR is for images with one class each"):
        dfr(Net(2), images, images)
