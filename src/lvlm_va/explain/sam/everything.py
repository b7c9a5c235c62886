"""Segment everything (Kirillov et al. 2023, Sec. 5 and B): a grid of prompts, and the masks that hold.

Every point of the grid yields three masks. Kept are those that the model itself thinks good and that hardly
change when their threshold does; of masks that nearly coincide the best one stays.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lvlm_va.explain.sam.model import PromptedSam

__all__ = ["segment_everything"]

_BATCH = {"cuda": 64}
"""Points at once; elsewhere 2: a CPU is fastest when what they need stays in its cache."""


def segment_everything(
    sam: PromptedSam,
    image: Tensor,
    *,
    points_per_side: int = 16,
    pred_iou_thresh: float = 0.88,
    stability_score_thresh: float = 0.95,
    mask_nms_thresh: float = 0.7,
) -> Tensor:
    """The masks of all things in an image, best first.

    The thresholds are the published ones, but for two differences: stability is measured on the model's
    own mask of side / 4 pixels, so that an image of 28 × 28 does not make every small mask unstable, and
    masks coincide by their own overlap, not by that of their boxes.

    Args:
        sam: the model.
        image: (H, W, 3) uint8.
        points_per_side: prompts along each side, the middles of points_per_side × points_per_side cells.
        pred_iou_thresh: smallest intersection over union that the model expects of a mask.
        stability_score_thresh: smallest intersection over union of the masks at logits above 1 and above -1.
        mask_nms_thresh: largest intersection over union of two masks.

    Returns:
        (M, H, W) bool on the CPU, M ≥ 0.
    """
    H, W, _ = image.shape
    masks, scores = [], []
    middles = (torch.arange(points_per_side) + 0.5) / points_per_side
    row, column = torch.meshgrid(middles, middles, indexing="ij")
    points = torch.stack([column.flatten(), row.flatten()], -1)
    device = next(sam.module.parameters()).device
    with _one_thread():
        embeddings = sam.embed(image)
        for batch in torch.split(points, _BATCH.get(device.type, 2)):
            logits, expected = sam.masks(embeddings, batch)
            good = (expected >= pred_iou_thresh) & (_stability(logits) >= stability_score_thresh)
            if good.any():
                sized = interpolate(logits[good][None], (H, W), mode="bilinear", antialias=True)[0] > 0
                masks.append(sized.cpu())
                scores.append(expected[good].cpu())
    if not masks:
        return torch.zeros(0, H, W, dtype=torch.bool)
    return _distinct(torch.cat(masks), torch.cat(scores), mask_nms_thresh)


@contextmanager
def _one_thread() -> Iterator[None]:
    """A single thread for each operation: they are so small that a second one costs more than it saves.

    Measured on two cores: 0.07 s a prompt with one thread, 0.11 s with two, at a side of 1024.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _stability(logits: Tensor) -> Tensor:
    """(P, 3) of (P, 3, h, w): the smaller mask lies in the larger one, so its area is the intersection."""
    inner, outer = ((logits > level).flatten(2).sum(-1) for level in (1, -1))
    return inner / outer.clamp_min(1)


def _distinct(masks: Tensor, scores: Tensor, mask_nms_thresh: float) -> Tensor:
    """Best first, without those that coincide with a better one, and without empty ones."""
    masks = masks[scores.argsort(descending=True, stable=True)]
    masks = masks[masks.flatten(1).any(1)]
    flat = masks.flatten(1).float()
    both, area = flat @ flat.T, flat.sum(1)
    coincide = both > mask_nms_thresh * (area[:, None] + area - both)
    kept: list[int] = []
    for i in range(len(masks)):
        if not coincide[i, kept].any():
            kept.append(i)
    return masks[kept]
