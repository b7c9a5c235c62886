"""DFR against scikit-learn run by hand, and against a toy whose best classifier is known."""

import sys
from typing import Any

import numpy as np
import pytest
import sklearn
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import baseline_toy as toy
import small
from lvlm_va.alignment.baselines import dfr
from lvlm_va.alignment.baselines.balance import balanced
from lvlm_va.alignment.baselines.dfr import _halves
from lvlm_va.alignment.baselines.head import find_head, penultimate, with_head
from lvlm_va.data.imageset import ArrayImageSet, Groups, groups_of
from lvlm_va.data.view import View
from lvlm_va.errors import ConfigError, DataError, ModelError
from lvlm_va.models.adapter import Adapted
from lvlm_va.models.predict import logits
from lvlm_va.training.train import train
from test_baselines import same, state, unchanged


@pytest.fixture(scope="module")
def training() -> ArrayImageSet:
    return toy.images(6000, agree=0.95, seed=1)


@pytest.fixture(scope="module")
def validation() -> ArrayImageSet:
    return toy.images(600, agree=0.7, seed=2)


@pytest.fixture(scope="module")
def original(training: ArrayImageSet) -> nn.Module:
    model = toy.mlp()
    train(model, training, epochs=6, batch=100, learning_rate=0.03)
    return model


def features(model: nn.Module, images: ArrayImageSet | View) -> np.ndarray[Any, Any]:
    """What the last of the layers of `toy.mlp` is given, computed apart."""
    with torch.no_grad():
        hidden: Tensor = model[:-1](images.images(torch.arange(len(images))))  # type: ignore[index]
    return hidden.double().numpy()


def regression(C: float, seed: int = 0) -> LogisticRegression:
    return LogisticRegression(l1_ratio=1, C=C, solver="liblinear", random_state=seed)


@pytest.mark.parametrize("source", ["validation", "training"])
def test_one_fit_with_one_c_is_scikit_learn(
    source: Any, original: nn.Module, training: ArrayImageSet, validation: ArrayImageSet
) -> None:
    """Probabilities on images equal `predict_proba` on their features as they are."""
    baseline = dfr(original, training, validation, source=source, retrains=1, Cs=[0.3], seed=6)
    images = validation if source == "validation" else training
    groups = groups_of(images)
    assert groups is not None
    drawn = View(images, balanced(groups, torch.Generator().manual_seed(6)))
    scaler = StandardScaler().fit(features(original, training))
    fitted = regression(0.3, seed=6).fit(scaler.transform(features(original, drawn)), drawn.labels.numpy())
    expected = Pipeline([("scale", scaler), ("fit", fitted)]).predict_proba(features(original, validation))
    given = logits(baseline.model, validation).double().softmax(1).numpy()
    np.testing.assert_allclose(given, expected, atol=1e-5)
    assert given.std() > 0.1
    assert baseline.record["used"] == int((fitted.coef_ != 0).sum())
    assert baseline.record["candidates"] == []
    assert baseline.sees == f"group labels of {source}"


def test_coefficients_are_the_mean_over_draws(
    original: nn.Module, training: ArrayImageSet, validation: ArrayImageSet
) -> None:
    baseline = dfr(original, training, validation, retrains=3, Cs=[0.7], seed=2)
    groups, generator = groups_of(validation), torch.Generator().manual_seed(2)
    assert groups is not None
    scaler = StandardScaler().fit(features(original, training))
    fits = []
    for _ in range(3):
        drawn = View(validation, balanced(groups, generator))
        fits.append(regression(0.7, 2).fit(scaler.transform(features(original, drawn)), drawn.labels.numpy()))
    assert not np.array_equal(fits[0].coef_, fits[1].coef_)
    mean = fits[0]
    mean.coef_ = np.mean([fit.coef_ for fit in fits], 0)
    mean.intercept_ = np.mean([fit.intercept_ for fit in fits], 0)
    expected = mean.predict_proba(scaler.transform(features(original, validation)))
    given = logits(baseline.model, validation).double().softmax(1).numpy()
    np.testing.assert_allclose(given, expected, atol=1e-5)


