"""Integrated gradients and gradient SHAP against closed forms, captum and each other."""

import pytest
import torch
from torch import Tensor, nn

from lvlm_va.explain.attribution import attribute


class Quadratic(nn.Module):
    """f_k(x) = Σ_i w_ki x_i²: integrated gradients are w_ki (x_i² − b_i²)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(2 * 9, 3, bias=False).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1).square())


def data(n: int = 5, b: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    images, baselines = (torch.randn(m, 2, 3, 3, generator=g, dtype=torch.float64) for m in (n, b))
    return images, torch.arange(n) % 3, baselines


def smooth_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(18, 9), nn.LayerNorm(9), nn.GELU(), nn.Linear(9, 3)).double()


def test_integrated_gradients_of_a_quadratic():
    net, (images, targets, baselines) = Quadratic(), data()
    weight = net.head.weight[targets].view(-1, 2, 3, 3)
    expected = (weight * (images.square() - baselines.square().mean(0))).sum(1)
    found = attribute(net, images, targets, baselines, method="integrated-gradients", steps=1)
    torch.testing.assert_close(
        found.values, expected
    )  # one Gauss-Legendre node suffices for a linear gradient
    assert float(found.completeness_error.max()) < 1e-12


def test_captum_agrees_on_integrated_gradients():
    captum = pytest.importorskip("captum.attr")
    net, (images, targets, baselines) = smooth_net(), data()
    explainer = captum.IntegratedGradients(net)
    expected = torch.stack(
        [explainer.attribute(images, b[None], targets, n_steps=40, method="gausslegendre") for b in baselines]
    )
    found = attribute(net, images, targets, baselines, method="integrated-gradients", steps=40)
    torch.testing.assert_close(found.values, expected.mean(0).sum(1).detach())


def test_more_steps_are_more_complete():
    errors = [
        float(
            attribute(
                smooth_net(), *data(), method="integrated-gradients", steps=s, tolerance=9.0
            ).completeness_error.max()
        )
        for s in (2, 8, 32)
    ]
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


def test_gradient_shap_tends_to_integrated_gradients():
    net, (images, targets, baselines) = smooth_net(), data(n=2, b=3)
    limit = attribute(net, images, targets, baselines, method="integrated-gradients").values
    sampled = attribute(
        net,
        images,
        targets,
        baselines,
        method="gradient-shap",
        steps=20_000,
        batch_size=500,
        baseline_chunk=500,
    )
    assert float((sampled.values - limit).abs().max()) < 0.03 * float(limit.abs().max())
    assert float(sampled.completeness_error.max()) > 0  # shown, not refused


def test_gradient_shap_is_deterministic_by_seed_and_blind_to_batches():
    net, batch = smooth_net(), data()
    first = attribute(net, *batch, method="gradient-shap", seed=3).values
    torch.manual_seed(99)
    again = attribute(net, *batch, method="gradient-shap", seed=3, batch_size=2, baseline_chunk=1).values
    torch.testing.assert_close(first, again)
    assert not torch.allclose(first, attribute(net, *batch, method="gradient-shap", seed=4).values)


@pytest.mark.parametrize("method", ["integrated-gradients", "gradient-shap"])
def test_a_linear_network_is_exact_for_every_method(method):
    net, (images, targets, baselines) = nn.Sequential(nn.Flatten(), nn.Linear(18, 3)).double(), data(b=1)
    weight = net[1].weight[targets].view(-1, 2, 3, 3)
    found = attribute(net, images, targets, baselines, method=method)
    torch.testing.assert_close(found.values, (weight * (images - baselines)).sum(1))
    assert found.method == method
