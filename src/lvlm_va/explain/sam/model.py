"""A SAM ready to be prompted: images in, mask logits out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from lvlm_va.errors import ModelError
from lvlm_va.explain.sam.source import SamSource, needs_transformers
from lvlm_va.models.memory import reason

__all__ = ["PromptedSam", "load_sam"]

_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
"""Of ImageNet, by which SAM and SAM 2 normalise images in [0, 1]."""


@dataclass(frozen=True, eq=False)
class PromptedSam:
    """A SAM on its device, in evaluation mode.

    Attributes:
        module: transformers' `SamModel` or `Sam2Model`. (Its type is left open, since that is an optional
            package.)
        side: of the square that an image is brought to, pixels.
    """

    module: Any
    side: int

    @torch.inference_mode()
    def embed(self, image: Tensor) -> Any:
        """Look at an image once, for any number of prompts.

        Args:
            image: (H, W, 3) uint8. It is stretched to a square, whatever its proportions.

        Returns:
            What `masks` takes: (1, D, h, w) float32, of SAM 2 a list of such.
        """
        device = next(self.module.parameters()).device
        pixels = image.to(device).permute(2, 0, 1)[None].float() / 255
        pixels = interpolate(pixels, (self.side, self.side), mode="bilinear", antialias=True)
        mean, deviation = (pixels.new_tensor(x).view(1, 3, 1, 1) for x in (_MEAN, _DEVIATION))
        pixels = (pixels - mean) / deviation
        return self.module.get_image_embeddings(pixels)

    @torch.inference_mode()
    def masks(self, embeddings: Any, points: Tensor) -> tuple[Tensor, Tensor]:
        """Three masks for each point: a part, a whole, something between.

        Args:
            embeddings: of the image, from `embed`.
            points: (P, 2) float32, (column, row) in [0, 1] of the image's width and height.

        Returns:
            Logits (P, 3, h, w) float32, positive inside the mask, h = w a fourth of `side`; and the model's
            own estimate (P, 3) of each mask's intersection over union.
        """
        device = next(self.module.parameters()).device
        output = self.module(
            image_embeddings=embeddings,
            input_points=(points.to(device) * self.side)[None, :, None],
            input_labels=torch.ones(1, len(points), 1, dtype=torch.int64, device=device),
            multimask_output=True,
        )
        return output.pred_masks[0].float(), output.iou_scores[0].float()


def load_sam(source: SamSource, device: torch.device | str = "cpu") -> PromptedSam:
    """Read the weights that `find_sam` found.

    Raises:
        ModelError: if they are damaged or incomplete, or transformers is missing.
    """
    needs_transformers()
    from transformers import Sam2Model, SamModel

    kind = "SAM" if source.model_type == "sam" else "SAM 2"
    architecture: Any = SamModel if kind == "SAM" else Sam2Model
    try:
        with _quietly():
            module, told = architecture.from_pretrained(
                source.path,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:  # transformers raises whatever the files provoke
        raise ModelError(
            f"{source.name}: {kind} cannot be loaded from there ({reason(error)}); fetch it again"
        ) from error
    if lacking := sorted(told["missing_keys"]):
        raise ModelError(
            f"{source.name}: {len(lacking)} of {kind}'s tensors are missing, first {lacking[0]}; fetch it "
            "again"
        )
    side = module.config.prompt_encoder_config.image_size
    return PromptedSam(module.eval().to(device), side if isinstance(side, int) else side[0])


@contextmanager
def _quietly() -> Iterator[None]:
    """Without transformers' bars, and its remark that SAM 2's weights are named for its video half."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
