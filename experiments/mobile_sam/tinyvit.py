"""TinyViT, the image encoder of MobileSAM (Wu et al. 2022; Zhang et al. 2023, arXiv 2306.14289).

Four stages: inverted bottlenecks, then three stages of window attention with a depthwise convolution
inside each block. The names of the layers are those of `mobile_sam.pt`, so that its tensors fit as they
are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

__all__ = ["TinyViT"]

_STRIDES = (2, 2, 1)
"""Between the stages: the last one stays at a sixteenth of the image, SAM's resolution."""


class TinyViT(nn.Module):
    """From (B, 3, S, S) normalised float32 images to (B, channels, S / 16, S / 16) embeddings.

    Args:
        widths: channels of the four stages; MobileSAM's by default, as all arguments.
        depths: blocks of each stage.
        heads: attention heads of stages 2 to 4.
        windows: sides of their attention windows, in positions of the stage.
        channels: of the embeddings.
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 160, 320),
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (2, 4, 5, 10),
        windows: Sequence[int] = (7, 7, 14, 7),
        channels: int = 256,
    ) -> None:
        super().__init__()
        self.patch_embed = _PatchEmbed(widths[0])
        self.layers = nn.ModuleList()
        for i, width in enumerate(widths):
            blocks = [
                _MBConv(width) if i == 0 else _Block(width, heads[i], windows[i]) for _ in range(depths[i])
            ]
            merging = _PatchMerging(width, widths[i + 1], _STRIDES[i]) if i < len(_STRIDES) else None
            self.layers.append(_Stage(blocks, merging))
        self.neck = nn.Sequential(
            nn.Conv2d(widths[-1], channels, 1, bias=False),
            _LayerNorm2d(channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            _LayerNorm2d(channels),
        )

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """(B, 3, S, S) to (B, channels, S / 16, S / 16), first of a tuple as in transformers' encoders."""
        x: Tensor = self.patch_embed(images)
        for layer in self.layers:
            x = layer(x)
        return (self.neck(x),)


class _ConvNorm(nn.Sequential):
    """A convolution without bias, then batch normalisation."""

    def __init__(self, ins: int, outs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.add_module("c", nn.Conv2d(ins, outs, kernel, stride, kernel // 2, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(outs))


class _PatchEmbed(nn.Module):
    """(B, 3, S, S) to (B, width, S / 4, S / 4)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            _ConvNorm(3, width // 2, 3, stride=2), nn.GELU(), _ConvNorm(width // 2, width, 3, stride=2)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.seq(x)
        return out


class _Stage(nn.Module):
    """Blocks on (B, C, H, W), then the step to the next stage."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        out: Tensor = x if self.downsample is None else self.downsample(x)
        return out


class _MBConv(nn.Module):
    """An inverted bottleneck that keeps its shape."""

    def __init__(self, width: int, expansion: int = 4) -> None:
        super().__init__()
        inner = expansion * width
        self.conv1 = _ConvNorm(width, inner, 1)
        self.conv2 = _ConvNorm(inner, inner, 3, groups=inner)
        self.conv3 = _ConvNorm(inner, width, 1)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(x + self.conv3(self.act(self.conv2(self.act(self.conv1(x))))))
        return out


class _PatchMerging(nn.Module):
    """(B, ins, H, W) to (B, outs, H / stride, W / stride)."""

    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _ConvNorm(ins, outs, 1)
        self.conv2 = _ConvNorm(outs, outs, 3, stride=stride, groups=outs)
        self.conv3 = _ConvNorm(outs, outs, 1)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3(self.act(self.conv2(self.act(self.conv1(x)))))
        return out


class _Block(nn.Module):
    """Window attention, a depthwise convolution, a perceptron; keeps (B, C, H, W)."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = _Attention(width, heads, window)
        self.local_conv = _ConvNorm(width, width, 3, groups=width)
        self.mlp = _Perceptron(width)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        w = self.window
        down, right = -H % w, -W % w
        # Padded with zeros that take part in the attention, as when the weights were trained.
        y = pad(x.permute(0, 2, 3, 1), (0, 0, 0, right, 0, down))
        rows, columns = (H + down) // w, (W + right) // w
        y = y.view(B, rows, w, columns, w, C).transpose(2, 3).reshape(-1, w * w, C)
        y = self.attn(y)
        y = y.view(B, rows, columns, w, w, C).transpose(2, 3).reshape(B, H + down, W + right, C)
        x = self.local_conv(x + y[:, :H, :W].permute(0, 3, 1, 2))
        tokens = x.flatten(2).mT
        out: Tensor = (tokens + self.mlp(tokens)).mT.reshape(B, C, H, W)
        return out


class _Attention(nn.Module):
    """Attention among the L = window² positions of a window, with a learnt bias for every offset.

    From (B, L, C) to (B, L, C).
    """

    offsets: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        # The offset (|Δrow|, |Δcolumn|) between two positions is a position of the window itself.
        row, column = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        row, column = row.flatten(), column.flatten()
        between = (row[:, None] - row).abs() * window + (column[:, None] - column).abs()
        self.register_buffer("offsets", between, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        B, L, C = x.shape
        # Of every head first its queries, then its keys, then its values.
        q, k, v = self.qkv(self.norm(x)).view(B, L, self.heads, -1).transpose(1, 2).chunk(3, -1)
        y = scaled_dot_product_attention(q, k, v, attn_mask=self.attention_biases[:, self.offsets])
        out: Tensor = self.proj(y.transpose(1, 2).reshape(B, L, C))
        return out


class _Perceptron(nn.Module):
    """Normalisation and two linear layers on (B, L, C)."""

    def __init__(self, width: int, expansion: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, expansion * width)
        self.fc2 = nn.Linear(expansion * width, width)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.act(self.fc1(self.norm(x))))
        return out


class _LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
