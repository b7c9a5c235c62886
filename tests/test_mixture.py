"""Weighted EM against scikit-learn, closed forms and the laws that EM obeys."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from lvlm_va.explain.mixture import (
    PIXEL_VARIANCE,
    Components,
    MixtureFit,
    PixelCloud,
    fit,
    log_joint,
    seed_components,
)


def random_weight(B: int, H: int, W: int, seed: int, *, sparsity: float = 0.5) -> Tensor:
    """Heavy-tailed masses on a random half of the pixels."""
    g = torch.Generator().manual_seed(seed)
    weight = torch.rand(B, H, W, generator=g, dtype=torch.float64).pow(-0.5) - 1
    return weight * (torch.rand(B, H, W, generator=g) > sparsity)


def draws(J: int, seed: int = 0) -> Tensor:
    return torch.rand(J, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fitted(weight: Tensor, J: int, *, seed: int = 0, tolerance: float = 1e-9) -> MixtureFit:
    cloud = PixelCloud.of(weight)
    return fit(cloud, seed_components(cloud, draws(J, seed)), tolerance=tolerance, max_iterations=20_000)


def points(weight: np.ndarray) -> np.ndarray:
    """(n, 2) coordinates (u, v), every pixel as often as its integer weight says."""
    v, u = np.indices(weight.shape)
    return np.repeat(np.stack([u.ravel(), v.ravel()], 1).astype(float), weight.ravel(), axis=0)


@pytest.mark.parametrize(("H", "W", "J"), [(12, 17, 3), (20, 9, 4), (16, 16, 1)])
def test_integer_weights_equal_scikit_learn_on_duplicated_points(H: int, W: int, J: int) -> None:
    weight = torch.randint(0, 5, (1, H, W), generator=torch.Generator().manual_seed(H))
    cloud = PixelCloud.of(weight)
    start = seed_components(cloud, draws(J))
    steps = 30
    ours = fit(cloud, start, tolerance=-math.inf, max_iterations=steps)

    theirs = GaussianMixture(
        J,
        tol=0,
        reg_covar=0,
        max_iter=steps,
        weights_init=start.pi[0].numpy(),
        means_init=start.mu[0].numpy(),
        precisions_init=start.sigma[0].inverse().numpy(),
    )
    X = points(weight[0].numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs.fit(X)
    assert np.linalg.eigvalsh(theirs.covariances_).min() > PIXEL_VARIANCE, "the floor must not bind here"

    np.testing.assert_allclose(ours.components.pi[0], theirs.weights_, rtol=1e-9)
    np.testing.assert_allclose(ours.components.mu[0], theirs.means_, rtol=1e-9)
    np.testing.assert_allclose(ours.components.sigma[0], theirs.covariances_, rtol=1e-8)
    np.testing.assert_allclose(ours.log_likelihood[0], theirs.score(X), rtol=1e-10)
    labels = log_joint(ours.components, (H, W))[0].argmax(0)
    np.testing.assert_array_equal(labels, theirs.predict(points(np.ones((H, W), int))).reshape(H, W))


def test_one_component_is_the_weighted_mean_and_covariance() -> None:
    weight = random_weight(1, 11, 15, 0)
    found = fitted(weight, 1)
    X = points(np.ones((11, 15), int)).T
    p = weight[0].flatten().numpy()
    np.testing.assert_allclose(found.components.mu[0, 0], np.average(X, axis=1, weights=p))
    np.testing.assert_allclose(found.components.sigma[0, 0], np.cov(X, aweights=p, ddof=0))
    assert found.components.pi.item() == 1


def test_floor_binds_across_a_thin_line_and_not_along_it() -> None:
    diagonal = fitted(torch.eye(9)[None], 1).components.sigma[0, 0]
    along = torch.tensor([1.0, 1.0], dtype=torch.float64) / math.sqrt(2)
    across = torch.tensor([1.0, -1.0], dtype=torch.float64) / math.sqrt(2)
    assert along @ diagonal @ along == pytest.approx(2 * (81 - 1) / 12)
    assert across @ diagonal @ across == pytest.approx(PIXEL_VARIANCE)
    assert along @ diagonal @ across == pytest.approx(0, abs=1e-12)

    one_pixel = torch.zeros(1, 5, 6)
    one_pixel[0, 1, 4] = 0.3
    found = fitted(one_pixel, 1)
    torch.testing.assert_close(found.components.sigma[0, 0], PIXEL_VARIANCE * torch.eye(2).double())
    torch.testing.assert_close(found.components.mu[0, 0], torch.tensor([4.0, 1.0]).double())
    assert found.log_likelihood.item() == pytest.approx(-math.log(2 * math.pi * PIXEL_VARIANCE))


def test_log_joint_is_a_density_per_square_pixel() -> None:
    components = fitted(random_weight(2, 8, 13, 1), 3).components
    v, u = torch.meshgrid(torch.arange(8.0), torch.arange(13.0), indexing="ij")
    z = torch.stack([u, v], -1).double().view(1, 1, 8, 13, 2)
    normal = torch.distributions.MultivariateNormal(
        components.mu[:, :, None, None], components.sigma[:, :, None, None]
    )
    expected = components.pi.log()[..., None, None] + normal.log_prob(z)
    torch.testing.assert_close(log_joint(components, (8, 13)), expected)


def test_log_likelihood_is_that_of_the_parameters_returned() -> None:
    weight = random_weight(3, 10, 10, 2)
    found = fitted(weight, 2, tolerance=1e-2)
    p = weight / weight.sum((1, 2), keepdim=True)
    density = log_joint(found.components, (10, 10)).logsumexp(1)
    torch.testing.assert_close(found.log_likelihood, (p * density).sum((1, 2)))


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    sides=st.tuples(st.integers(2, 14), st.integers(2, 14)),
    J=st.integers(1, 5),
    sparsity=st.sampled_from([0.0, 0.6, 0.9]),
    floor=st.sampled_from([1e-4, PIXEL_VARIANCE, 4.0]),
)
def test_likelihood_never_falls(
    seed: int, sides: tuple[int, int], J: int, sparsity: float, floor: float
) -> None:
    weight = random_weight(2, *sides, seed, sparsity=sparsity)
    weight[:, 0, 0] += 1
    J = min(J, int((weight > 0).sum((1, 2)).min()))
    cloud = PixelCloud.of(weight)
    components = seed_components(cloud, draws(J, seed), floor=floor)
    previous = torch.full((2,), -math.inf).double()
    for _ in range(25):
        step = fit(cloud, components, tolerance=-math.inf, max_iterations=1, floor=floor)
        assert (step.log_likelihood >= previous - 1e-10).all()
        assert (torch.linalg.eigvalsh(step.components.sigma) >= floor * (1 - 1e-6)).all()
        torch.testing.assert_close(step.components.pi.sum(1), torch.ones(2).double())
        components, previous = step.components, step.log_likelihood


def test_shares_are_the_mass_that_the_components_are_responsible_for() -> None:
    weight = random_weight(4, 14, 14, 3)
    found = fitted(weight, 3, tolerance=1e-12)
    assert found.converged.all()
    p = weight / weight.sum((1, 2), keepdim=True)
    R = log_joint(found.components, (14, 14)).softmax(1)
    torch.testing.assert_close((R * p[:, None]).sum((2, 3)), found.components.pi, atol=1e-5, rtol=0)


def flip(c: Components, W: int) -> Components:
    mu, sigma = c.mu.clone(), c.sigma.clone()
    mu[..., 0] = W - 1 - mu[..., 0]
    sigma[..., 0, 1] *= -1
    sigma[..., 1, 0] *= -1
    return Components(c.pi, mu, sigma)


def transpose(c: Components) -> Components:
    return Components(c.pi, c.mu.flip(-1), c.sigma.flip(-1, -2))


@pytest.mark.parametrize("seed", range(3))
def test_flipped_and_transposed_images_give_flipped_and_transposed_mixtures(seed: int) -> None:
    weight = random_weight(2, 9, 14, seed)
    cloud = PixelCloud.of(weight)
    start = seed_components(cloud, draws(3, seed))

    def run(weight: Tensor, start: Components) -> Components:
        return fit(PixelCloud.of(weight), start, tolerance=-math.inf, max_iterations=40).components

    plain = run(weight, start)
    for other, expected in (
        (run(weight.flip(2), flip(start, 14)), flip(plain, 14)),
        (run(weight.mT.contiguous(), transpose(start)), transpose(plain)),
    ):
        torch.testing.assert_close(other.pi, expected.pi)
        torch.testing.assert_close(other.mu, expected.mu)
        torch.testing.assert_close(other.sigma, expected.sigma)


def test_planted_gaussians_are_recovered() -> None:
    planted = Components(
        torch.tensor([[0.5, 0.3, 0.2]]).double(),
        torch.tensor([[[15.0, 20.0], [45.0, 16.0], [30.0, 44.0]]]).double(),
        torch.tensor([[[[16.0, 6], [6, 9]], [[9.0, 0], [0, 12]], [[36.0, -9], [-9, 16]]]]).double(),
    )
    weight = log_joint(planted, (64, 64)).logsumexp(1).exp()
    candidates = [fitted(weight, 3, seed=s, tolerance=1e-12) for s in range(3)]
    found = max(candidates, key=lambda f: f.log_likelihood.item()).components
    order = found.pi[0].argsort(descending=True)
    torch.testing.assert_close(found.pi[0, order], planted.pi[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(found.mu[0, order], planted.mu[0], atol=0.02, rtol=0)
    torch.testing.assert_close(found.sigma[0, order], planted.sigma[0], atol=0.2, rtol=0)


def test_an_image_in_a_batch_is_fitted_as_if_alone() -> None:
    weight = torch.cat([random_weight(2, 12, 12, s, sparsity=q) for s, q in enumerate((0.1, 0.5, 0.95))])
    together = fitted(weight, 3)
    assert len(set(together.iterations.tolist())) > 1, "images must leave the batch at different steps"
    for i in range(len(weight)):
        alone = fitted(weight[i : i + 1], 3)
        assert alone.iterations[0] == together.iterations[i]
        torch.testing.assert_close(alone.log_likelihood[0], together.log_likelihood[i])
        torch.testing.assert_close(alone.components.mu[0], together.components.mu[i])
        torch.testing.assert_close(alone.components.sigma[0], together.components.sigma[i])


def test_a_fit_says_whether_it_converged() -> None:
    cloud = PixelCloud.of(random_weight(1, 12, 12, 5))
    start = seed_components(cloud, draws(3))
    short = fit(cloud, start, tolerance=1e-9, max_iterations=4)
    assert not short.converged.item()
    assert short.iterations.item() == 4
    full = fit(cloud, start, tolerance=1e-9, max_iterations=20_000)
    assert full.converged.item()
    again = fit(cloud, full.components, tolerance=1e-9, max_iterations=20_000)
    assert again.iterations.item() <= 2, "a fixed point is left alone"


def test_a_component_without_mass_stays_out_and_harms_nobody() -> None:
    cloud = PixelCloud.of(random_weight(1, 10, 10, 6))
    two = seed_components(cloud, draws(2))
    far = Components(
        torch.cat([two.pi, torch.tensor([[1e-12]])], 1),
        torch.cat([two.mu, torch.full((1, 1, 2), 1e5)], 1),
        torch.cat([two.sigma, torch.eye(2).double().view(1, 1, 2, 2)], 1),
    )
    lonely = fit(cloud, far, tolerance=1e-9, max_iterations=5000)
    company = fit(cloud, two, tolerance=1e-9, max_iterations=5000)
    assert lonely.components.pi[0, 2] < 1e-300
    assert lonely.components.sigma.isfinite().all()
    torch.testing.assert_close(lonely.log_likelihood, company.log_likelihood)
    torch.testing.assert_close(lonely.components.mu[:, :2], company.components.mu)


@pytest.mark.parametrize("draw", [0.0, 0.37, 1 - 2**-53])
def test_as_many_seeds_as_pixels_take_every_pixel_once(draw: float) -> None:
    weight = torch.zeros(1, 6, 7)
    where = [(0, 0), (0, 6), (2, 3), (5, 1), (5, 6)]
    for n, (row, column) in enumerate(where):
        weight[0, row, column] = 10.0**-n
    start = seed_components(PixelCloud.of(weight), torch.full((5,), draw).double())
    found = sorted((round(v), round(u)) for u, v in start.mu[0].tolist())
    assert found == sorted(where)


def test_the_first_seed_follows_the_mass() -> None:
    # Two far pixels, J = 2: the first seed is the heavy one exactly when its draw falls into its share.
    weight = torch.tensor([[[3.0, 0, 0, 0, 0, 1.0]]])
    cloud = PixelCloud.of(weight)
    for first, column in ((0.74, 0), (0.76, 5)):
        start = seed_components(cloud, torch.tensor([first, 0.5]).double())
        assert round(start.mu[0, 0, 0].item()) == column
