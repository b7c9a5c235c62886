"""Mixed batches and fine-tuning: what is counted, what stays as it was, and that it teaches."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor, nn

import small
from lvlm_va.alignment.fine_tune import AlignmentSet, FineTuning, fine_tune, mixed_batches
from lvlm_va.data.imageset import ArrayImageSet
from lvlm_va.errors import ConfigError, ModelError
from lvlm_va.evaluate.accuracy import accuracy
from lvlm_va.evaluate.alignment import mu_align
from lvlm_va.explain.attribution import attribute
from lvlm_va.models.predict import logits
from lvlm_va.training.train import train


def tuning(lam: float, **changes: object) -> FineTuning:
    given = {"epochs": 2, "training_batch": 16, "alignment_batch": 8, "learning_rate": 3e-3}
    return FineTuning(lam, **given | changes)  # type: ignore[arg-type]


def true_masks(images: ArrayImageSet, n: int = 24) -> AlignmentSet:
    indices = torch.arange(n)
    masks = images.spurious_masks(indices)
    assert masks is not None
    return AlignmentSet(indices, masks)


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.state_dict().values()]


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


@hypothesis_settings(deadline=None, max_examples=60)
@given(
    training=st.integers(1, 60),
    alignment=st.integers(0, 40),
    I_s=st.integers(1, 20),
    I_a=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_an_epoch_of_mixed_batches(training: int, alignment: int, I_s: int, I_a: int, seed: int) -> None:
    settings = FineTuning(0.1, training_batch=I_s, alignment_batch=I_a)
    batches = list(mixed_batches(training, alignment, settings, torch.Generator().manual_seed(seed)))
    alone = I_s > 1 and training > I_s and training % I_s == 1  # who would be, joins the batch before
    assert len(batches) == math.ceil(training / I_s) - alone
    samples = [i for chosen, _ in batches for i in chosen.tolist()]
    assert sorted(samples) == list(range(training)), "every training sample once"
    assert all(len(chosen) == I_s for chosen, _ in batches[:-1])
    assert len(batches[-1][0]) <= I_s + alone
    assert all(len(critiqued) == (I_a if alignment else 0) for _, critiqued in batches)
    if alignment:
        counts = torch.cat([critiqued for _, critiqued in batches]).bincount(minlength=alignment)
        assert len(counts) == alignment
        assert counts.max() - counts.min() <= 1, "each alignment sample as often as any other"


def test_epochs_come_in_different_orders() -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = (list(mixed_batches(40, 10, tuning(0.1), generator)) for _ in range(2))
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(one, two, strict=True))


def test_the_original_is_not_changed() -> None:
    images = small.shapes(48, seed=1, betrayed=True)
    model = small.untrained()
    model.layers[1].bias.requires_grad_(False)  # type: ignore[union-attr, operator]
    model.train()
    model(images.images(torch.arange(4))).sum().backward()
    before, grads = weights(model), [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    frozen = [p.requires_grad for p in model.parameters()]
    aligned, _ = fine_tune(model, images, true_masks(images), tuning(0.1))
    assert model.training
    assert not aligned.training
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))
    assert [p.requires_grad for p in model.parameters()] == frozen
    for parameter, grad in zip(model.parameters(), grads, strict=True):
        assert (parameter.grad is None) == (grad is None)
        assert grad is None or parameter.grad is None or torch.equal(parameter.grad, grad)
    moved = [not torch.equal(a, b) for a, b in zip(before, weights(aligned), strict=True)]
    assert moved == frozen, "what is frozen stays, the rest moves"


def test_a_model_without_anything_to_train() -> None:
    images = small.shapes(12, seed=1, betrayed=True)
    with pytest.raises(ModelError, match="unfreeze"):
        fine_tune(small.untrained().requires_grad_(False), images, true_masks(images, 4), tuning(0.1))


class Dropping(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(144, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))


def test_deterministic_by_seed_even_with_dropout() -> None:
    images = small.shapes(48, seed=1, betrayed=True)
    torch.manual_seed(1)
    model = Dropping()

    def tuned(seed: int) -> nn.Module:
        torch.rand(7)  # whatever else draws from torch's generator
        settings = tuning(0.1, jitter=0.1, seed=seed)
        return fine_tune(model, images, true_masks(images), settings)[0]

    first = tuned(0)
    state = torch.get_rng_state()
    again = fine_tune(model, images, true_masks(images), tuning(0.1, jitter=0.1, seed=0))[0]
    assert torch.equal(torch.get_rng_state(), state), "the caller's generator is left alone"
    assert same(first, again)
    assert same(first, tuned(0))
    assert not same(first, tuned(1))

    def trained(seed: int) -> nn.Module:
        torch.rand(7)
        fresh = copy.deepcopy(model)
        train(fresh, images, epochs=2, batch=16, seed=seed)
        return fresh

    assert same(trained(0), trained(0))
    assert not same(trained(0), trained(1))


def test_no_penalty_is_plain_fine_tuning() -> None:
    images = small.shapes(48, seed=1, betrayed=True)
    model = small.untrained()
    alignment = true_masks(images)
    empty = AlignmentSet(alignment.indices, torch.zeros_like(alignment.masks))
    plain, history = fine_tune(model, images, alignment, tuning(0.0))
    assert [epoch.right_reasons for epoch in history] == [0, 0]
    nothing_masked, history = fine_tune(model, images, empty, tuning(5.0))
    assert [epoch.right_reasons for epoch in history] == [0, 0]
    assert same(plain, nothing_masked)
    assert not same(plain, fine_tune(model, images, alignment, tuning(5.0))[0])


def test_an_empty_alignment_set_is_ordinary_training() -> None:
    images = small.shapes(48, seed=1, betrayed=True)
    nothing = AlignmentSet(torch.empty(0, dtype=torch.int64), torch.empty(0, 12, 12, dtype=torch.bool))
    aligned, _ = fine_tune(small.untrained(), images, nothing, tuning(5.0, decay="cosine", seed=4))
    ordinary = small.untrained()
    train(ordinary, images, epochs=2, batch=16, learning_rate=3e-3, seed=4)
    for a, b in zip(weights(aligned), weights(ordinary), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("jitter", [0.0, 0.2])
def test_the_terms_of_one_step_written_out_again(jitter: float) -> None:
    """One iteration: all training samples and every alignment sample once, whatever the order."""
    images = small.shapes(12, seed=1, betrayed=True)
    model = small.trained()
    alignment = true_masks(images, 6)
    settings = FineTuning(
        0.3, gamma=0.01, epochs=1, training_batch=12, alignment_batch=6, jitter=jitter, learning_rate=1e-3
    )
    aligned, (epoch,) = fine_tune(model, images, alignment, settings)

    # The same draws in the same order: the deck of alignment samples, the training samples, the noise.
    g = torch.Generator().manual_seed(0)
    deck, order = torch.randperm(6, generator=g), torch.randperm(12, generator=g)
    critiqued = images.images(alignment.indices[deck])
    if jitter:
        critiqued = critiqued + jitter * torch.randn(critiqued.shape, generator=g)
    net = copy.deepcopy(model)
    x = critiqued.clone().requires_grad_()
    log_y = net(x).softmax(1).log()
    entropy = -torch.cat(
        [
            log_y[torch.arange(6), images.labels[alignment.indices[deck]]],
            net(images.images(order)).softmax(1).log()[torch.arange(12), images.labels[order]],
        ]
    ).mean()
    (slope,) = torch.autograd.grad(log_y.sum(), x, create_graph=True)
    reasons = (slope[:, 0] ** 2 * alignment.masks[deck]).sum() / 6
    norm = torch.stack([(p**2).sum() for p in net.parameters()]).sum()
    assert epoch.cross_entropy == pytest.approx(entropy.item(), rel=1e-5)
    assert epoch.right_reasons == pytest.approx(reasons.item(), rel=1e-5)
    assert epoch.parameter_norm == pytest.approx(norm.item(), rel=1e-5)

    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    (entropy + 0.3 * reasons + 0.01 * norm).backward()
    optimizer.step()
    for a, b in zip(weights(aligned), weights(net), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_the_step_size_falls_as_a_half_cosine_or_not_at_all() -> None:
    """After the first of two iterations a cosine is at half: Adam's second step is half as long."""
    images = small.shapes(16, seed=1, betrayed=True)
    model = small.untrained()
    nothing = AlignmentSet(torch.empty(0, dtype=torch.int64), torch.empty(0, 12, 12, dtype=torch.bool))
    settings = {"epochs": 2, "training_batch": 16, "learning_rate": 1e-6}
    after = {
        decay: weights(fine_tune(model, images, nothing, tuning(0.0, decay=decay, **settings))[0])[0]
        for decay in ("cosine", "none")
    }
    start = weights(model)[0]
    used = (after["none"] - start).abs() > 1.5e-6  # Adam moves a weight with a gradient by one step size
    ratio = (after["cosine"] - start)[used] / (after["none"] - start)[used]
    assert ratio.median().item() == pytest.approx(0.75, abs=0.02)
    with pytest.raises(ConfigError, match=r"align\.decay is 'linear'"):
        fine_tune(model, images, nothing, tuning(0.0, decay="linear"))


