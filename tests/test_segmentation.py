"""PPEPS-WGM: labels, shares, invariances, and images that cannot be segmented."""

import pytest
import torch
from torch import Tensor

from lvlm_va.errors import ConfigError, DataError
from lvlm_va.explain.segmentation import ppeps_wgm


def attributions(N: int, H: int, W: int, seed: int = 0) -> Tensor:
    """Two bright blobs on heavy-tailed noise, about half the pixels positive."""
    g = torch.Generator().manual_seed(seed)
    v, u = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    noise = torch.randn(N, H, W, generator=g) / torch.rand(N, H, W, generator=g).clamp_min(0.05)
    for n in range(N):
        for _ in range(2):
            cu, cv = torch.rand(2, generator=g) * torch.tensor([W, H])
            noise[n] += 20 * torch.exp(-((u - cu) ** 2 + (v - cv) ** 2) / (0.01 * H * W))
    return noise


def test_labels_name_the_most_responsible_component_everywhere() -> None:
    attribution = attributions(4, 18, 24)
    found = ppeps_wgm(attribution, 3)
    assert found.labels.shape == (4, 18, 24)
    assert found.labels.dtype == torch.int16
    for i in range(4):
        R = found.responsibilities(i)
        assert R.shape == (3, 18, 24)
        assert R.dtype == torch.float32
        torch.testing.assert_close(R.sum(0), torch.ones(18, 24))
        assert torch.equal(found.labels[i], (R.argmax(0) + 1).short())
        p = attribution[i].clamp_min(0).double()
        torch.testing.assert_close((R * p / p.sum()).sum((1, 2)), found.pi[i], atol=0.01, rtol=0)
    assert not found.set_aside
    assert found.converged.all()


def test_segments_are_numbered_by_share() -> None:
    found = ppeps_wgm(attributions(6, 20, 20), 4)
    assert (found.pi.diff(dim=1) <= 0).all()
    torch.testing.assert_close(found.pi.sum(1), torch.ones(6).double())


def test_two_planted_blobs_become_two_segments() -> None:
    attribution = torch.full((1, 30, 40), -1.0)
    attribution[0, 5:10, 4:9] = 3.0
    attribution[0, 20:24, 30:34] = 1.0
    found = ppeps_wgm(attribution, 2)
    assert (found.labels[0, 5:10, 4:9] == 1).all()
    assert (found.labels[0, 20:24, 30:34] == 2).all()
    torch.testing.assert_close(found.pi[0], torch.tensor([75 / 91, 16 / 91]).double())
    # u is the column, v the row.
    torch.testing.assert_close(found.mu[0], torch.tensor([[6.0, 7.0], [31.5, 21.5]]).double())
    torch.testing.assert_close(found.sigma[0, 0], 2 * torch.eye(2).double())


@pytest.mark.parametrize("scale", [1e-12, 1 / 3, 1e9])
def test_scale_of_the_attribution_does_not_matter(scale: float) -> None:
    attribution = attributions(3, 16, 16).double()
    plain, scaled = ppeps_wgm(attribution, 3), ppeps_wgm(attribution * scale, 3)
    assert torch.equal(plain.labels, scaled.labels)
    torch.testing.assert_close(plain.pi, scaled.pi)
    torch.testing.assert_close(plain.log_likelihood, scaled.log_likelihood)


def test_negative_attribution_does_not_matter() -> None:
    attribution = attributions(3, 16, 16)
    louder = torch.where(attribution < 0, attribution * 7, attribution)
    assert torch.equal(ppeps_wgm(attribution, 3).labels, ppeps_wgm(louder, 3).labels)


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    attribution = attributions(7, 20, 20)
    attribution[2] = -1
    attribution[4, 5:] = 0
    together = ppeps_wgm(attribution, 3)
    assert set(together.set_aside) == {2}
    for i in (0, 1, 3, 4, 5, 6):
        alone = ppeps_wgm(attribution[i : i + 1], 3)
        assert torch.equal(alone.labels[0], together.labels[i])
        torch.testing.assert_close(alone.pi[0], together.pi[i])
        torch.testing.assert_close(alone.log_likelihood[0], together.log_likelihood[i])
    backwards = ppeps_wgm(attribution.flip(0), 3)
    assert torch.equal(backwards.labels.flip(0), together.labels)


