"""ResNet-18 and ResNet-50 (He et al. 2016, "Deep Residual Learning for Image Recognition", Table 1).

Written as torchvision writes them, v1.5: a bottleneck's stride sits on its 3×3 convolution, and one in-place
ReLU module serves a whole block. The names in the state dict are torchvision's, so its checkpoints load.
"""

from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["BasicBlock", "Bottleneck", "ResNet", "resnet18", "resnet50"]


def _conv(fan_in: int, fan_out: int, size: int, stride: int = 1) -> nn.Conv2d:
    """Convolution that keeps the resolution up to its stride; batch normalisation brings the bias."""
    return nn.Conv2d(fan_in, fan_out, size, stride=stride, padding=size // 2, bias=False)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut: y = ReLU(F(x) + x) (Eq. 1; Fig. 5, left).

    Args:
        fan_in: channels of the input.
        width: channels of both convolutions.
        stride: of the first convolution.
        downsample: the projection of the shortcut where shapes differ (Eq. 2), or None.
    """

    expansion = 1

    def __init__(self, fan_in: int, width: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = _conv(fan_in, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(n, fan_in, H, W) → (n, width, ⌈H / stride⌉, ⌈W / stride⌉)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += shortcut
        y: Tensor = self.relu(out)
        return y


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions and a shortcut (Fig. 5, right).

    Args:
        fan_in: channels of the input.
        width: channels of the 3×3 convolution; the block gives four times as many.
        stride: of the 3×3 convolution.
        downsample: the projection of the shortcut where shapes differ, or None.
    """

    expansion = 4

    def __init__(self, fan_in: int, width: int, stride: int = 1, downsample: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = _conv(fan_in, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, width * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """(n, fan_in, H, W) → (n, 4 · width, ⌈H / stride⌉, ⌈W / stride⌉)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += shortcut
        y: Tensor = self.relu(out)
        return y


class ResNet(nn.Module):
    """A stem, four stages of residual blocks, global average pooling and one affine layer.

    Args:
        block: the kind of block.
        depths: the number of blocks in each of the four stages.
        num_classes: K.
        in_channels: C, channels of the images.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        num_classes: int = 1000,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(block, 64, 64, depths[0], stride=1)
        self.layer2 = _stage(block, 64 * block.expansion, 128, depths[1], stride=2)
        self.layer3 = _stage(block, 128 * block.expansion, 256, depths[2], stride=2)
        self.layer4 = _stage(block, 256 * block.expansion, 512, depths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * block.expansion, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) float, normalised as in training, H and W at least 32 → (n, K) logits."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def _stage(
    block: type[BasicBlock] | type[Bottleneck], fan_in: int, width: int, depth: int, stride: int
) -> nn.Sequential:
    """`depth` blocks, of which the first changes resolution and channels."""
    fan_out = width * block.expansion
    downsample = None
    if stride != 1 or fan_in != fan_out:
        downsample = nn.Sequential(_conv(fan_in, fan_out, 1, stride), nn.BatchNorm2d(fan_out))
    first = block(fan_in, width, stride, downsample)
    return nn.Sequential(first, *(block(fan_out, width) for _ in range(depth - 1)))


def resnet18(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet-18: 11.7 million parameters with 1000 classes."""
    return ResNet(BasicBlock, (2, 2, 2, 2), num_classes, in_channels)


def resnet50(num_classes: int = 1000, in_channels: int = 3) -> ResNet:
    """ResNet-50: 25.6 million parameters with 1000 classes."""
    return ResNet(Bottleneck, (3, 4, 6, 3), num_classes, in_channels)
