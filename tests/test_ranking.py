"""AUROC and average precision, against scikit-learn where it is installed and by hand."""

import math

import pytest
import torch

from lvlm_va.evaluate.ranking import ranking


def test_by_hand() -> None:
    """Of the second class, best first: right, wrong, right, and a right and a wrong one that tie."""
    scores = torch.tensor([4.0, 3.0, 2.0, 1.0, 1.0])
    labels = torch.tensor([1, 0, 1, 1, 0])
    found = ranking(torch.stack([-scores / 2, scores / 2], 1), labels, ("no", "yes"))
    assert found.auroc["yes"] == pytest.approx((1 + 1 + 0 + 1 + 0 + 0.5) / 6)
    assert found.auroc["no"] == pytest.approx(found.auroc["yes"])
    assert found.average_precision["yes"] == pytest.approx((1 + 2 / 3 + 3 / 5) / 3)


def test_a_class_without_images_has_none() -> None:
    found = ranking(torch.randn(4, 3), torch.tensor([0, 0, 1, 1]), "abc")
    assert math.isnan(found.auroc["c"])
    assert math.isnan(found.average_precision["c"])
    assert math.isnan(ranking(torch.zeros(0, 2), torch.zeros(0).long(), "ab").auroc["a"])


def test_sure_answers_are_still_ranked() -> None:
    """Probabilities that are all 1 in float64 come from logits that are not."""
    scores = torch.tensor([50.0, 60.0, 70.0, 80.0])
    found = ranking(torch.stack([torch.zeros(4), scores], 1), torch.tensor([0, 0, 1, 1]), "ab")
    assert found.auroc["b"] == found.average_precision["b"] == 1


@pytest.mark.parametrize("seed", range(5))
def test_against_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    g = torch.Generator().manual_seed(seed)
    outputs = torch.randint(-3, 4, (40, 3), generator=g) / 2  # with ties
    labels = torch.randint(3, (40,), generator=g)
    found = ranking(outputs, labels, "abc")
    odds = [
        outputs[:, k] - outputs[:, [j for j in range(3) if j != k]].double().logsumexp(1) for k in range(3)
    ]
    for k, name in enumerate("abc"):
        truth = (labels == k).numpy()
        score = odds[k].numpy()
        assert found.auroc[name] == pytest.approx(metrics.roc_auc_score(truth, score), abs=1e-12)
        assert found.average_precision[name] == pytest.approx(
            metrics.average_precision_score(truth, score), abs=1e-12
        )