def test_the_seed_decides_everything() -> None:
    attribution = attributions(4, 20, 20)
    first, again = ppeps_wgm(attribution, 4, seed=5), ppeps_wgm(attribution, 4, seed=5)
    assert torch.equal(first.labels, again.labels)
    assert torch.equal(first.mu, again.mu)
    other = ppeps_wgm(attribution, 4, seed=6, n_init=1)
    assert not torch.equal(first.mu, other.mu)


def test_more_starts_are_never_worse() -> None:
    attribution = attributions(8, 20, 20)
    one, five = ppeps_wgm(attribution, 4, n_init=1), ppeps_wgm(attribution, 4, n_init=5)
    assert (five.log_likelihood >= one.log_likelihood - 1e-9).all()
    assert (five.log_likelihood > one.log_likelihood + 1e-4).any()


def test_unusable_images_are_set_aside_with_their_reason() -> None:
    attribution = attributions(6, 12, 12)
    attribution[0] = 0
    attribution[1] = -attribution[1].abs()
    attribution[2] = -1
    attribution[2, 3, 3:5] = 1
    attribution[3, 0, 0] = torch.nan
    attribution[4] = 0.5
    seen: list[tuple[int, int]] = []
    found = ppeps_wgm(attribution, 3, progress=lambda done, total: seen.append((done, total)))
    assert found.set_aside == {
        0: "no pixel has positive attribution",
        1: "no pixel has positive attribution",
        2: "2 pixels have positive attribution, fewer than J = 3 segments",
        3: "the attribution holds NaN or infinite values",
        4: "the attribution is the same at every pixel and points nowhere",
    }
    assert (found.labels[:5] == 0).all()
    assert (found.pi[:5] == 0).all()
    assert found.mu[:5].isnan().all()
    assert found.log_likelihood[:5].isnan().all()
    assert (found.labels[5] > 0).all()
    assert seen[-1] == (6, 6)


def test_as_many_segments_as_positive_pixels() -> None:
    attribution = torch.zeros(1, 9, 9)
    for n, (row, column) in enumerate([(1, 1), (1, 7), (7, 4)]):
        attribution[0, row, column] = 3 - n
    found = ppeps_wgm(attribution, 3)
    torch.testing.assert_close(found.pi[0], torch.tensor([3, 2, 1]).double() / 6)
    assert [found.labels[0, r, c].item() for r, c in [(1, 1), (1, 7), (7, 4)]] == [1, 2, 3]


def test_one_row_and_one_segment() -> None:
    found = ppeps_wgm(attributions(2, 1, 30), 2)
    assert found.converged.all()
    assert (ppeps_wgm(torch.ones(1, 4, 4), 1).labels == 1).all()


def test_no_images() -> None:
    assert ppeps_wgm(torch.zeros(0, 5, 5), 2).labels.shape == (0, 5, 5)


def test_half_precision_input() -> None:
    attribution = attributions(2, 16, 16).bfloat16()
    assert torch.equal(ppeps_wgm(attribution, 3).labels, ppeps_wgm(attribution.float(), 3).labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"J": 17}, r"J = 17 segments, but an image of 4×4 has only 16 pixels"),
        ({"J": 0}, r"J = 0 segments: choose at least 1"),
        ({"J": 2, "n_init": 0}, r"n_init = 0"),
        ({"J": 2, "max_iterations": 0}, r"max_iterations = 0"),
        ({"J": 2, "tolerance": float("nan")}, r"tolerance = nan"),
    ],
)
def test_impossible_settings(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ppeps_wgm(torch.rand(1, 4, 4), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [torch.rand(2, 3, 4, 4), torch.ones(2, 4, 4, dtype=torch.int64)])
def test_wrong_attributions(wrong: Tensor) -> None:
    with pytest.raises(DataError, match=r"shape \(N, H, W\)"):
        ppeps_wgm(wrong, 2)
