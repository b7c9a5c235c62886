"""SAM's masks of an image: SAM, SAM 2 or MobileSAM, prompted everywhere."""

from lvlm_va.explain.sam.everything import segment_everything
from lvlm_va.explain.sam.model import PromptedSam, load_sam
from lvlm_va.explain.sam.source import SamSource, find_sam

__all__ = ["PromptedSam", "SamSource", "find_sam", "load_sam", "segment_everything"]
