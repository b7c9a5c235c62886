"""Image classifiers of transformers beyond `networks`, and hand-made ones, small and at their usual size.

Built from a configuration, never fetched. `disturbed` moves what an initialisation leaves trivial (norms of
scale one, layer scales of 1e-6, weights so small that attention is uniform), which any rule would explain.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.networks import Network

__all__ = ["REFUSED", "ZOO", "disturbed"]


def disturbed(net: nn.Module, side: int, seed: int = 0) -> nn.Module:
    """Weights of gain one, biases, scales and batch statistics that are not trivial; in evaluation mode."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for name, p in net.named_parameters():
            if p.ndim == 4 or (p.ndim >= 2 and min(p.shape) > 1):
                p.copy_(torch.randn_like(p) * (1.5 / p[0].numel()) ** 0.5)
            elif "logit_scale" not in name:
                least = 0 < float(p.abs().max()) < 1e-2
                p.copy_(torch.rand_like(p) + 0.2 if least else p + 0.3 * torch.randn_like(p))
        norms = [m for m in net.modules() if "BatchNorm" in type(m).__name__]
        if norms:
            net.train()
            for m in norms:
                m.momentum = None  # the mean over the batches
                m.reset_running_stats()
            for _ in range(2):
                net(torch.rand(4, 3, side, side))
    return net.eval()


def _hf(kind: str, name: str = "ForImageClassification", **options: Any) -> Callable[[int], nn.Module]:
    def build(num_classes: int) -> nn.Module:
        import transformers

        config = getattr(transformers, f"{kind}Config")(num_labels=num_classes, **options)
        return getattr(transformers, f"{kind}{name}")(config)

    return build


