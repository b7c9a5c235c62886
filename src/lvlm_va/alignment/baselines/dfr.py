"""DFR, deep feature reweighting: the last layer is trained again on a small group-balanced set.

Kirichenko, Izmailov and Wilson, "Last layer re-training is sufficient for robustness to spurious
correlations" (ICLR 2023); their code is PolinaKirichenko/deep_feature_reweighting. As there: the features
that the original model's last layer is given, standardised; ℓ1-regularised logistic regression (liblinear);
the mean of coefficients and intercepts over several fits, each on a new group-balanced draw; and C chosen by
worst-group accuracy. Two variants say where the balanced set comes from:

- "validation" (DFR^Val, the authors' main one): C is tuned by fits on a balanced draw of one half of the
  validation set, standardised by that draw, and measured on the other half; then the fits draw from the whole
  validation set and are standardised by the training set. No training group is read.
- "training" (DFR^Tr): fits draw from the training set and are standardised by it; C is tuned on the whole
  validation set.

What differs:
- Halves are drawn group by group, so that no group is missing from one; the authors draw them from all.
- A group without images is left out of the draws; the authors would be left without images.
- Of values of C with equal worst-group accuracy the best average over groups decides, then the first.
- 20 fits in both variants (authors: 10 on training images), and as many iterations in tuning as afterwards
  (authors: 20 while tuning on training images). Class weights stay at 1, as in the authors' default.
- The result is put back as the model's last linear layer, so that everything here can measure and explain
  it. With two classes the logits are ∓z/2 for the averaged regression's log-odds z, so that their softmax is
  its probability. The authors have two classes only; with K > 2 each class has a regression against the
  rest, and its log-odds are the logit: the largest decides, but the softmax is not a fitted probability.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lvlm_va.alignment.baselines.balance import balanced, group_score, group_sizes, groups_needed
from lvlm_va.alignment.baselines.head import find_head, penultimate, with_head
from lvlm_va.alignment.baselines.result import Baseline
from lvlm_va.data.imageset import Groups, ImageSet
from lvlm_va.errors import ConfigError, DataError

__all__ = ["dfr"]

Source = Literal["validation", "training"]


class _Features(NamedTuple):
    """What the last layer of the original model is given.

    Attributes:
        values: (N, F) float64.
        labels: (N,) int64.
    """

    values: Tensor
    labels: Tensor

    def at(self, positions: Tensor) -> "_Features":
        """Those of some images."""
        return _Features(self.values[positions], self.labels[positions])


class _Scale(NamedTuple):
    """Standardisation x ↦ (x − mean) / std; both (F,) float64."""

    mean: Tensor
    std: Tensor


class _Linear(NamedTuple):
    """A linear layer: weight (K, F) and bias (K,), float64."""

    weight: Tensor
    bias: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """(n, F) → (n, K)."""
        return values @ self.weight.T + self.bias


def dfr(
    model: nn.Module,
    training: ImageSet,
    validation: ImageSet,
    *,
    source: Source = "validation",
    retrains: int = 20,
    Cs: Sequence[float] = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01),
    seed: int = 0,
    note: Callable[[str], None] = lambda _: None,
) -> Baseline:
    """Train the last layer of a copy of the model again.

    Args:
        model: the original model, maps (n, C, H, W) in [0, 1] to (n, K), ending with an `nn.Linear`; not
            changed.
        training: the training set; with source "training" it must know its groups (class × attribute).
        validation: the validation set; it must know its groups, but for source "training" with one C.
        source: where the group-balanced set comes from.
        retrains: how many fits are averaged, at least 1.
        Cs: inverse strengths of the ℓ1 penalty to choose from; a single one is not tuned.
        seed: of halves, draws and liblinear.
        note: told about C and fits that did not converge.

    Returns:
        A `Baseline` whose record has "source", "groups" (name → images of the source), "per_group" (how
        many of each a fit gets), "left_out" (names of groups without images), "candidates" (per C the
        "worst" and "average" accuracy; empty if it was not tuned), "C", "retrains", "head" (name of the
        layer), "features" (F), "used" (how many of them have a weight other than 0), "regressions" (1, or K
        against the rest) and "unconverged" (fits that ended at liblinear's limit of iterations).

    Raises:
        ConfigError: if scikit-learn is missing or too old, or an argument cannot be used.
        DataError: if a set knows no groups that are needed, a class has no image in the source, or a
            validation group that is to be halved has a single image.
        ModelError: if the model does not end with a linear layer.
    """
    if source not in ("validation", "training"):
        raise ConfigError(f"source is {source!r}; it must be validation or training")
    if retrains < 1:
        raise ConfigError(f"retrains is {retrains}; at least one fit is needed")
    if not Cs or min(Cs) <= 0:
        raise ConfigError(f"Cs is {list(Cs)}; give at least one number above 0")
    _require_scikit_learn()
    tuned = len(Cs) > 1
    balancing = validation if source == "validation" else training
    groups = groups_needed(balancing, source, "DFR")
    judged_by = groups_needed(validation, "validation", "DFR") if tuned else None
    K = len(training.class_names)
    _check_classes(balancing, source, K)
    head = find_head(model, training)
    train_values = penultimate(model, head, training)
    known = {"training": _Features(train_values, training.labels)}
    if tuned or source == "validation":
        known["validation"] = _Features(penultimate(model, head, validation), validation.labels)
    features, scale = known[source], _scale(train_values)

    generator = torch.Generator().manual_seed(seed)
    fits = _Fits(K, seed)
    candidates: list[dict[str, float]] = []
    if judged_by is not None:
        if source == "validation":
            _check_halves(groups)
            fitted, measured = _halves(groups, generator)
            draw = features.at(balanced(groups, generator, fitted))
            own_scale = _scale(draw.values)
        else:
            measured = torch.arange(len(validation))
            draw, own_scale = features.at(balanced(groups, generator)), scale
        held_out = known["validation"].at(measured)
        judged_groups = Groups(judged_by.names, judged_by.of[measured])
        for C in Cs:
            outputs = fits.fit(draw, own_scale, C)(held_out.values)
            worst, average = group_score(outputs, held_out.labels, judged_groups)
            candidates.append({"C": C, "worst": worst, "average": average})
    C = max(candidates, key=lambda c: (c["worst"], c["average"]))["C"] if candidates else Cs[0]

    layers = [fits.fit(features.at(balanced(groups, generator)), scale, C) for _ in range(retrains)]
    weight = torch.stack([layer.weight for layer in layers]).mean(0)
    bias = torch.stack([layer.bias for layer in layers]).mean(0)
    if fits.unconverged:
        note(f"DFR: {fits.unconverged} fits ended at liblinear's limit of iterations.")
    sizes = group_sizes(groups)
    record = {
        "method": "DFR",
        "source": source,
        "groups": sizes,
        "per_group": min(size for size in sizes.values() if size),
        "left_out": [name for name, size in sizes.items() if not size],
        "candidates": candidates,
        "C": C,
        "retrains": retrains,
        "head": head.name,
        "features": weight.shape[1],
        "used": int((weight != 0).any(0).sum()),
        "regressions": 1 if K == 2 else K,
        "unconverged": fits.unconverged,
    }
    note(f"DFR: C = {C:g}, {record['used']} of {record['features']} features used.")
    if source == "validation":
        sees = "group labels of validation"
    else:
        sees = "group labels of training" + (" and validation" if tuned else "")
    return Baseline(with_head(model, head, weight, bias), sees, record)


class _Fits:
    """Logistic regressions on standardised features, as layers on the features as they are.

    Args:
        K: number of classes.
        seed: of liblinear.

    Attributes:
        unconverged: how many ended at the limit of iterations.
    """

    def __init__(self, K: int, seed: int) -> None:
        self.K = K
        self.seed = seed
        self.unconverged = 0

    def fit(self, features: _Features, scale: _Scale, C: float) -> _Linear:
        """The layer (K, F) of one ℓ1-regularised fit; with two classes its logits are ∓z/2."""
        x = ((features.values - scale.mean) / scale.std).numpy()
        y = features.labels.numpy()
        against_rest = [1] if self.K == 2 else range(self.K)
        rows = [self._one(x, y == k, C) for k in against_rest]
        weight = torch.from_numpy(np.stack([w for w, _ in rows])) / scale.std
        bias = torch.tensor([b for _, b in rows], dtype=torch.float64) - weight @ scale.mean
        if self.K == 2:
            weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
        return _Linear(weight, bias)

    def _one(self, x: Any, y: Any, C: float) -> tuple[Any, float]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        regression = LogisticRegression(l1_ratio=1, C=C, solver="liblinear", random_state=self.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # counted instead
            regression.fit(x, y)
        self.unconverged += int(regression.n_iter_.max() >= regression.max_iter)
        return regression.coef_[0], float(regression.intercept_[0])


def _require_scikit_learn() -> None:
    """Refuse to go on without a scikit-learn whose ℓ1 penalty is asked for by `l1_ratio`."""
    try:
        import sklearn
    except ModuleNotFoundError:
        raise ConfigError("DFR needs scikit-learn: pip install 'lvlm-va[baselines]'") from None
    # Before 1.8 `l1_ratio=1` alone is the ℓ2 penalty.
    if tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 8):
        raise ConfigError(
            f"DFR needs scikit-learn 1.8 or newer, here is {sklearn.__version__}: "
            "pip install 'lvlm-va[baselines]'"
        )


def _check_classes(images: ImageSet, part: str, K: int) -> None:
    present = set(images.labels.tolist())
    missing = [str(images.class_names[k]) for k in range(K) if k not in present]
    if missing:
        raise DataError(f"DFR needs {part} images of every class; there is none of {', '.join(missing)}")


def _check_halves(groups: Groups) -> None:
    alone = [name for name, size in group_sizes(groups).items() if size == 1]
    if alone:
        raise DataError(
            "DFR chooses C on one half of the validation set, and there is a single validation image of "
            f"{', '.join(alone)}; hold out more images, or give one C"
        )


def _scale(values: Tensor) -> _Scale:
    """Mean and standard deviation (dividing by n) of each feature; 1 where a feature is constant."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(values.numpy())
    return _Scale(torch.from_numpy(scaler.mean_), torch.from_numpy(scaler.scale_))


def _halves(groups: Groups, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Positions of two halves, drawn group by group; of an odd number the first half gets one more."""
    first, second = [], []
    for g in range(len(groups.names)):
        members = (groups.of == g).nonzero()[:, 0]
        members = members[torch.randperm(len(members), generator=generator)]
        half = -(-len(members) // 2)
        first.append(members[:half])
        second.append(members[half:])
    return torch.cat(first).sort().values, torch.cat(second).sort().values