def test_a_loss_that_is_not_finite_names_lambda() -> None:
    images = small.shapes(48, seed=1, betrayed=True)
    with pytest.raises(ModelError, match=r"λ = 1e\+38; choose a smaller align\.lambda"):
        fine_tune(small.trained(), images, true_masks(images), tuning(1e38, learning_rate=10.0))
    with pytest.raises(ModelError, match=r"of training; choose a smaller model\.learning_rate"):
        train(small.untrained(), images, epochs=20, batch=4, learning_rate=1e30)


def test_progress_counts_iterations() -> None:
    images = small.shapes(20, seed=1, betrayed=True)
    said: list[tuple[int, int]] = []
    fine_tune(
        small.untrained(), images, true_masks(images, 4), tuning(0.1), progress=lambda *p: said.append(p)
    )
    assert said == [(1, 4), (2, 4), (3, 4), (4, 4)]
    said.clear()
    train(small.untrained(), images, epochs=1, batch=8, progress=lambda *p: said.append(p))
    assert said == [(1, 3), (2, 3), (3, 3)]


def test_ground_truth_masks_teach_the_model_to_look_elsewhere() -> None:
    parts = small.splits()
    model = small.trained()
    test = parts.tests["test"]

    def measured(candidate: nn.Module) -> tuple[float, float]:
        outputs = logits(candidate, test)
        chosen = torch.arange(100)
        baselines = parts.train.images(torch.arange(8))
        targets = outputs.argmax(1)[chosen]
        explained = attribute(
            candidate, test.images(chosen), targets, baselines, method="deeplift-shap"
        ).values
        truth = test.spurious_masks(chosen)
        assert truth is not None
        return accuracy(outputs, test.labels), mu_align(explained, truth).mean

    settings = FineTuning(0.03, epochs=8, learning_rate=3e-3, training_batch=32, alignment_batch=32)
    assert isinstance(parts.train, ArrayImageSet)
    plain, _ = fine_tune(model, parts.train, true_masks(parts.train, 48), FineTuning(0.0, epochs=8))
    aligned, _ = fine_tune(model, parts.train, true_masks(parts.train, 48), settings)
    before, without, after = measured(model), measured(plain), measured(aligned)
    assert before[0] < 0.65
    assert without[0] < 0.65, "more training alone does not help"
    assert after[0] > 0.85
    assert after[1] > before[1] + 0.05