class Gate(nn.Module):
    """Squeeze-and-excitation as MobileNetV3 has it (Hu et al. 2018; Howard et al. 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(width, max(width // 4, 4), 1), nn.Conv2d(max(width // 4, 4), width, 1)

    def forward(self, x: Tensor) -> Tensor:
        s = F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)), inplace=True)
        return F.hardsigmoid(self.fc2(s), inplace=True) * x


class Inverted(nn.Module):
    """An inverted residual block of MobileNetV3."""

    def __init__(self, fan_in: int, k: int, wide: int, out: int, gate: bool, hard: bool, stride: int) -> None:
        super().__init__()
        act = nn.Hardswish if hard else nn.ReLU
        layers: list[nn.Module] = []
        if wide != fan_in:
            layers += [nn.Conv2d(fan_in, wide, 1, bias=False), nn.BatchNorm2d(wide), act(inplace=True)]
        layers += [
            nn.Conv2d(wide, wide, k, stride, k // 2, groups=wide, bias=False), nn.BatchNorm2d(wide),
            act(inplace=True), *([Gate(wide)] if gate else []),
            nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out),
        ]  # fmt: skip
        self.layers, self.residual = nn.Sequential(*layers), stride == 1 and fan_in == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        if self.residual:
            y += x
        return y


_LARGE = (
    (3, 16, 16, 0, 0, 1), (3, 64, 24, 0, 0, 2), (3, 72, 24, 0, 0, 1), (5, 72, 40, 1, 0, 2),
    (5, 120, 40, 1, 0, 1), (5, 120, 40, 1, 0, 1), (3, 240, 80, 0, 1, 2), (3, 200, 80, 0, 1, 1),
    (3, 184, 80, 0, 1, 1), (3, 184, 80, 0, 1, 1), (3, 480, 112, 1, 1, 1), (3, 672, 112, 1, 1, 1),
    (5, 672, 160, 1, 1, 2), (5, 960, 160, 1, 1, 1), (5, 960, 160, 1, 1, 1),
)  # fmt: skip


def _mobilenet_v3(blocks: tuple[tuple[int, ...], ...], hidden: int) -> Callable[[int], nn.Module]:
    def build(num_classes: int) -> nn.Module:
        layers: list[nn.Module] = [
            nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish(inplace=True)
        ]  # fmt: skip
        fan_in = 16
        for k, wide, out, gate, hard, stride in blocks:
            layers.append(Inverted(fan_in, k, wide, out, bool(gate), bool(hard), stride))
            fan_in = out
        return nn.Sequential(
            *layers, nn.Conv2d(fan_in, 6 * fan_in, 1, bias=False), nn.BatchNorm2d(6 * fan_in),
            nn.Hardswish(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(6 * fan_in, hidden), nn.Hardswish(inplace=True), nn.Dropout(0.2), nn.Linear(hidden,
            num_classes),
        )  # fmt: skip

    return build


class TorchViT(nn.Module):
    """A vision transformer of torch's own layers, a class token and the fused encoder's code path."""

    def __init__(self, num_classes: int, side: int, patch: int, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 1 + (side // patch) ** 2, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        return self.head(self.encoder(x)[:, 0])


class Mixer(nn.Module):
    """MLP-Mixer (Tolstikhin et al. 2021)."""

    def __init__(self, num_classes: int, side: int, patch: int, width: int, depth: int) -> None:
        super().__init__()
        tokens = (side // patch) ** 2
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.blocks = nn.ModuleList(
            nn.ModuleList([nn.LayerNorm(width), self._mlp(tokens), nn.LayerNorm(width), self._mlp(width)])
            for _ in range(depth)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, num_classes)

    @staticmethod
    def _mlp(width: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        for norm1, tokens, norm2, channels in self.blocks:
            x = x + tokens(norm1(x).transpose(1, 2)).transpose(1, 2)
            x = x + channels(norm2(x))
        return self.head(self.norm(x).mean(1))


class CBAM(nn.Module):
    """Convolutions gated by channel and by place, from means and maxima (Woo et al. 2018)."""

    def __init__(self, num_classes: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        fan_in = 3
        for width in widths:
            self.stages.append(
                nn.ModuleList([
                    nn.Conv2d(fan_in, width, 3, 2, 1), nn.GroupNorm(4, width),
                    nn.Sequential(nn.Conv2d(width, 4, 1), nn.ReLU(), nn.Conv2d(4, width, 1)),
                    nn.Conv2d(2, 1, 7, padding=3),
                ])
            )  # fmt: skip
            fan_in = width
        self.head = nn.Linear(fan_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm, channel, place in self.stages:
            x = F.leaky_relu(norm(conv(x)), 0.1)
            gate = channel(x.mean((2, 3), keepdim=True)) + channel(F.adaptive_max_pool2d(x, 1))
            x = x * torch.sigmoid(gate)
            x = x * torch.sigmoid(place(torch.cat([x.mean(1, True), x.max(1, keepdim=True)[0]], 1)))
        return self.head(x.mean((2, 3)))


class Refused(nn.Module):
    """A convolution, `middle` on its activations, a linear head."""

    def __init__(self, num_classes: int, middle: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.head, self.middle = nn.Conv2d(3, 8, 3, 4), nn.Linear(8 * 64, num_classes), middle

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.conv(x)).flatten(1))


def _mixing(x: Tensor) -> Tensor:
    tokens = x.mean((2, 3))
    return x * (tokens @ tokens.T).softmax(-1).diagonal()[:, None, None, None]


def _both_ways(x: Tensor) -> Tensor:
    return torch.relu(torch.cat([x, x.flip(0)]))[: len(x)]


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "dropout that stays on": (lambda x: F.dropout(x, 0.5, training=True), "randomness"),
    "batch statistics in evaluation": (
        lambda x: F.batch_norm(x, None, None, training=True),
        "depend on each other",
    ),
    "attention over the batch": (_mixing, "depend on each other"),
    "views stacked in another order": (_both_ways, "order that cannot be followed"),
    "top-k routing": (lambda x: x * (x >= x.topk(2, 1)[0][:, 1:]), "no exact rule for: topk"),
    "sorted activations": (lambda x: x.sort(1)[0], "no exact rule for: sort"),
    "a product over channels": (lambda x: x * x.prod(1, keepdim=True), "no exact rule for: prod"),
    "a gate that is detached": (lambda x: x * x.sigmoid().detach(), "hides .*: detach"),
    "hard attention": (lambda x: x.gather(1, x.argmax(1, keepdim=True)).expand_as(x), "argmax"),
}
"""What has no exact rule: a function of activations and what the refusal says of it."""

_VIT = {
    "image_size": 32, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32,
}  # fmt: skip
_SMALL = {"image_size": 224, "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
_VIT_S = _SMALL | {"patch_size": 16, "intermediate_size": 1536}
_DINO = {k: v for k, v in _VIT.items() if k != "intermediate_size"} | {"mlp_ratio": 2}
_DINO_S = _SMALL | {"patch_size": 14}
_PYRAMID = {
    "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [4, 2], "hidden_sizes": [8, 16],
    "patch_sizes": [7, 3],
    "strides": [4, 2], "num_attention_heads": [1, 2], "mlp_ratios": [2, 2],
}  # fmt: skip
_SWIN = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [2, 2],
    "num_heads": [1, 2],
    "window_size": 4,
}


def _network(kind: str, small: dict[str, Any], usual: dict[str, Any] | None = None) -> Network:
    return Network(_hf(kind, **small), _hf(kind, **(usual or {})))


ZOO: dict[str, Network] = {
    "MobileNetV3-L": Network(
        _mobilenet_v3(((3, 16, 16, 0, 0, 1), (3, 48, 24, 1, 0, 2), (5, 72, 24, 1, 1, 1)), 32),
        _mobilenet_v3(_LARGE, 1280)
    ),
    "EfficientNet-B0, random": _network(
        "EfficientNet",
        {
            "image_size": 32, "kernel_sizes": [3, 3], "in_channels": [32, 16], "out_channels": [16, 24],
            "strides": [1, 2], "depthwise_padding": [], "num_block_repeats": [1, 1], "expand_ratios": [1, 4],
            "hidden_dim": 1280, "width_coefficient": 1.0, "depth_coefficient": 1.0,
        },
        {"image_size": 224, "hidden_dim": 1280, "width_coefficient": 1.0, "depth_coefficient": 1.0},
    ),
    "ConvNeXt-T, random": _network("ConvNext", {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}),
    "ConvNeXtV2-T": _network("ConvNextV2", {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2}),
    "Swin-T": _network("Swin", _SWIN, {"image_size": 224}),
    "SwinV2-T": _network(
        "Swinv2", _SWIN, {"image_size": 256, "window_size": 8}
    ),
    "Donut-Swin": _network("DonutSwin", _SWIN, {"image_size": 224}),
    "ViT-S/16": _network("ViT", _VIT, _VIT_S),
    "ViT-S/16, eager attention": _network(
        "ViT", _VIT | {"attn_implementation": "eager"}, _VIT_S | {"attn_implementation": "eager"}
    ),
    "ViT-S/16 of torch's layers": Network(
        lambda k: TorchViT(k, 32, 8, 16, 2, 2), lambda k: TorchViT(k, 224, 16, 384, 6, 12)
    ),
    "BiT-50": _network("Bit", {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 1],
        "num_groups": 4}),
    "DeiT-S": _network("DeiT", _VIT, _VIT_S),
    "BEiT-S": _network(
        "Beit",
        _VIT | {"use_relative_position_bias": True, "layer_scale_init_value": 0.5},
        _VIT_S | {"use_relative_position_bias": True},
    ),
    "Data2Vec-Vision": _network("Data2VecVision", _VIT, _VIT_S),
    "DINOv2-S/14": _network("Dinov2", _DINO, _DINO_S),
    "DINOv2-S/14, SwiGLU": _network("Dinov2", _DINO | {"use_swiglu_ffn": True},
        _DINO_S | {"use_swiglu_ffn": True}),
    "DINOv2-S/14 with registers": _network("Dinov2WithRegisters", _DINO, _DINO_S),
    "I-JEPA": _network("IJepa", _VIT, _VIT_S),
    "ViT-MSN": _network("ViTMSN", _VIT, _VIT_S),
    "CLIP": _network("CLIP", {"vision_config": _VIT}, {"vision_config": _VIT_S}),
    "MetaCLIP 2": _network("MetaClip2", {"vision_config": _VIT}, {"vision_config": _VIT_S}),
    "SigLIP": _network("Siglip", {"vision_config": _VIT}, {"vision_config": _VIT_S}),
    "CvT-13": _network(
        "Cvt",
        {
            "embed_dim": [8, 16], "num_heads": [1, 2], "depth": [1, 2], "patch_sizes": [7, 3],
            "patch_stride": [4, 2],
            "patch_padding": [2, 1], "mlp_ratio": [2.0, 2.0], "attention_drop_rate": [0.0, 0.0],
            "drop_rate": [0.0, 0.0], "drop_path_rate": [0.0, 0.0], "qkv_bias": [True, True],
            "cls_token": [False, True], "qkv_projection_method": ["dw_bn", "dw_bn"], "kernel_qkv": [3, 3],
            "padding_kv": [1, 1], "stride_kv": [2, 2], "padding_q": [1, 1], "stride_q": [1, 1],
        },
    ),
    "FocalNet-T": _network(
        "FocalNet",
        {
            "image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "hidden_sizes": [8, 16],
            "focal_levels": [2, 2], "focal_windows": [3, 3], "use_post_layernorm": True,
            "normalize_modulator": True,
        },
    ),
    "HGNetV2": _network(
        "HGNetV2",
        {
            "embedding_size": 8, "hidden_sizes": [16, 16], "depths": [1, 1], "stem_channels": [3, 8, 8],
            "stage_in_channels": [8, 16], "stage_mid_channels": [8, 8], "stage_out_channels": [16, 16],
            "stage_num_blocks": [1, 1], "stage_downsample": [False, True], "stage_light_block": [False, True],
            "stage_kernel_size": [3, 3], "stage_numb_of_layers": [2, 2],
        },
    ),
    "Hiera-T": _network(
        "Hiera",
        {
            "image_size": [32, 32], "patch_size": [3, 3], "patch_stride": [2, 2], "patch_padding": [1, 1],
            "embed_dim": 8, "depths": [1, 1, 1], "num_heads": [1, 2, 2], "query_stride": [2, 2],
            "num_query_pool": 1,
            "masked_unit_size": [4, 4], "masked_unit_attention": [True, True, False],
            "embed_dim_multiplier": 2.0,
        },
    ),
    "LeViT": _network(
        "Levit",
        {
            "image_size": 32, "hidden_sizes": [16, 32, 48], "num_attention_heads": [2, 2, 2],
            "depths": [1, 1, 1], "key_dim": [8, 8, 8], "patch_size": 16, "attention_ratio": [2, 2, 2],
            "mlp_ratio": [2, 2, 2],
        },
    ),
    "MobileViT": _network(
        "MobileViT",
        {
            "image_size": 32, "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 16, 16, 24, 24, 32, 40],
            "num_attention_heads": 2,
        },
        {"image_size": 256},
    ),
    "MobileViTV2": _network("MobileViTV2", {"image_size": 32, "width_multiplier": 0.25,
        "output_stride": 16}, {"image_size": 256}),
    "PoolFormer-S12": _network(
        "PoolFormer",
        {
            "hidden_sizes": [8, 16], "depths": [1, 1], "num_encoder_blocks": 2, "patch_sizes": [7, 3],
            "strides": [4, 2], "padding": [2, 1],
        },
    ),
    "PP-LCNet": _network("PPLCNet", {"scale": 0.25}),
    "PVT": _network(
        "Pvt",
        {
            "image_size": 32, "depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16],
            "num_attention_heads": [1, 1, 2, 2], "mlp_ratios": [2, 2, 2, 2],
        },
    ),
    "PVTv2": _network("PvtV2", _PYRAMID | {"image_size": 32}),
    "PVTv2, linear attention": _network(
        "PvtV2", _PYRAMID | {"image_size": 32, "linear_attention": True}, {"linear_attention": True}
    ),
    "RegNet": _network("RegNet", {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 1],
        "groups_width": 8}),
    "SegFormer": _network("Segformer", _PYRAMID),
    "SwiftFormer": _network(
        "SwiftFormer", {"image_size": 32, "depths": [1, 1, 1, 1], "embed_dims": [8, 16, 16, 24],
        "mlp_ratio": 2}
    ),
    "MLP-Mixer": Network(
        lambda k: Mixer(k, 32, 8, 16, 2), lambda k: Mixer(k, 224, 16, 384, 8)
    ),
    "CBAM": Network(lambda k: CBAM(k, (8, 16)), lambda k: CBAM(k, (64, 128, 256, 512))),
}  # fmt: skip
