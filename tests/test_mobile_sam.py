"""MobileSAM of the experiments: its encoder is what its formulas say, its segments follow SAM's rule.

The real weights are tried where `LVLM_VA_MOBILE_SAM` names `mobile_sam.pt`; all else runs on zeros.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import lvlm_va
import small
from experiments.mobile_sam import MobileSam, segmentation
from experiments.mobile_sam.segmentation import WEIGHTS
from experiments.mobile_sam.tinyvit import TinyViT, _Attention, _Block
from lvlm_va.config.names import SEGMENTATIONS
from lvlm_va.errors import ModelError
from lvlm_va.explain.own_segments import own_segments
from lvlm_va.explain.partition import paint, segments_of_regions
from lvlm_va.explain.sam import segment_everything, source

TENSORS = Path(__file__).with_name("mobile_sam_tensors.txt")
NAME = "experiments.mobile_sam:MobileSam"
REAL = os.environ.get(WEIGHTS, "")


def published() -> dict[str, Tensor]:
    """Zeros under the names and in the shapes of the published mobile_sam.pt."""
    rows = (line.split() for line in TENSORS.read_text(encoding="utf-8").splitlines())
    return {name: torch.zeros([int(n) for n in shape.split("x") if n != "-"]) for name, shape in rows}


@pytest.fixture(scope="module")
def mobile_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mobile") / "mobile_sam.pt"
    torch.save(published(), path)
    return path


@pytest.fixture(autouse=True)
def weights(mobile_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WEIGHTS, str(mobile_file))
    monkeypatch.setenv("LVLM_VA_CACHE", str(tmp_path / "cache"))


def of_file(path: Path, state: Any, monkeypatch: pytest.MonkeyPatch) -> MobileSam:
    torch.save(state, path)
    monkeypatch.setenv(WEIGHTS, str(path))
    return MobileSam()


def seen(method: MobileSam) -> Any:
    return method.segment(torch.zeros(8, 8, 3, dtype=torch.uint8).numpy(), torch.rand(8, 8).numpy(), 2)


# The encoder


def test_window_attention_is_what_its_formula_says() -> None:
    """Against sums written out: softmax over the window of q·k / √d + the bias of the offset."""
    torch.manual_seed(0)
    window, heads, width = 3, 2, 8
    layer = _Attention(width, heads, window)
    nn.init.normal_(layer.attention_biases)
    x = torch.randn(2, 9, width)
    q, k, v = layer.qkv(layer.norm(x)).view(2, 9, heads, 3, 4).unbind(3)
    # The offsets in the order in which segment-anything's authors meet them.
    order = {(r, c): window * r + c for r in range(window) for c in range(window)}
    expected = torch.zeros(2, 9, heads, 4)
    for b in range(2):
        for h in range(heads):
            for i in range(9):
                logits = torch.stack(
                    [
                        q[b, i, h] @ k[b, j, h] / 2
                        + layer.attention_biases[h, order[abs(i // 3 - j // 3), abs(i % 3 - j % 3)]]
                        for j in range(9)
                    ]
                )
                expected[b, i, h] = logits.softmax(0) @ v[b, :, h]
    torch.testing.assert_close(layer(x), layer.proj(expected.flatten(2)))


def test_windows_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    block = _Block(8, 2, 3).eval()
    # The convolution between the windows is switched to the identity.
    block.local_conv.c.weight.data.zero_()[:, :, 1, 1] = 1
    x = torch.randn(1, 8, 7, 5)  # windows of 3 × 3, those at the right and below are padded
    other = x.clone()
    other[:, :, :3, :3] += 1
    changed = (block(x) - block(other)).abs().amax(1)[0] > 1e-6
    assert changed[:3, :3].all()
    assert changed.sum() == 9


def test_the_encoder_ends_at_a_sixteenth() -> None:
    encoder = TinyViT((8, 8, 16, 16), (1, 1, 1, 1), (1, 1, 2, 2), (3, 3, 3, 3), channels=12).eval()
    with torch.no_grad():
        assert encoder(torch.randn(2, 3, 96, 96))[0].shape == (2, 12, 6, 6)


# Loading


def test_every_tensor_of_the_published_file_has_its_place() -> None:
    sam = MobileSam()._sam
    values = [p for p in sam.module.parameters()]
    assert len(values) > 300
    assert all(bool((p == 0).all()) for p in values), "nothing kept its random start"
    assert sam.embed(torch.zeros(9, 7, 3, dtype=torch.uint8)).shape == (1, 256, 32, 32)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda state: state.pop("mask_decoder.iou_token.weight"), "first mask_decoder.iou_token.weight"),
        (
            lambda state: state.update({"image_encoder.neck.0.weight": torch.zeros(3)}),
            "vision_encoder.neck.0",
        ),
        (lambda state: state.update({"image_encoder.pos_embed": torch.zeros(3)}), "vision_encoder.pos_embed"),
    ],
)
def test_weights_of_another_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[dict[str, Tensor]], object], told: str
) -> None:
    state = published()
    spoil(state)
    method = of_file(tmp_path / "weights.pt", state, monkeypatch)
    with pytest.raises(ModelError, match=rf"weights\.pt: these are not MobileSAM's weights: 1 of .*{told}"):
        seen(method)


def test_files_that_are_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"objects\.pt: .*could run code"):
        seen(of_file(tmp_path / "objects.pt", {"model": Path("x")}, monkeypatch))
    with pytest.raises(ModelError, match=r"list\.pt: .*no mapping of names to tensors"):
        seen(of_file(tmp_path / "list.pt", [torch.zeros(2)], monkeypatch))
    whole = of_file(tmp_path / "cut.pt", published(), monkeypatch).path
    whole.write_bytes(whole.read_bytes()[:-5000])
    with pytest.raises(ModelError, match=r"cut\.pt: the file cannot be read .*fetch it again"):
        seen(MobileSam())


def test_without_weights_or_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WEIGHTS, str(tmp_path / "gone.pt"))
    with pytest.raises(ModelError, match=rf"no file .*gone\.pt: {WEIGHTS} must name the file mobile_sam\.pt"):
        SEGMENTATIONS.load(NAME)
    monkeypatch.delenv(WEIGHTS)
    with pytest.raises(ModelError, match=f"needs weights: {WEIGHTS} must name"):
        SEGMENTATIONS.load(NAME)
    monkeypatch.setattr(source, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"mobile-sam needs transformers: pip install 'lvlm-va\[local\]'"):
        SEGMENTATIONS.load(NAME)


# Segments


def drawn(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Masks that overlap, an image, an attribution."""
    g = torch.Generator().manual_seed(seed)
    masks = torch.rand(4, 6, 5, generator=g) < 0.3
    image = torch.randint(256, (6, 5, 3), generator=g, dtype=torch.uint8)
    attribution = torch.randn(6, 5, generator=g)
    attribution[:2] = attribution[:2].abs() + 0.1
    return masks, image, attribution


