"""MobileSAM: SAM's prompt encoder and mask decoder behind a TinyViT, from one `mobile_sam.pt`."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from experiments.mobile_sam.tinyvit import TinyViT
from lvlm_va.errors import ModelError

if TYPE_CHECKING:
    from transformers import SamModel

__all__ = ["SIDE", "mobile_sam"]

SIDE = 512
"""Of the square that images are brought to, pixels.

Published is 1024, at which each of 256 prompts costs four times as much. Nothing in the encoder or the
decoder is bound to a size, and images here are 28 to 224 pixels wide: patches, tags and bandages are
found as well at half of it.
"""

_UNUSED = re.compile(r"image_encoder\.(norm_head|head)\.|.*\.num_batches_tracked$")
"""What the encoder was pretrained with and SAM has no use for, and counters of training."""

_NAMES = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"\.pe_layer\.positional_encoding_gaussian_matrix$", ".shared_embedding.positional_embedding"),
    (r"\.point_embeddings\.", ".point_embed."),
    (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
    (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
    (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
    (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
    (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
    (r"^(mask_decoder\.transformer\..*)\bnorm(\d|_final_attn)\.", r"\1layer_norm\2."),
    (r"\.output_upscaling\.0\.", ".upscale_conv1."),
    (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
    (r"\.output_upscaling\.3\.", ".upscale_conv2."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d|iou_prediction_head)\.)layers\.0\.", r"\1proj_in."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d|iou_prediction_head)\.)layers\.2\.", r"\1proj_out."),
    (r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d|iou_prediction_head)\.)layers\.1\.", r"\1layers.0."),
)
"""segment-anything's names of the layers, and transformers' for the same."""


def mobile_sam(state: Mapping[str, Tensor]) -> "SamModel":
    """MobileSAM with the tensors of `mobile_sam.pt`: transformers' SAM, its vision encoder a `TinyViT`.

    Args:
        state: name → tensor, with segment-anything's names.

    Raises:
        ModelError: if these are not MobileSAM's tensors.
    """
    model = _empty(TinyViT())
    renamed = {_renamed(name): tensor for name, tensor in state.items() if not _UNUSED.match(name)}
    shared = "shared_image_embedding.positional_embedding"
    if (twin := f"prompt_encoder.{shared.replace('_image', '')}") in renamed:
        renamed[shared] = renamed[twin]  # one tensor under two names
    own = {name: t for name, t in model.state_dict().items() if not name.endswith("num_batches_tracked")}
    wrong = sorted(renamed.keys() ^ own.keys())
    wrong += [name for name, tensor in own.items() if name in renamed and tensor.shape != renamed[name].shape]
    if wrong:
        raise ModelError(
            f"these are not MobileSAM's weights: {len(wrong)} of {len(own)} tensors are missing, unknown or "
            f"of another shape, first {wrong[0]}"
        )
    model.load_state_dict(renamed, strict=False)
    model.train(False)
    return model


def _renamed(name: str) -> str:
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _empty(encoder: nn.Module) -> "SamModel":
    """SAM with another encoder in place of its own, which is made as small as can be."""
    from transformers import SamConfig, SamModel

    own = {"hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 0, "image_size": SIDE}
    prompts = {"image_size": SIDE, "image_embedding_size": SIDE // 16}
    model = SamModel(SamConfig(vision_config=own, prompt_encoder_config=prompts))
    model.vision_encoder = encoder  # type: ignore[assignment]
    return model
