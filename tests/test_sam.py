"""SAM, SAM 2 and MobileSAM: the same numbers as transformers, the things of planted images, every error.

The real weights are tried where `LVLM_VA_SAM` names `mobile_sam.pt`; all else runs on random ones.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lvlm_va.errors import ModelError
from lvlm_va.explain.sam import PromptedSam, find_sam, load_sam, segment_everything
from lvlm_va.explain.sam import source as sam_source
from lvlm_va.explain.sam.everything import _distinct
from lvlm_va.explain.sam.tinyvit import TinyViT, _Attention, _Block
from tiny_sam import save_tiny_sam, save_tiny_sam2

TENSORS = Path(__file__).with_name("mobile_sam_tensors.txt")


def published() -> dict[str, Tensor]:
    """Zeros under the names and in the shapes of the published mobile_sam.pt."""
    rows = (line.split() for line in TENSORS.read_text(encoding="utf-8").splitlines())
    return {name: torch.zeros([int(n) for n in shape.split("x") if n != "-"]) for name, shape in rows}


@pytest.fixture(scope="module")
def mobile_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mobile") / "mobile_sam.pt"
    torch.save(published(), path)
    return path


@pytest.fixture(scope="module", params=["sam", "sam2"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PromptedSam:
    folder = tmp_path_factory.mktemp(request.param)
    (save_tiny_sam if request.param == "sam" else save_tiny_sam2)(folder)
    return load_sam(find_sam(str(folder)))


def iou(one: Tensor, other: Tensor) -> float:
    return float((one & other).sum() / (one | other).sum())


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
        assert encoder(torch.randn(2, 3, 96, 96)).shape == (2, 12, 6, 6)


# Loading


def test_every_tensor_of_the_published_file_has_its_place(mobile_file: Path) -> None:
    source = find_sam(str(mobile_file))
    sam = load_sam(source)
    assert (sam.kind, source.model_type, len(source.version)) == ("MobileSAM", "mobile_sam", 12)
    values = [p for p in sam.module.parameters()]
    assert len(values) > 300
    assert all(bool((p == 0).all()) for p in values), "nothing kept its random start"


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
    tmp_path: Path, spoil: Callable[[dict[str, Tensor]], object], told: str
) -> None:
    state = published()
    spoil(state)
    path = tmp_path / "weights.pt"
    torch.save(state, path)
    with pytest.raises(ModelError, match=rf"weights\.pt: these are not MobileSAM's weights: 1 of .*{told}"):
        load_sam(find_sam(str(path)))


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    text, objects, listed = (tmp_path / name for name in ("text.pt", "objects.pt", "list.pt"))
    text.write_text("no weights")
    torch.save({"model": Path("x")}, objects)
    torch.save([torch.zeros(2)], listed)
    with pytest.raises(ModelError, match=r"text\.pt: "):
        load_sam(find_sam(str(text)))
    with pytest.raises(ModelError, match=r"objects\.pt: .*could run code"):
        load_sam(find_sam(str(objects)))
    with pytest.raises(ModelError, match="no mapping of names to tensors"):
        load_sam(find_sam(str(listed)))


def test_weights_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LVLM_VA_SAM", raising=False)
    with pytest.raises(ModelError, match=r"explain\.sam \(or LVLM_VA_SAM\) name the file mobile_sam\.pt"):
        find_sam(None)
    with pytest.raises(ModelError, match=r"there is no file or folder .*gone\.pt; name the file mobile_sam"):
        find_sam(str(tmp_path / "gone.pt"))
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        find_sam(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="a model of type bert, not SAM or SAM 2"):
        find_sam(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    with pytest.raises(ModelError, match=r"holds no \*\.safetensors"):
        find_sam(str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"cannot be had from the hub"):
        find_sam("nobody/no-such-sam")


def test_the_environment_names_the_weights(mobile_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVLM_VA_SAM", str(mobile_file))
    assert find_sam(None).path == mobile_file


def test_without_transformers(mobile_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam_source, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"pip install 'lvlm-va\[local\]'"):
        load_sam(find_sam(str(mobile_file)))


def test_weights_that_lack_a_tensor(tmp_path: Path) -> None:
    """transformers would fill it with random numbers and go on."""
    from safetensors.torch import load_file, save_file

    save_tiny_sam(tmp_path)
    before = find_sam(str(tmp_path)).version
    state = load_file(tmp_path / "model.safetensors")
    del state["mask_decoder.iou_token.weight"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    source = find_sam(str(tmp_path))
    assert source.version != before
    with pytest.raises(ModelError, match=r"1 of SAM's tensors are missing, first mask_decoder\.iou_token"):
        load_sam(source)


# Prompts and masks


def test_masks_are_those_of_transformers(tiny: PromptedSam) -> None:
    """Image in, masks out, through the model's own forward pass instead of kept embeddings."""
    g = torch.Generator().manual_seed(0)
    image = torch.randint(256, (tiny.side, tiny.side, 3), generator=g, dtype=torch.uint8)
    points = torch.rand(5, 2, generator=g)
    logits, quality = tiny.masks(tiny.embed(image), points)
    mean, deviation = (torch.tensor(x).view(3, 1, 1) for x in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        direct = tiny.module(
            pixel_values=((image.permute(2, 0, 1) / 255 - mean) / deviation)[None],
            input_points=(tiny.side * points)[None, :, None],
            input_labels=torch.ones(1, 5, 1, dtype=torch.int64),
        )
    assert logits.shape == (5, 3, tiny.side // 4, tiny.side // 4)
    torch.testing.assert_close(logits, direct.pred_masks[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(quality, direct.iou_scores[0], atol=1e-5, rtol=1e-4)


def test_everything_is_distinct_and_of_the_images_size(tiny: PromptedSam) -> None:
    image = torch.randint(256, (20, 30, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    masks = segment_everything(tiny, image, points_per_side=3, pred_iou_thresh=-9, stability_score_thresh=0)
    assert masks.dtype == torch.bool
    assert masks.shape[1:] == (20, 30)
    assert len(masks) > 0
    assert masks.flatten(1).any(1).all()
    assert all(iou(a, b) <= 0.7 for i, a in enumerate(masks) for b in masks[:i])
    assert segment_everything(tiny, image, points_per_side=2, pred_iou_thresh=9).shape == (0, 20, 30)


def test_of_masks_that_coincide_the_best_stays() -> None:
    masks = torch.zeros(4, 1, 20, dtype=torch.bool)
    masks[0, 0, :10] = True
    masks[1, 0, :9] = True  # nine tenths of the first
    masks[2, 0, :5] = True  # half of it
    kept = _distinct(masks, torch.tensor([0.90, 0.95, 0.5, 1.0]), 0.7)
    assert torch.equal(kept, masks[[1, 2]]), "the empty mask is gone, too"


@pytest.mark.skipif("LVLM_VA_SAM" not in os.environ, reason="LVLM_VA_SAM names no mobile_sam.pt")
@pytest.mark.parametrize("planted", ["patch", "tag", "disc"])
def test_mobile_sam_finds_what_was_planted(planted: str) -> None:
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
        load_sam(find_sam(None)), image.to(torch.uint8)[..., None].expand(-1, -1, 3), points_per_side=8
    )
    assert max(iou(mask, truth) for mask in masks) >= 0.8