@pytest.mark.parametrize("J", [1, 2, 3, 6])
def test_segments_are_those_of_the_packages_rule(J: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the protocol nothing is lost: labels, shares, means and covariances, of empty segments, too."""
    method = SEGMENTATIONS.load(NAME)
    for seed in range(8):
        masks, image, attribution = drawn(seed)
        monkeypatch.setattr(segmentation, "segment_everything", lambda *_, masks=masks, **__: masks)
        found = own_segments(method, image[None], attribution[None], J)
        expected = segments_of_regions(paint(masks)[None], attribution[None], J, method=NAME)
        assert found.method == expected.method
        assert not found.set_aside
        for part in ("labels", "pi", "mu", "sigma", "converged"):
            torch.testing.assert_close(getattr(found, part), getattr(expected, part), rtol=1e-12, atol=1e-12)


def test_regions_are_found_once_for_each_image_and_weights(
    mobile_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Tensor] = []
    masks, image, attribution = drawn(0)

    def everything(_: Any, it: Tensor, **__: Any) -> Tensor:
        asked.append(it)
        return masks

    monkeypatch.setattr(segmentation, "segment_everything", everything)
    first = MobileSam().segment(image.numpy(), attribution.numpy(), 3)
    assert (MobileSam().segment(image.numpy(), attribution.numpy(), 3) == first).all()
    MobileSam().segment(image.numpy(), -attribution.numpy(), 2)
    assert len(asked) == 1, "neither J nor the attribution matters"
    MobileSam().segment(image.flip(0).numpy(), attribution.numpy(), 3)
    MobileSam(points_per_side=8).segment(image.numpy(), attribution.numpy(), 3)
    assert len(asked) == 3
    for file in (tmp_path / "cache").rglob("*.png"):
        file.write_bytes(file.read_bytes()[:40])
    assert (MobileSam().segment(image.numpy(), attribution.numpy(), 3) == first).all()
    assert len(asked) == 4, "damaged"
    other = of_file(
        tmp_path / "other.pt",
        published() | {"mask_decoder.iou_token.weight": torch.ones(1, 256)},
        monkeypatch,
    )
    monkeypatch.setenv(WEIGHTS, str(mobile_file))
    assert other.version != MobileSam().version
    other.segment(image.numpy(), attribution.numpy(), 3)
    assert len(asked) == 5, "other weights"


def test_from_a_model_to_an_aligned_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, as an experiment says it: regions of like brightness stand for MobileSAM's."""
    asked: list[int] = []

    def everything(_: Any, image: Tensor, **__: Any) -> Tensor:
        asked.append(1)
        return torch.stack([(image.float().mean(2) / 64).int() == level for level in range(4)])

    monkeypatch.setattr(segmentation, "segment_everything", everything)
    settings = small.settings(explain__num_images=12, explain__segmentation=NAME, align__epochs=1)
    arguments: tuple[Any, ...] = (small.trained(), small.splits(), small.SPECIFICATIONS)
    run = lvlm_va.align(*arguments, run=tmp_path / "run", settings=settings, quiet=True)
    assert len(asked) == 12
    assert MobileSam().version in (run.path / "run.json").read_text(encoding="utf-8")
    monkeypatch.delenv(WEIGHTS)
    with pytest.raises(ModelError, match=WEIGHTS):
        lvlm_va.align(*arguments, run=tmp_path / "other", settings=settings, quiet=True)
    assert not (tmp_path / "other" / "selection.csv").exists(), "said before any work"


@pytest.mark.skipif(not REAL, reason=f"{WEIGHTS} names no mobile_sam.pt")
@pytest.mark.parametrize("planted", ["patch", "tag", "disc"])
def test_mobile_sam_finds_what_was_planted(planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WEIGHTS, REAL)
    side = 28 if planted == "patch" else 112
    v, u = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    g = torch.Generator().manual_seed(0)
    image = 60 + 10 * torch.rand(side, side, generator=g) + 40 * (u > side / 2)
    truth = {
        "patch": (v < 6) & (u >= 22),
        "tag": (v >= 8) & (v < 24) & (u >= 70) & (u < 104),
        "disc": (v - 70) ** 2 + (u - 40) ** 2 < 18**2,
    }[planted]
    image[truth] = 230
    masks = segment_everything(
        MobileSam()._sam, image.to(torch.uint8)[..., None].expand(-1, -1, 3), points_per_side=8
    )
    overlap = [float((mask & truth).sum() / (mask | truth).sum()) for mask in masks]
    assert max(overlap) >= 0.8
