"""MobileSAM's regions as segments: `--set explain.segmentation=experiments.mobile_sam:MobileSam`."""

from experiments.mobile_sam.segmentation import MobileSam

__all__ = ["MobileSam"]
