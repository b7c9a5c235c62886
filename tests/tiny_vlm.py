"""Vision-language models of a few thousand random weights, saved as any other is: they babble.

Three architectures: LLaVA (a CLIP tower and a projector), Idefics3 (which SmolVLM is) and Qwen2-VL. Their
tokens are bytes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "</{{ message['role'] }}>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "bos_token_id": None,
}
_VISION = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 14}


def llava(path: Path, *, template: str = TEMPLATE, context: int = 32768, seed: int = 0) -> Path:
    tokenizer = _tokenizer("<image>")
    processor = transformers.LlavaProcessor(
        transformers.models.clip.CLIPImageProcessorPil(
            size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
        ),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template.replace("IMAGE", "<image>"),
    )
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(
            **_VISION, intermediate_size=64, image_size=28, projection_dim=32
        ),
        text_config=transformers.LlamaConfig(
            **_TEXT, **_ids(tokenizer), vocab_size=len(tokenizer), max_position_embeddings=context
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return _save(path, processor, transformers.LlavaForConditionalGeneration, config, seed)


def idefics3(path: Path) -> Path:
    names = ["<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>"]
    tokenizer = _tokenizer(*names, *(f"<row_{i}_col_{j}>" for i in range(1, 7) for j in range(1, 7)))
    processor = transformers.Idefics3Processor(
        transformers.Idefics3ImageProcessorPil(
            size={"longest_edge": 56}, max_image_size={"longest_edge": 28}
        ),
        tokenizer,
        image_seq_len=1,
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    )
    config = transformers.Idefics3Config(
        vision_config={**_VISION, "intermediate_size": 64, "image_size": 28},
        text_config={
            **_TEXT,
            **_ids(tokenizer),
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 32768,
        },
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    return _save(path, processor, transformers.Idefics3ForConditionalGeneration, config)


def qwen2_vl(path: Path) -> Path:
    names = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    tokenizer = _tokenizer(*names)
    kept = {"get_attributes": classmethod(lambda _: ["image_processor", "tokenizer"])}  # no torchvision here
    processor = type("Qwen2VLProcessor", (transformers.Qwen2VLProcessor,), kept)(
        transformers.Qwen2VLImageProcessorPil(size={"shortest_edge": 28**2, "longest_edge": 56**2}),
        tokenizer,
        None,
        chat_template=TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    image, video, start, end = tokenizer.convert_tokens_to_ids(names)
    config = transformers.Qwen2VLConfig(
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2},
        text_config={
            **_TEXT,
            **_ids(tokenizer),
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 32768,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6},
        },
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    return _save(path, processor, transformers.Qwen2VLForConditionalGeneration, config)


BUILDERS: dict[str, Callable[[Path], Path]] = {"llava": llava, "idefics3": idefics3, "qwen2_vl": qwen2_vl}


def _tokenizer(*special: str) -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<eos>", "<pad>", *special])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>"
    )


def _ids(tokenizer: Any) -> dict[str, int]:
    return {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}


def _save(path: Path, processor: Any, architecture: Any, config: Any, seed: int = 0) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = architecture(config)
    with torch.no_grad():  # enough that answers depend on what is read
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "embed" not in name:
                weight *= 8
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path
