"""SAM and SAM 2 with random weights, small enough to run in milliseconds."""

from pathlib import Path

import torch

_PROMPTS = {"hidden_size": 32, "image_size": 64, "patch_size": 16}
_DECODER = {
    "hidden_size": 32,
    "mlp_dim": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "iou_head_hidden_dim": 32,
}


def save_tiny_sam(folder: Path) -> None:
    """As `save_pretrained` writes it: config.json and model.safetensors; images of 64 × 64."""
    from transformers import SamConfig, SamModel

    torch.manual_seed(0)
    vision = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 64,
        "output_channels": 32,
        "window_size": 2,
        "global_attn_indexes": [1],
        "mlp_dim": 64,
        "num_pos_feats": 16,
    }
    prompts = {**_PROMPTS, "image_embedding_size": 4}
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=_DECODER)
    SamModel(config).save_pretrained(folder)


def save_tiny_sam2(folder: Path) -> None:
    """The same of SAM 2."""
    from transformers import Sam2Config, Sam2Model

    torch.manual_seed(0)
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [64, 64],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "blocks_per_stage": [1, 1, 2, 1],
        "global_attention_blocks": [3],
        "window_size_per_stage": [4, 4, 4, 4],
        "window_positional_embedding_background_size": [2, 2],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 32,
    }
    config = Sam2Config(vision_config=vision, prompt_encoder_config=_PROMPTS, mask_decoder_config=_DECODER)
    Sam2Model(config).save_pretrained(folder)
