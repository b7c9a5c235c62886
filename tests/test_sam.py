"""SAM and SAM 2 with random weights: the same numbers as transformers, distinct masks, every error."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lvlm_va.errors import ModelError
from lvlm_va.explain.sam import PromptedSam, find_sam, load_sam, segment_everything
from lvlm_va.explain.sam import source as sam_source
from lvlm_va.explain.sam.everything import _distinct
from tiny_sam import save_tiny_sam, save_tiny_sam2


@pytest.fixture(scope="module", params=["sam", "sam2"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PromptedSam:
    folder = tmp_path_factory.mktemp(request.param)
    (save_tiny_sam if request.param == "sam" else save_tiny_sam2)(folder)
    return load_sam(find_sam(str(folder)))


def iou(one: Tensor, other: Tensor) -> float:
    return float((one & other).sum() / (one | other).sum())


# Loading


def test_weights_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LVLM_VA_SAM", raising=False)
    with pytest.raises(ModelError, match=r"explain\.sam \(or LVLM_VA_SAM\) name a folder"):
        find_sam(None)
    (tmp_path / "mobile_sam.pt").touch()
    for name in ("gone", "mobile_sam.pt"):
        with pytest.raises(ModelError, match=rf"there is no folder .*{name}; name a folder"):
            find_sam(str(tmp_path / name))
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


def test_the_environment_names_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny_sam(tmp_path)
    monkeypatch.setenv("LVLM_VA_SAM", str(tmp_path))
    source = find_sam(None)
    assert (source.path, source.model_type, len(source.version)) == (tmp_path, "sam", 12)
    monkeypatch.setattr(sam_source, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"pip install 'lvlm-va\[local\]'"):
        load_sam(source)


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
