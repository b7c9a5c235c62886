"""What is asked about when a critic calls a segment mixed: its parts (see `explain.parts`)."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import torch

from lvlm_va.critique.question import ExplainedImage
from lvlm_va.explain.parts import divide, number_parts

__all__ = ["divide_segments", "only"]


def divide_segments(
    explained: ExplainedImage, segments: Collection[int]
) -> tuple[ExplainedImage, tuple[int, ...], tuple[int, ...]]:
    """The image with segments divided, which of them could be, and the numbers of their parts."""
    if not segments:
        return explained, (), ()
    labels = torch.from_numpy(explained.segments)
    parts = divide(labels, torch.from_numpy(explained.attribution), segments)
    numbered, shares = number_parts(labels, explained.shares, parts)
    divided = replace(explained, segments=numbered.numpy(), shares=shares)
    return divided, tuple(parts), tuple(range(len(explained.shares) + 1, len(shares) + 1))


def only(explained: ExplainedImage, segments: Collection[int]) -> ExplainedImage:
    """The image with these segments alone; what else there is belongs to none."""
    kept = np.isin(explained.segments, list(segments))
    return replace(explained, segments=np.where(kept, explained.segments, 0).astype(np.int16))