@given(of=st.lists(st.integers(0, 3), max_size=50), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_halves_are_halves_of_every_group(of: list[int], seed: int) -> None:
    groups = Groups(tuple("abcd"), torch.tensor(of, dtype=torch.int64))
    one, other = _halves(groups, torch.Generator().manual_seed(seed))
    assert sorted([*one.tolist(), *other.tolist()]) == list(range(len(of)))
    excess = torch.bincount(groups.of[one], minlength=4) - torch.bincount(groups.of[other], minlength=4)
    assert excess.tolist() == [of.count(g) % 2 for g in range(4)]


@pytest.mark.parametrize("source", ["validation", "training"])
def test_c_is_chosen_by_worst_group_accuracy_as_written_out(
    source: Any, original: nn.Module, training: ArrayImageSet, validation: ArrayImageSet
) -> None:
    Cs = [1.0, 0.05, 0.02]
    baseline = dfr(original, training, validation, source=source, retrains=1, Cs=Cs, seed=9)
    generator, judged = torch.Generator().manual_seed(9), groups_of(validation)
    assert judged is not None
    if source == "validation":
        fitted, measured = _halves(judged, generator)
        drawn = View(validation, balanced(judged, generator, fitted))
        scaler = StandardScaler().fit(features(original, drawn))
    else:
        groups, measured = groups_of(training), torch.arange(len(validation))
        assert groups is not None
        drawn = View(training, balanced(groups, generator))
        scaler = StandardScaler().fit(features(original, training))
    held_out, of = View(validation, measured), judged.of[measured].numpy()
    for C, candidate in zip(Cs, baseline.record["candidates"], strict=True):
        fit = regression(C, 9).fit(scaler.transform(features(original, drawn)), drawn.labels.numpy())
        right = fit.predict(scaler.transform(features(original, held_out))) == held_out.labels.numpy()
        by_group = [float(right[of == g].mean()) for g in range(4)]
        assert candidate == pytest.approx({"C": C, "worst": min(by_group), "average": np.mean(by_group)})


@pytest.mark.parametrize("source", ["validation", "training"])
def test_dfr_mends_the_worst_group(
    source: Any, original: nn.Module, training: ArrayImageSet, validation: ArrayImageSet
) -> None:
    test_set = toy.images(20000, agree=0.5, seed=3)
    assert toy.worst(original, test_set) == pytest.approx(toy.SHORTCUT, abs=0.12)
    baseline = dfr(original, training, validation, source=source)
    assert toy.worst(baseline.model, test_set) == pytest.approx(toy.SOUND, abs=0.07)
    record = baseline.record
    assert [c["C"] for c in record["candidates"]] == [1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01]
    best = max((c["worst"], c["average"]) for c in record["candidates"])
    first = next(c for c in record["candidates"] if (c["worst"], c["average"]) == best)
    assert record["C"] == first["C"]
    assert (record["features"], record["retrains"], record["regressions"]) == (16, 20, 1)
    assert record["per_group"] == (90 if source == "validation" else 150)
    training_groups = " of validation" if source == "validation" else " of training and validation"
    assert baseline.sees == "group labels" + training_groups


def test_the_model_is_not_changed_and_only_the_head_differs_in_the_copy(
    training: ArrayImageSet, validation: ArrayImageSet
) -> None:
    model = toy.mlp()
    before = state(model)
    baseline = unchanged(model, lambda m: dfr(m, training, validation, Cs=[0.1, 1.0], seed=1))
    assert same(state(baseline.model)[:-2], before[:-2])
    assert not same(state(baseline.model)[-2:], before[-2:])
    again = dfr(model, training, validation, Cs=[0.1, 1.0], seed=1)
    assert same(state(again.model), state(baseline.model))
    assert not same(state(dfr(model, training, validation, Cs=[0.1, 1.0], seed=2).model), state(again.model))


def with_groups(images: ArrayImageSet) -> ArrayImageSet:
    return ArrayImageSet(
        images.pixels,
        images.labels,
        images.ids,
        images.class_names,
        groups=Groups(small.CLASSES, images.labels),
    )


def test_three_classes_are_one_against_the_rest() -> None:
    model, training = small.untrained(), small.shapes(300, seed=1, betrayed=True)
    validation = with_groups(small.shapes(90, seed=2, betrayed=False))
    baseline = dfr(model, training, validation, retrains=1, Cs=[1.0])
    head = find_head(model, training)
    values = {part: penultimate(model, head, p).numpy() for part, p in (("t", training), ("v", validation))}
    scaler = StandardScaler().fit(values["t"])
    expected = OneVsRestClassifier(regression(1.0)).fit(
        scaler.transform(values["v"]), validation.labels.numpy()
    )
    given = logits(baseline.model, validation).double().numpy()
    np.testing.assert_allclose(
        given, expected.decision_function(scaler.transform(values["v"])), rtol=1e-4, atol=1e-4
    )
    assert baseline.record["regressions"] == 3


def test_what_is_missing_is_told(
    original: nn.Module,
    training: ArrayImageSet,
    validation: ArrayImageSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ungrouped = ArrayImageSet(training.pixels, training.labels, training.ids, toy.CLASSES)
    with pytest.raises(DataError, match="DFR needs the group of every validation image"):
        dfr(original, training, ungrouped)
    with pytest.raises(DataError, match="DFR needs the group of every training image"):
        dfr(original, ungrouped, validation, source="training")
    with pytest.raises(DataError, match="images of every class; there is none of low"):
        dfr(original, training, View(validation, validation.labels.nonzero()[:, 0]))
    rare = View(validation, torch.tensor([*range(100), 598, 599, 596]))
    with pytest.raises(DataError, match="a single validation image of high, dark"):
        dfr(original, training, rare)
    for arguments, message in (
        ({"source": "test"}, "must be validation or training"),
        ({"retrains": 0}, "at least one fit"),
        ({"Cs": []}, "at least one number above 0"),
        ({"Cs": [0.0]}, "at least one number above 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            dfr(original, training, validation, **arguments)  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        patch.setattr(sklearn, "__version__", "1.7.2")
        with pytest.raises(ConfigError, match=r"scikit-learn 1\.8 or newer, here is 1\.7\.2"):
            dfr(original, training, validation)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ConfigError, match=r"pip install 'lvlm-va\[baselines\]'"):
        dfr(original, training, validation)


class Then(nn.Module):
    """A classifier with something behind it."""

    def __init__(self, then: Any) -> None:
        super().__init__()
        self.body, self.then = toy.mlp(), then

    def forward(self, x: Tensor) -> Any:
        return self.then(self.body(x))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Then(nn.Softmax(1)), r"last linear layer of Then \(body\.4\) are not the logits"),
        (Then(lambda z: z.mul_(2)), "something follows it"),
        (nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), "no linear layer"),
        (nn.Sequential(nn.Flatten(), shared := nn.Linear(2, 2), nn.ReLU(), shared), "more than once"),
    ],
)
def test_a_model_without_a_last_linear_layer_is_refused(
    model: nn.Module, message: str, training: ArrayImageSet, validation: ArrayImageSet
) -> None:
    with pytest.raises(ModelError, match=message):
        dfr(model, training, validation)


