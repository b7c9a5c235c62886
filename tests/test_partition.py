"""Segments from regions: shares are sums, SLIC divides an image, runs keep what was found."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

import lvlm_va
import small
from lvlm_va.alignment.masks import component_cores
from lvlm_va.config.loading import load_config, override, parse_config
from lvlm_va.errors import ConfigError, DataError, ModelError
from lvlm_va.explain import slic as slic_module
from lvlm_va.explain.mixture import PIXEL_VARIANCE
from lvlm_va.explain.partition import paint, segments_of_regions
from lvlm_va.explain.slic import slic_regions
from lvlm_va.io.console import QuietConsole
from lvlm_va.project.check import check_project
from lvlm_va.project.stages.regions import REGIONS, RegionFinder, regions_of
from lvlm_va.run.directory import RunDirectory
from tiny_sam import save_tiny_sam

# From masks to segments


@st.composite
def divided(draw: Any) -> tuple[Tensor, Tensor, int]:
    """Regions and attribution of one image, and J."""
    H, W = draw(st.integers(2, 7)), draw(st.integers(2, 7))
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    regions = torch.randint(0, draw(st.integers(1, 9)), (1, H, W), generator=g)
    attribution = torch.randn(1, H, W, generator=g)
    attribution[0, 0, 0] = 1
    attribution[0, -1, -1] = 2
    return regions, attribution, draw(st.integers(1, min(5, H * W)))


@given(divided())
def test_segments_are_a_partition_whose_shares_are_sums(case: tuple[Tensor, Tensor, int]) -> None:
    regions, attribution, J = case
    found = segments_of_regions(regions, attribution, J, method="sam")
    if found.set_aside:
        assert int((attribution > 0).sum()) < J
        return
    labels, pi = found.labels[0], found.pi[0]
    p = attribution[0].clamp_min(0).double()
    p = p / p.sum()
    assert labels.dtype == torch.int16
    assert 1 <= int(labels.min()) <= int(labels.max()) <= J
    torch.testing.assert_close(pi.sum(), torch.tensor(1.0).double())
    torch.testing.assert_close(pi, torch.stack([p[labels == j].sum() for j in range(1, J + 1)]))
    assert (pi.diff() <= 1e-12).all()
    # Whatever region is no segment of its own is part of one segment, the rest, and holds no more than those.
    whole = [j for j in range(1, J + 1) if len(regions[0][labels == j].unique()) == 1]
    parts = {int(r): labels[regions[0] == r].unique() for r in regions.unique()}
    assert all(len(part) == 1 for part in parts.values()), "no region is cut"
    rest = {int(part) for r, part in parts.items()} - set(whole)
    assert len(rest) <= 1
    mass = {r: float(p[regions[0] == r].sum()) for r in parts if r != 0}
    for j in rest:
        inside = [mass[r] for r, part in parts.items() if r != 0 and int(part) == j]
        others = [mass[r] for r, part in parts.items() if r != 0 and int(part) != j]
        assert not inside or not others or max(inside) <= min(others) + 1e-12
        assert len(others) == min(J - 1, sum(m > 0 for m in mass.values()))
    assert found.converged.all()
    assert found.log_likelihood.isnan().all()
    assert found.method == "sam"


@given(divided())
def test_mean_and_covariance_are_those_of_the_attribution(case: tuple[Tensor, Tensor, int]) -> None:
    regions, attribution, J = case
    found = segments_of_regions(regions, attribution, J, method="slic")
    if found.set_aside:
        return
    weight = attribution[0].clamp_min(0).double().numpy()
    for j in range(1, J + 1):
        v, u = np.nonzero(weight * (found.labels[0] == j).numpy())
        if not len(v):
            continue
        np.testing.assert_allclose(
            found.mu[0, j - 1], np.average([u, v], axis=1, weights=weight[v, u]), atol=1e-9
        )
        covariance = np.cov([u, v], aweights=weight[v, u], ddof=0)
        if np.linalg.eigvalsh(covariance)[0] > PIXEL_VARIANCE:
            np.testing.assert_allclose(found.sigma[0, j - 1], covariance, atol=1e-9)
        assert np.linalg.eigvalsh(found.sigma[0, j - 1])[0] > PIXEL_VARIANCE * (1 - 1e-6)


def test_every_pixel_answers_for_its_segment_alone() -> None:
    regions = torch.tensor([[[0, 1, 2], [0, 1, 2]]])
    found = segments_of_regions(regions, torch.tensor([[[1.0, 5.0, 3.0], [-1, 1, 1]]]), 3, method="sam")
    assert found.labels[0].tolist() == [[3, 1, 2], [3, 1, 2]]
    torch.testing.assert_close(found.pi[0], torch.tensor([6, 4, 1]).double() / 11)
    R = found.responsibilities(0)
    assert torch.equal(R.sum(0), torch.ones(2, 3))
    assert torch.equal(R.argmax(0) + 1, found.labels[0].long())


def test_the_rest_is_numbered_by_its_share_and_regions_may_be_few() -> None:
    regions = torch.zeros(2, 3, 4, dtype=torch.int64)
    regions[0, 0, 0] = 7
    attribution = torch.ones(2, 3, 4)
    attribution[:, 2, 3] = 0
    found = segments_of_regions(regions, attribution, 3, method="sam")
    assert found.labels[0].tolist() == [[2, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
    torch.testing.assert_close(found.pi, torch.tensor([[10, 1, 0], [11, 0, 0]]).double() / 11)
    assert (found.labels[1] == 1).all()
    assert found.sigma.isfinite().all()


def test_the_same_images_are_set_aside_as_by_the_mixture() -> None:
    attribution = torch.ones(3, 4, 4)
    attribution[0] = -1
    attribution[1, 0, 0] = torch.nan
    found = segments_of_regions(torch.ones(3, 4, 4, dtype=torch.int64), attribution, 2, method="sam")
    assert found.set_aside == {
        0: "no pixel has positive attribution",
        1: "the attribution holds NaN or infinite values",
        2: "the attribution is the same at every pixel and points nowhere",
    }
    assert (found.labels == 0).all()


def test_mistakes() -> None:
    with pytest.raises(DataError, match=r"regions of shape \(1, 3, 3\) and an attribution of shape"):
        segments_of_regions(torch.ones(1, 3, 3), torch.rand(1, 4, 4), 2, method="sam")
    with pytest.raises(ConfigError, match="J = 17 segments"):
        segments_of_regions(torch.ones(1, 4, 4), torch.rand(1, 4, 4), 17, method="sam")
    found = segments_of_regions(torch.ones(1, 4, 4).long(), torch.rand(1, 4, 4), 2, method="slic")
    with pytest.raises(ConfigError, match="found by slic are regions of the image and have no component"):
        component_cores(found)
    with pytest.raises(ConfigError, match=r"align\.mask: component is an ellipse of the mixture"):
        parse_config({"explain": {"segmentation": "sam"}, "align": {"mask": "component"}})
    with pytest.raises(ConfigError, match=r"explain\.segmentation: unknown segmentation 'sma'; did you mean"):
        parse_config({"explain": {"segmentation": "sma"}})


@given(st.integers(0, 6), st.integers(0, 2**16))
def test_of_overlapping_masks_the_smallest_is_seen(M: int, seed: int) -> None:
    masks = torch.rand(M, 5, 4, generator=torch.Generator().manual_seed(seed)) < 0.4
    regions = paint(masks)
    area = masks.sum((1, 2))
    for v in range(5):
        for u in range(4):
            there = [m for m in range(M) if masks[m, v, u]]
            assert (int(regions[v, u]) == 0) == (not there)
            if there:
                number = int(regions[v, u])
                smallest = min(int(area[m]) for m in there)
                assert int(area.sort(descending=True).values[number - 1]) == smallest
    assert len(regions.unique()) <= M + 1


# SLIC


def test_superpixels_are_connected_and_keep_to_edges() -> None:
    pytest.importorskip("skimage")
    image = torch.full((60, 80, 3), 40, dtype=torch.uint8)
    image[20:40, 30:50] = 220
    regions = slic_regions(image, 24)
    assert regions.dtype == torch.int16
    assert int(regions.min()) == 1
    assert 12 <= len(regions.unique()) <= 48
    inside = torch.zeros(60, 80, dtype=torch.bool)
    inside[20:40, 30:50] = True
    for r in regions.unique():
        region = regions == r
        assert ndimage.label(region.numpy())[1] == 1
        share = float((region & inside).sum() / region.sum())
        assert min(share, 1 - share) < 0.1, "no superpixel is half on the square"


def test_slic_without_scikit_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise slic_module.PackageNotFoundError(name)

    monkeypatch.setattr(slic_module, "version", missing)
    with pytest.raises(ConfigError, match=r"pip install 'lvlm-va\[slic\]'"):
        slic_regions(torch.zeros(4, 4, 3, dtype=torch.uint8), 2)
    config = parse_config(override({}, {"explain.segmentation": "slic", "data.name": "folder"}))
    found = [f for f in check_project(config) if f.subject == "segmentation"]
    assert [f.outcome for f in found] == ["problem"]


# What a run keeps


def test_regions_are_found_once_for_each_image(tmp_path: Path) -> None:
    images = torch.randint(256, (3, 5, 6, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    asked: list[Tensor] = []

    def find(image: Tensor) -> Tensor:
        if len(asked) == 2 and not asked[-1].equal(image) and "stop" in flags:
            raise KeyboardInterrupt
        asked.append(image)
        return 300 * image[..., 0].to(torch.int16) % 999

    flags = {"stop"}
    finder = RegionFinder({"by": "test"}, lambda: find)
    with RunDirectory.open(tmp_path / "run", {}) as run:
        context: Any = SimpleNamespace(run=run, console=QuietConsole())
        with pytest.raises(KeyboardInterrupt):
            regions_of(context, images, finder)
        assert len(asked) == 2
        flags.clear()
        first = regions_of(context, images, finder)
        assert len(asked) == 3, "an interruption does not pay twice"
        expected = torch.stack([300 * p[..., 0].to(torch.int16) % 999 for p in images])
        assert torch.equal(first, expected)
        assert torch.equal(regions_of(context, images.flip(0), finder), expected.flip(0))
        assert len(asked) == 3
        damaged = next((run.path / REGIONS).glob("*.png"))
        damaged.write_bytes(damaged.read_bytes()[:40])
        assert torch.equal(regions_of(context, images, finder), expected)
        assert len(asked) == 4
        regions_of(context, images, RegionFinder({"by": "another"}, lambda: find))
        assert len(asked) == 7


def test_weights_in_a_project_file_start_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    file = tmp_path / "project.yaml"
    for written, read in (("weights", str(tmp_path / "weights")), ("owner/sam", "owner/sam")):
        file.write_text(f"explain: {{segmentation: sam, sam: {written}}}")
        assert load_config(file).explain.sam == read


def test_keys_that_are_not_read_change_no_fingerprint() -> None:
    plain = parse_config({"explain": {"segments": 4}}).explain
    assert not {"segmentation", "sam", "points_per_side", "superpixels"} & plain.model_dump().keys()
    assert plain.model_dump(include={"segments", "sam"}) == {"segments": 4}
    slic = parse_config({"explain": {"segmentation": "slic"}}).explain.model_dump(mode="json")
    assert (slic["segmentation"], slic["superpixels"]) == ("slic", 50)
    assert parse_config({"explain": slic}).explain.model_dump(mode="json") == slic


def test_from_a_model_to_an_aligned_model_by_sam(tmp_path: Path) -> None:
    """Random weights see next to nothing: images with one segment only, and two without pixels."""
    save_tiny_sam(tmp_path / "sam")
    settings = small.settings(
        explain__num_images=12,
        explain__segmentation="sam",
        explain__sam=str(tmp_path / "sam"),
        explain__points_per_side=2,
        critique__critic="builtin",
        align__epochs=1,
    )
    arguments: tuple[Any, ...] = (small.trained(), small.splits(), small.SPECIFICATIONS)
    run = lvlm_va.align(*arguments, run=tmp_path / "run", settings=settings, quiet=True)
    page = run.report.read_text(encoding="utf-8")
    assert "divided into segments by the image’s regions, as SAM sees them" in page
    assert "Gaussian mixture" not in page
    assert len(list((run.path / REGIONS).glob("*.png"))) == 12
    log = (run.path / "run.json").read_text(encoding="utf-8")
    assert '"by": "sam"' in log
    again = lvlm_va.align(*arguments, run=tmp_path / "run", settings=settings, quiet=True)
    assert again.metrics == run.metrics
    settings["explain.sam"] = str(tmp_path / "gone")
    with pytest.raises(ModelError, match="there is no folder"):
        lvlm_va.align(*arguments, run=tmp_path / "other", settings=settings, quiet=True)
    assert not (tmp_path / "other" / "selection.csv").exists(), "said before any work"
