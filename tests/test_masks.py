"""Correction masks: the paper's sum, and three kinds of a segment."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lvlm_va.alignment.masks import (
    attribution_cores,
    component_cores,
    correction_masks,
    tighten,
    verdict_matrix,
)
from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import ConfigError, DataError
from lvlm_va.explain.segmentation import Segmentation, ppeps_wgm


def random_case(seed: int, N: int = 3, J: int = 4) -> tuple[Tensor, Segmentation, Tensor]:
    """Attribution of N images (the last of which is set aside), its segmentation, and verdicts."""
    g = torch.Generator().manual_seed(seed)
    attribution = torch.randn(N, 11, 14, generator=g) / torch.rand(N, 11, 14, generator=g).clamp_min(0.05)
    attribution[-1] = -1
    segmentation = ppeps_wgm(attribution, J, n_init=1, tolerance=1e-3)
    return attribution, segmentation, torch.rand(N, J, generator=g) < 0.5


def one_segment(mu: tuple[float, float], sigma: list[list[float]], side: int) -> Segmentation:
    """One image that is all one segment."""
    return Segmentation(
        labels=torch.ones(1, side, side, dtype=torch.int16),
        pi=torch.ones(1, 1).double(),
        mu=torch.tensor([[mu]]).double(),
        sigma=torch.tensor([[sigma]]).double(),
        log_likelihood=torch.zeros(1).double(),
        iterations=torch.ones(1, dtype=torch.int64),
        converged=torch.ones(1, dtype=torch.bool),
        set_aside={},
    )


@pytest.mark.parametrize("seed", range(5))
def test_masks_equal_the_papers_sum(seed: int) -> None:
    _, segmentation, R = random_case(seed)
    A = correction_masks(segmentation.labels, R)
    expected = torch.zeros(A.shape, dtype=torch.int64)
    for n in range(3):
        for j in range(4):
            expected[n] += int(R[n, j]) * (segmentation.labels[n] == j + 1).long()
    assert A.dtype == torch.bool
    assert torch.equal(A.long(), expected)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["component", "attribution"]),
    mass=st.floats(0.05, 0.99),
)
def test_tight_masks_lie_inside_the_papers(seed: int, kind: str, mass: float) -> None:
    attribution, segmentation, R = random_case(seed)

    def cut(mass: float) -> Tensor:
        if kind == "component":
            return component_cores(segmentation, mass=mass)
        return attribution_cores(segmentation.labels, attribution, mass=mass)

    labels = cut(mass)
    assert labels.dtype == torch.int16
    assert ((labels == segmentation.labels) | (labels == 0)).all(), "a pixel never changes its segment"
    tight, full = correction_masks(labels, R), correction_masks(segmentation.labels, R)
    assert not (tight & ~full).any()
    assert not correction_masks(labels, torch.zeros_like(R)).any(), "nothing condemned, nothing penalised"
    assert not tight[-1].any(), "an image set aside has no segments"
    larger = cut((1 + mass) / 2)
    assert ((larger > 0) | (labels == 0)).all(), "more mass never keeps fewer pixels"


def test_the_whole_segment_is_the_papers_kind_and_the_others_have_their_names() -> None:
    attribution, segmentation, _ = random_case(0)
    assert torch.equal(tighten(segmentation, attribution, kind="segment"), segmentation.labels)
    assert torch.equal(tighten(segmentation, attribution, kind="component"), component_cores(segmentation))
    cores = attribution_cores(segmentation.labels, attribution)
    assert torch.equal(tighten(segmentation, attribution, kind="attribution"), cores)


@pytest.mark.parametrize("mass", [0.5, 0.8, 0.95])
def test_a_component_core_holds_the_mass_of_its_gaussian(mass: float) -> None:
    sigma = [[300.0, 120.0], [120.0, 200.0]]
    segmentation = one_segment((101.3, 98.6), sigma, 200)
    core = component_cores(segmentation, mass=mass)[0] > 0
    v, u = torch.meshgrid(torch.arange(200.0), torch.arange(200.0), indexing="ij")
    normal = torch.distributions.MultivariateNormal(segmentation.mu[0, 0], segmentation.sigma[0, 0])
    density = normal.log_prob(torch.stack([u, v], -1).double()).exp()
    assert density[core].sum().item() == pytest.approx(mass, abs=2e-3)
    assert density[core].min() >= density[~core].max(), "it is a level set"
    area = -2 * math.log(1 - mass) * math.pi * math.sqrt(300 * 200 - 120**2)
    assert core.sum().item() == pytest.approx(area, rel=0.01)


def test_a_component_core_has_columns_before_rows() -> None:
    core = component_cores(one_segment((15.0, 5.0), [[4.0, 0], [0, 0.25]], 21))[0] > 0
    assert core[5, 11:20].all()
    assert core.sum(1).nonzero().flatten().tolist() == [4, 5, 6]


@pytest.mark.parametrize("mass", [0.3, 0.95])
def test_an_attribution_core_is_the_smallest_set_with_the_mass(mass: float) -> None:
    attribution, segmentation, _ = random_case(1)
    cores = attribution_cores(segmentation.labels, attribution, mass=mass)
    for n in range(2):
        for j in range(1, 5):
            segment = segmentation.labels[n] == j
            values = sorted(attribution[n][segment].clamp_min(0).double().tolist(), reverse=True)
            fewest = next(k for k in range(len(values) + 1) if math.fsum(values[:k]) >= mass * sum(values))
            kept = attribution[n][cores[n] == j]
            assert sorted(kept.double().tolist(), reverse=True) == values[:fewest]


def test_a_segment_without_positive_attribution_keeps_no_pixel() -> None:
    labels = torch.ones(1, 5, 6, dtype=torch.int16)
    labels[0, :, 3:] = 2
    attribution = torch.full((1, 5, 6), -1.0)
    attribution[0, 2, 2] = 1
    assert attribution_cores(labels, attribution).nonzero().tolist() == [[0, 2, 2]]


def test_only_condemned_segments_are_penalised() -> None:
    def verdict(image: str, segment: int, spurious: bool | None) -> Verdict:
        return Verdict(image, segment, spurious, "because", "test")

    R = verdict_matrix(
        [
            verdict("a", 1, None),
            verdict("a", 2, True),
            verdict("b", 3, False),
            verdict("b", 1, True),
            verdict("b", 1, None),
            verdict("c", 2, None),
            verdict("c", 2, True),
        ],
        ["a", "b", "c", "d"],
        3,
    )
    assert R.tolist() == [
        [False, True, False],
        [False, False, False],
        [False, True, False],
        [False, False, False],
    ]


@pytest.mark.parametrize(("image", "segment"), [("z", 1), ("a", 0), ("a", 4)])
def test_a_verdict_on_nothing(image: str, segment: int) -> None:
    with pytest.raises(DataError, match=rf"segment {segment} of image '{image}'"):
        verdict_matrix([Verdict(image, segment, True, "", "test")], ["a"], 3)


def test_verdicts_that_do_not_fit() -> None:
    labels = torch.tensor([[[1, 2], [3, 0]]], dtype=torch.int16)
    with pytest.raises(DataError, match="labels run from 0 to 3, but the verdicts are on 2 segments"):
        correction_masks(labels, torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(DataError, match="one row per image"):
        correction_masks(labels, torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(DataError, match="must be bool"):
        correction_masks(labels, torch.ones(1, 3))


def test_settings_that_cannot_be() -> None:
    attribution, segmentation, _ = random_case(2)
    with pytest.raises(ConfigError, match="'segments': choose one of segment, component, attribution"):
        tighten(segmentation, attribution, kind="segments")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="of the same images"):
        attribution_cores(segmentation.labels, attribution[:2])


def test_rows_are_of_the_images_they_name() -> None:
    phi = torch.zeros(3, 6, 6)  # nothing speaks for image 1
    phi[0, 1, 1] = phi[0, 4, 4] = phi[2, 0, 5] = phi[2, 5, 0] = 1.0
    segmentation = ppeps_wgm(phi, 2)
    rows = segmentation.rows([2, 1])
    assert torch.equal(rows.labels, segmentation.labels[[2, 1]])
    assert torch.equal(rows.pi, segmentation.pi[[2, 1]])
    assert rows.set_aside == {1: segmentation.set_aside[1]}
    assert rows.method == segmentation.method
