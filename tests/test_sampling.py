"""Which images are critiqued, against sorted lists and the laws of each strategy."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lvlm_va.errors import ConfigError, DataError, ModelError
from lvlm_va.explain.sampling import describe, predictive_entropy, select

STRATEGIES = ("lowest", "balanced", "random", "highest")


@st.composite
def images(draw: st.DrawFn) -> tuple[Tensor, Tensor, int, int]:
    """Entropies with many ties, labels, the number of classes (some empty), and how many to choose."""
    K = draw(st.integers(1, 5))
    N = draw(st.integers(1, 40))
    entropy = draw(st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.5]), min_size=N, max_size=N))
    labels = draw(st.lists(st.integers(0, K - 1), min_size=N, max_size=N))
    return torch.tensor(entropy), torch.tensor(labels), K, draw(st.integers(1, N))


def test_entropy_equals_scipy() -> None:
    logits = 10 * torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    expected = scipy.stats.entropy(torch.softmax(logits.double(), 1).numpy(), axis=1)
    np.testing.assert_allclose(predictive_entropy(logits), expected, rtol=1e-12, atol=1e-15)


def test_entropy_of_certain_and_clueless_models() -> None:
    entropy = predictive_entropy(torch.tensor([[5.0, 5, 5, 5], [0, -math.inf, -math.inf, -math.inf]]))
    assert entropy[0].item() == pytest.approx(math.log(4))
    assert entropy[1].item() == 0


def test_entropy_tells_very_sure_predictions_apart() -> None:
    # Closed form for two classes a margin m apart: about (m + 1) exp(−m).
    entropy = predictive_entropy(torch.tensor([[20.0, 0.0], [25.0, 0.0], [30.0, 0.0]]))
    for found, m in zip(entropy.tolist(), (20, 25, 30), strict=True):
        assert found == pytest.approx((m + 1) * math.exp(-m), rel=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_outputs_that_are_no_numbers(bad: float) -> None:
    logits = torch.zeros(4, 3)
    logits[2, 1] = bad
    with pytest.raises(ModelError, match=r"1 of 4 images \(the first is number 2\)"):
        predictive_entropy(logits)


@pytest.mark.parametrize("shape", [(4,), (4, 3, 1), (4, 0)])
def test_outputs_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"must have shape \(N, K\)"):
        predictive_entropy(torch.zeros(shape))


@given(images())
def test_lowest_and_highest_equal_a_sorted_list(case: tuple[Tensor, Tensor, int, int]) -> None:
    entropy, labels, K, n = case
    by_entropy = sorted(range(len(entropy)), key=lambda i: (entropy[i].item(), i))
    by_falling_entropy = sorted(range(len(entropy)), key=lambda i: (-entropy[i].item(), i))
    lowest = select(entropy, labels, n, strategy="lowest", num_classes=K, seed=0)
    highest = select(entropy, labels, n, strategy="highest", num_classes=K, seed=0)
    assert lowest.tolist() == by_entropy[:n]
    assert highest.tolist() == by_falling_entropy[:n]


@given(images())
def test_balanced_fills_every_class_evenly_with_its_surest_images(
    case: tuple[Tensor, Tensor, int, int],
) -> None:
    entropy, labels, K, n = case
    chosen = select(entropy, labels, n, strategy="balanced", num_classes=K, seed=0)
    counts = labels[chosen].bincount(minlength=K)
    sizes = labels.bincount(minlength=K)
    for k in range(K):
        assert counts[k] >= counts.max() - 1 or counts[k] == sizes[k], "only an exhausted class lags behind"
        members = sorted((i for i in range(len(labels)) if labels[i] == k), key=lambda i: (entropy[i], i))
        assert [i for i in chosen.tolist() if labels[i] == k] == members[: counts[k]]


@settings(deadline=None)
@given(images(), st.sampled_from(STRATEGIES), st.integers(0, 3))
def test_no_image_twice_and_a_larger_choice_extends_a_smaller(
    case: tuple[Tensor, Tensor, int, int], strategy: str, seed: int
) -> None:
    entropy, labels, K, n = case

    def choose(m: int) -> list[int]:
        return select(entropy, labels, m, strategy=strategy, num_classes=K, seed=seed).tolist()  # type: ignore[arg-type]

    everything = choose(len(entropy))
    assert sorted(everything) == list(range(len(entropy)))
    assert choose(n) == everything[:n]


def test_random_follows_its_seed() -> None:
    entropy, labels = torch.rand(200), torch.zeros(200, dtype=torch.int64)

    def choose(seed: int) -> list[int]:
        return select(entropy, labels, 50, strategy="random", num_classes=1, seed=seed).tolist()

    assert choose(1) == choose(1)
    assert set(choose(1)) != set(choose(2))


def test_random_does_not_touch_the_global_generator() -> None:
    entropy, labels = torch.rand(9), torch.zeros(9, dtype=torch.int64)
    before = torch.get_rng_state()
    select(entropy, labels, 3, strategy="random", num_classes=1, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_selection_says_what_it_holds() -> None:
    entropy = torch.tensor([0.3, 0.1, 0.2, 0.4])
    labels = torch.tensor([0, 2, 2, 1])
    chosen = select(entropy, labels, 3, strategy="lowest", num_classes=4, seed=0)
    spurious = torch.tensor([True, True, False, False])
    said = describe(chosen, entropy, labels, strategy="lowest", num_classes=4, spurious=spurious)
    assert said.indices.tolist() == [1, 2, 0]
    torch.testing.assert_close(said.entropy, torch.tensor([0.1, 0.2, 0.3]).double())
    assert said.class_counts == (1, 0, 2, 0)
    assert said.spurious_share == pytest.approx(2 / 3)
    unknown = describe(chosen, entropy, labels, strategy="lowest", num_classes=4)
    assert unknown.spurious_share is None


def test_impossible_choices() -> None:
    entropy, labels = torch.rand(5), torch.tensor([0, 1, 0, 1, 1])

    def choose(n: int, *, strategy: str = "lowest", labels: Tensor = labels, K: int = 2) -> None:
        select(entropy, labels, n, strategy=strategy, num_classes=K, seed=0)  # type: ignore[arg-type]

    with pytest.raises(DataError, match=r"6 images to select, but the set holds only 5"):
        choose(6)
    with pytest.raises(ConfigError, match=r"0 images to select"):
        choose(0)
    with pytest.raises(ConfigError, match=r"'lowset'; did you mean 'lowest'\?"):
        choose(2, strategy="lowset")
    with pytest.raises(ConfigError, match=r"strategy 'xyz'; known are"):
        choose(2, strategy="xyz")
    with pytest.raises(DataError, match=r"5 entropies, but 4 labels"):
        choose(2, labels=labels[:4])
    with pytest.raises(DataError, match=r"labels run from 0 to 1, but there are 1 classes"):
        choose(2, K=1)
    entropy[3] = math.nan
    with pytest.raises(ModelError, match=r"the first is number 3"):
        choose(2)
