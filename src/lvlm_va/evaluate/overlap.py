"""How well correction masks cover the planted feature, and nothing else."""

from torch import Tensor

__all__ = ["mask_overlap"]


def mask_overlap(masks: Tensor, truth: Tensor) -> dict[str, float | int | None]:
    """Intersection over union of correction masks with the planted feature.

    Args:
        masks: (N, H, W) bool, A.
        truth: (N, H, W) bool, A^(GT).

    Returns:
        {"images": that carry the feature, "masked": of these with any mask, "iou": mean over these,
        in [0, 1], or None without any, "masked_without": masked images of the others, "without": how many
        those are}.
    """
    carrying = truth.flatten(1).any(1)
    A, G = masks[carrying].bool().flatten(1), truth[carrying].flatten(1)
    iou = (A & G).sum(1) / (A | G).sum(1)
    return {
        "images": int(carrying.sum()),
        "masked": int(A.any(1).sum()),
        "iou": float(iou.double().mean()) if len(iou) else None,
        "masked_without": int(masks[~carrying].flatten(1).any(1).sum()),
        "without": int((~carrying).sum()),
    }