class TwoNames(nn.Module):
    """The head has two names, and a layer that is defined after it is executed before."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.classifier = self.head
        self.body = nn.Linear(2, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.body(x.flatten(1)).relu()
        return {"logits": self.classifier(input=hidden), "hidden": hidden}


@pytest.mark.parametrize("kind", ["two names", "adapted", "weight norm", "alone"])
def test_the_head_is_found_and_replaced_in_models_of_all_sorts(kind: str, training: ArrayImageSet) -> None:
    model: nn.Module = {
        "two names": TwoNames,
        "adapted": lambda: Adapted(toy.mlp(), normalise={"mean": [0.2], "std": [0.3]}, num_classes=2),
        "weight norm": lambda: nn.Sequential(
            nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))
        ),
        "alone": lambda: nn.Sequential(nn.Flatten(), nn.Linear(2, 2)),
    }[kind]()
    before = state(model)
    head = find_head(model, training)
    inputs = penultimate(model, head, training)
    assert inputs.shape == (6000, head.layer.in_features)
    torch.testing.assert_close(
        (inputs @ head.layer.weight.double().T + head.layer.bias).float(), logits(model, training)
    )
    weight, bias = torch.randn(2, head.layer.in_features).double(), torch.randn(2).double()
    replaced = with_head(model, head, weight, bias)
    torch.testing.assert_close(logits(replaced, training), (inputs @ weight.T + bias).float())
    assert same(before, state(model))
    assert not torch.equal(logits(model, training), logits(replaced, training))
