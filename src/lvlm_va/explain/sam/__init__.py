"""SAM's masks of an image: SAM or SAM 2, prompted everywhere."""

from lvlm_va.explain.sam.everything import segment_everything
from lvlm_va.explain.sam.model import PromptedSam, load_sam
from lvlm_va.explain.sam.source import SamSource, find_sam, needs_transformers

__all__ = ["PromptedSam", "SamSource", "find_sam", "load_sam", "needs_transformers", "segment_everything"]
