"""Accuracy, μ_align and the quality of verdicts against closed forms and brute force."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import small
from lvlm_va.evaluate.accuracy import accuracy
from lvlm_va.evaluate.alignment import mu_align
from lvlm_va.evaluate.verdicts import segments_beside, segments_with_feature, verdict_quality
from lvlm_va.models.predict import logits


def test_accuracy_is_the_plain_average_over_images() -> None:
    outputs = torch.tensor([[2.0, 1], [0, 1], [3, 1], [-1, -2]])
    assert accuracy(outputs, torch.tensor([0, 1, 1, 1])) == 0.5
    # 3 of 4 of class 0 right, 0 of 1 of class 1: the average over classes would be 0.375.
    outputs = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1], [1, 0]])
    assert accuracy(outputs, torch.tensor([0, 0, 0, 0, 1])) == 0.6


class Marked(nn.Module):
    """Tells every image by the brightness of its first pixel, and whether it is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.9)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(torch.stack([x[:, 0, 0, 0], torch.ones(len(x))], 1))


@pytest.mark.parametrize("batch", [1, 7, 512])
def test_logits_in_order_whatever_the_batch(batch: int) -> None:
    images = small.shapes(20, seed=0, betrayed=True)
    expected = images.pixels[:, 0, 0, 0]
    model = Marked().train()
    outputs = logits(model, images, batch=batch)
    torch.testing.assert_close(outputs[:, 0], expected)
    assert model.training, "the mode is restored"
    chosen = torch.tensor([7, 3, 3, 19])
    torch.testing.assert_close(logits(model, images, chosen, batch=batch)[:, 0], expected[chosen])
    assert not logits(model.eval(), images).requires_grad
    assert not model.training


def test_mu_align_in_closed_form() -> None:
    attribution = torch.zeros(4, 2, 2)
    spurious = torch.zeros(4, 2, 2, dtype=torch.bool)
    spurious[:, 0, 0] = True
    attribution[0] = torch.tensor([[3.0, 1], [0, 0]])  # 3/4 on the feature
    attribution[1] = torch.tensor([[-3.0, 1], [0, 0]])  # against the class: it leans on it as well
    attribution[2] = torch.tensor([[0.0, 5], [-5, 0]])
    attribution[3] = torch.tensor([[7.0, 0], [0, 0]])
    result = mu_align(attribution, spurious)
    assert result.per_image.tolist() == [0.25, 0.25, 1.0, 0.0]
    assert result.mean == 0.375
    assert result.std == pytest.approx(math.sqrt((2 * 0.125**2 + 0.625**2 + 0.375**2) / 4))
    assert result.undefined == 0


def test_an_image_without_attribution_is_left_out_and_counted() -> None:
    attribution = torch.zeros(3, 2, 2)
    attribution[1, 1, 1] = 2
    spurious = torch.ones(3, 2, 2, dtype=torch.bool)
    spurious[1, 1, 1] = False
    result = mu_align(attribution, spurious)
    assert (result.mean, result.std, result.undefined) == (1, 0, 2)
    assert result.per_image.isnan().tolist() == [True, False, True]
    nothing = mu_align(torch.zeros(2, 2, 2), spurious[:2])
    assert math.isnan(nothing.mean)
    assert nothing.undefined == 2


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), scale=st.floats(1e-3, 1e3))
def test_mu_align_does_not_know_units_and_its_complement_adds_up(seed: int, scale: float) -> None:
    g = torch.Generator().manual_seed(seed)
    attribution = torch.randn(3, 4, 5, generator=g)
    spurious = torch.rand(3, 4, 5, generator=g) < 0.4
    result = mu_align(attribution, spurious)
    assert 0 <= result.mean <= 1
    assert mu_align(scale * attribution, spurious).mean == pytest.approx(result.mean)
    assert result.mean + mu_align(attribution, ~spurious).mean == pytest.approx(1)


@settings(deadline=None, max_examples=50)
@given(
    n=st.integers(1, 4),
    H=st.integers(1, 5),
    W=st.integers(1, 5),
    J=st.integers(1, 5),
    seed=st.integers(0, 10_000),
)
def test_segments_with_feature_equals_brute_force(n: int, H: int, W: int, J: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, J + 1, (n, H, W), generator=g).to(torch.int16)
    spurious = torch.rand(n, H, W, generator=g) < 0.2
    found = segments_with_feature(labels, spurious, J)
    assert found.shape == (n, J)
    for image in range(n):
        for j in range(1, J + 1):
            held = any(labels[image, r, c] == j and spurious[image, r, c] for r in range(H) for c in range(W))
            assert found[image, j - 1].item() == held


def test_verdict_quality_counts() -> None:
    truth = torch.tensor([[True, True, True, False], [False, False, True, True]])
    verdicts = torch.tensor([[1, 0, -1, 1], [0, -1, -2, 1]])
    quality = verdict_quality(verdicts, truth)
    assert quality.flagged == 3
    assert quality.flagged_right == 2
    assert quality.spurious == 4, "of five, one is no segment; an unscored one counts"
    assert quality.scored == 5
    assert quality.unscored == 2
    assert quality.accuracy == pytest.approx(2 / 3)
    assert quality.recall == pytest.approx(2 / 4)


def test_shares_of_nothing_are_not_numbers() -> None:
    quality = verdict_quality(torch.tensor([[0, -1]]), torch.tensor([[False, False]]))
    assert math.isnan(quality.accuracy)
    assert math.isnan(quality.recall)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000))
def test_verdict_quality_equals_brute_force(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    verdicts = torch.randint(-2, 2, (4, 3), generator=g)
    truth = torch.rand(4, 3, generator=g) < 0.5
    pairs = list(zip(verdicts.flatten().tolist(), truth.flatten().tolist(), strict=True))
    quality = verdict_quality(verdicts, truth)
    assert quality.flagged == sum(v == 1 for v, _ in pairs)
    assert quality.flagged_right == sum(v == 1 and t for v, t in pairs)
    assert quality.spurious == sum(v != -2 and t for v, t in pairs)
    assert quality.scored + quality.unscored == sum(v != -2 for v, _ in pairs)
    assert quality.unscored == sum(v == -1 for v, _ in pairs)


def test_segments_beside_what_is_relevant() -> None:
    labels = torch.zeros(2, 20, 20, dtype=torch.int16)
    labels[:, :, :10], labels[:, :, 10:] = 1, 2
    relevant = torch.zeros(2, 20, 20, dtype=torch.bool)
    relevant[0, 5:15, 2:8] = True  # in segment 1 only; the second image has nothing relevant
    assert segments_beside(labels, relevant, 3).tolist() == [[False, True, False], [False, False, False]]
    relevant[0, 5:7, 10] = True  # 2 of 200 pixels, and 2 of 62: it grazes the object
    assert segments_beside(labels, relevant, 2)[0].tolist() == [False, True]
    relevant[0, 5:15, 10] = True  # 10 of 200 pixels
    assert segments_beside(labels, relevant, 2)[0].tolist() == [False, False]
    relevant[0] = False
    relevant[0, 0, 10] = True  # one pixel, but all there is
    assert segments_beside(labels, relevant, 2)[0].tolist() == [True, False]
