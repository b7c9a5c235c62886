"""The right-reasons penalty against its closed form, central differences and the definition of Ross et al."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lvlm_va.alignment.rrr import parameter_norm, right_reasons


def penalty(model: Callable[[Tensor], Tensor], images: Tensor, masks: Tensor) -> Tensor:
    images = images.detach().requires_grad_()
    return right_reasons(model(images).log_softmax(1), images, masks)


def linear(K: int, C: int, H: int, W: int, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(C * H * W, K)).double()


def mlp(C: int, H: int, W: int) -> nn.Module:
    torch.manual_seed(3)
    hidden = 7
    # Smooth, so that finite differences of second derivatives mean something.
    return nn.Sequential(
        nn.Flatten(), nn.Linear(C * H * W, hidden), nn.Softplus(), nn.Linear(hidden, 4)
    ).double()


@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(1, 4),
    K=st.integers(2, 6),
    C=st.integers(1, 3),
    H=st.integers(1, 4),
    W=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_closed_form_of_a_linear_softmax(n: int, K: int, C: int, H: int, W: int, seed: int) -> None:
    """∂/∂x Σ_k log ŷ_k = Σ_k w_k − K Σ_k ŷ_k w_k."""
    model = linear(K, C, H, W, seed)
    images = torch.rand(n, C, H, W, dtype=torch.float64)
    masks = torch.rand(n, H, W) < 0.5
    weight = model[1].weight.detach()  # type: ignore[index]
    probabilities = model(images).softmax(1).detach()
    gradient = (weight.sum(0) - K * probabilities @ weight).view(n, C, H, W)
    expected = torch.zeros(n, dtype=torch.float64)
    for image in range(n):
        for channel in range(C):
            expected[image] += gradient[image, channel][masks[image]].square().sum()
    torch.testing.assert_close(penalty(model, images, masks).detach(), expected, rtol=1e-9, atol=1e-12)


def test_equals_the_definition_of_ross_by_central_differences() -> None:
    model = mlp(2, 3, 4)
    g = torch.Generator().manual_seed(5)
    images = torch.rand(3, 2, 3, 4, dtype=torch.float64, generator=g)
    masks = torch.rand(3, 3, 4, generator=g) < 0.5

    def sum_of_logs(x: Tensor) -> float:
        return model(x[None]).log_softmax(1).sum().item()

    step, expected = 1e-5, []
    for image, mask in zip(images, masks, strict=True):
        total = 0.0
        for c, h, w in torch.ones_like(image).nonzero().tolist():
            moved = torch.zeros_like(image)
            moved[c, h, w] = step
            slope = (sum_of_logs(image + moved) - sum_of_logs(image - moved)) / (2 * step)
            total += (float(mask[h, w]) * slope) ** 2
        expected.append(total)
    torch.testing.assert_close(
        penalty(model, images, masks).detach(),
        torch.tensor(expected, dtype=torch.float64),
        rtol=1e-7,
        atol=1e-10,
    )


def test_the_double_backward_equals_differences_of_the_penalty() -> None:
    model = mlp(1, 3, 3)
    g = torch.Generator().manual_seed(6)
    images = torch.rand(4, 1, 3, 3, dtype=torch.float64, generator=g)
    masks = torch.rand(4, 3, 3, generator=g) < 0.5
    model.zero_grad()
    torch.autograd.backward(penalty(model, images, masks).sum())
    step, largest = 1e-5, 0.0
    for parameter in model.parameters():
        # A bias may leave no trace in the gradient: then autograd gives none.
        analytic = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        flat = parameter.data.view(-1)
        for i in range(len(flat)):
            before = flat[i].item()
            values = []
            for sign in (1, -1):
                flat[i] = before + sign * step
                values.append(penalty(model, images, masks).sum().item())
            flat[i] = before
            difference = (values[0] - values[1]) / (2 * step)
            assert analytic.view(-1)[i].item() == pytest.approx(difference, rel=1e-5, abs=1e-7)
            largest = max(largest, abs(difference))
    assert largest > 0.01, "the penalty moves the parameters"


def test_the_penalty_of_an_image_is_its_own() -> None:
    model = mlp(1, 3, 3)
    images = torch.rand(5, 1, 3, 3, dtype=torch.float64)
    masks = torch.rand(5, 3, 3) < 0.5
    together = penalty(model, images, masks)
    alone = torch.cat([penalty(model, images[n : n + 1], masks[n : n + 1]) for n in range(5)])
    torch.testing.assert_close(together, alone)


def test_empty_masks_cost_nothing_and_pull_nowhere() -> None:
    model = mlp(3, 4, 4)
    images = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[1, 2, 2] = True
    value = penalty(model, images, masks)
    assert value[0].item() == 0
    assert value[1].item() > 0
    torch.autograd.backward(value[0])
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_a_mask_holds_for_every_channel() -> None:
    model = mlp(3, 4, 4)
    images = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    masks = torch.rand(2, 4, 4) < 0.5
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(leaf).log_softmax(1).sum(), leaf)
    by_channel = sum((gradient[:, c] * masks).square().sum((1, 2)) for c in range(3))
    torch.testing.assert_close(penalty(model, images, masks).detach(), by_channel)


def test_weights_between_0_and_1_count_squared() -> None:
    model = mlp(1, 3, 3)
    images = torch.rand(2, 1, 3, 3, dtype=torch.float64)
    full = torch.ones(2, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(penalty(model, images, 0.5 * full), 0.25 * penalty(model, images, full))


@pytest.mark.parametrize("scale", [255.0, 0.1])
def test_units_of_the_pixel_range(scale: float) -> None:
    """Pixels in 0..s instead of 0..1: the same model's penalty is s² times smaller."""
    model = mlp(1, 3, 3)
    images = torch.rand(2, 1, 3, 3, dtype=torch.float64)
    masks = torch.ones(2, 3, 3, dtype=torch.bool)
    rescaled = penalty(lambda x: model(x / scale), images * scale, masks)
    torch.testing.assert_close(rescaled, penalty(model, images, masks) / scale**2)


def test_parameter_norm_runs_over_what_is_trained() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    with torch.no_grad():
        for value, parameter in enumerate(model.parameters(), start=1):
            parameter.fill_(value)
    # 4 weights of 1, 2 biases of 2, 2 weights of 3, 1 bias of 4
    assert parameter_norm(model).item() == 4 * 1 + 2 * 4 + 2 * 9 + 1 * 16
    model[0].requires_grad_(False)
    norm = parameter_norm(model)
    assert norm.item() == 2 * 9 + 1 * 16
    torch.autograd.backward(norm)
    grad = model[1].weight.grad
    assert grad is not None
    assert grad.tolist() == [[6.0, 6.0]], "∂ Σθ² = 2θ, not halved"
    assert parameter_norm(nn.ReLU()).item() == 0
