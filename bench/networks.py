"""Common architectures, small or at their usual size, for tests and for docs/architectures.md.

LeNet, VGG and DenseNet are written as torchvision writes them (in-place ReLU modules, `torch.cat`, functions
between modules); the others are the classifiers of transformers, built from a configuration, never fetched.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvlm_va.models.mlp import MLP
from lvlm_va.models.resnet import BasicBlock, Bottleneck, ResNet

__all__ = ["NETWORKS", "Network", "calibrated"]


class LeNet(nn.Module):
    """Convolutions, tanh, average pooling (LeCun et al. 1998), for any image size."""

    def __init__(self, num_classes: int, width: int = 6) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 5, padding=2)
        self.conv2 = nn.Conv2d(width, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(16 * 25, 120), nn.Linear(120, 84), nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(torch.tanh(self.conv1(x)), 2)
        x = F.adaptive_avg_pool2d(self.conv2(x).tanh(), 5)
        x = F.tanh(self.fc1(torch.flatten(x, 1)))
        return self.fc3(torch.tanh(self.fc2(x)))


class VGG(nn.Module):
    """Simonyan and Zisserman 2015 with batch normalisation; "M" is a max-pool."""

    def __init__(self, plan: tuple[int | str, ...], num_classes: int, hidden: int, side: int = 7) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        fan_in = 3
        for step in plan:
            if isinstance(step, str):
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(fan_in, step, 3, padding=1), nn.BatchNorm2d(step), nn.ReLU(inplace=True)]
                fan_in = step
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((side, side))
        self.classifier = nn.Sequential(
            nn.Linear(fan_in * side * side, hidden), nn.ReLU(True), nn.Dropout(),
            nn.Linear(hidden, hidden), nn.ReLU(True), nn.Dropout(),
            nn.Linear(hidden, num_classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class DenseLayer(nn.Module):
    """BN, ReLU, 1×1 convolution, BN, ReLU, 3×3 convolution on all features so far."""

    def __init__(self, fan_in: int, growth: int, width: int) -> None:
        super().__init__()
        self.norm1, self.relu1 = nn.BatchNorm2d(fan_in), nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(fan_in, width * growth, 1, bias=False)
        self.norm2, self.relu2 = nn.BatchNorm2d(width * growth), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width * growth, growth, 3, padding=1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = self.conv1(self.relu1(self.norm1(torch.cat(features, 1))))
        return self.conv2(self.relu2(self.norm2(x)))


class DenseNet(nn.Module):
    """Huang et al. 2017."""

    def __init__(self, depths: tuple[int, ...], growth: int, stem: int, num_classes: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
        self.norm0, self.pool0 = nn.BatchNorm2d(stem), nn.MaxPool2d(3, 2, 1)
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        features = stem
        for number, depth in enumerate(depths):
            self.blocks.append(
                nn.ModuleList(DenseLayer(features + i * growth, growth, 4) for i in range(depth))
            )
            features += depth * growth
            if number == len(depths) - 1:
                self.transitions.append(nn.BatchNorm2d(features))
                break
            layers = (
                nn.BatchNorm2d(features),
                nn.ReLU(True),
                nn.Conv2d(features, features // 2, 1, bias=False),
            )
            self.transitions.append(nn.Sequential(*layers, nn.AvgPool2d(2, 2)))
            features //= 2
        self.classifier = nn.Linear(features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool0(F.relu(self.norm0(self.conv0(x)), inplace=True))
        for block, transition in zip(self.blocks, self.transitions, strict=True):
            found = [x]
            for layer in block:
                found.append(layer(found))
            x = transition(torch.cat(found, 1))
        x = F.adaptive_avg_pool2d(F.relu(x, inplace=True), (1, 1))
        return self.classifier(torch.flatten(x, 1))


def _transformers(kind: str, num_classes: int, **options: object) -> nn.Module:
    import transformers

    config = getattr(transformers, f"{kind}Config")(num_labels=num_classes, **options)
    return getattr(transformers, f"{kind}ForImageClassification")(config)


def _efficientnet(num_classes: int, *, small: bool) -> nn.Module:
    usual: dict[str, object] = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280}
    # With the usual small weights squeeze-and-excitation would multiply by one half, whatever it sees.
    reduced = {
        "image_size": 32, "kernel_sizes": [3, 3], "in_channels": [32, 16], "out_channels": [16, 24],
        "strides": [1, 2], "depthwise_padding": [], "num_block_repeats": [1, 1], "expand_ratios": [1, 4],
        "hidden_dim": 1280, "initializer_range": 0.4, "width_coefficient": 1.0, "depth_coefficient": 1.0,
    }  # fmt: skip
    return _transformers("EfficientNet", num_classes, **(reduced if small else usual))


_VGG11 = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
_VGG_SMALL = (8, "M", 16, 16, "M")


@dataclass(frozen=True)
class Network:
    """An architecture.

    Attributes:
        small: K → an instance for images of 32 × 32, a few thousand parameters where that is possible.
        usual: K → at its usual size.
    """

    small: Callable[[int], nn.Module]
    usual: Callable[[int], nn.Module]


NETWORKS: dict[str, Network] = {
    "MLP": Network(
        lambda k: MLP((3, 32, 32), (32, 16), k), lambda k: MLP((3, 64, 64), (256, 256), k),
    ),
    "LeNet": Network(LeNet, LeNet),
    "ResNet-18": Network(
        lambda k: ResNet(BasicBlock, (1, 1, 1, 1), k),
        lambda k: ResNet(BasicBlock, (2, 2, 2, 2), k),
    ),
    "ResNet-50": Network(
        lambda k: ResNet(Bottleneck, (1, 1, 1, 1), k),
        lambda k: ResNet(Bottleneck, (3, 4, 6, 3), k),
    ),
    "ResNet (transformers)": Network(
        lambda k: _transformers("ResNet", k, embedding_size=8, hidden_sizes=[16, 32], depths=[1, 1]),
        lambda k: _transformers("ResNet", k),
    ),
    "VGG-11-BN": Network(
        lambda k: VGG(_VGG_SMALL, k, hidden=16, side=3), lambda k: VGG(_VGG11, k, hidden=4096),
    ),
    "DenseNet-121": Network(
        lambda k: DenseNet((2, 2), 4, 8, k), lambda k: DenseNet((6, 12, 24, 16), 32, 64, k),
    ),
    "MobileNetV1": Network(
        lambda k: _transformers("MobileNetV1", k, image_size=32, depth_multiplier=0.25),
        lambda k: _transformers("MobileNetV1", k),
    ),
    "MobileNetV2": Network(
        lambda k: _transformers("MobileNetV2", k, image_size=32, depth_multiplier=0.25),
        lambda k: _transformers("MobileNetV2", k),
    ),
    "EfficientNet-B0": Network(
        lambda k: _efficientnet(k, small=True), lambda k: _efficientnet(k, small=False),
    ),
    "ConvNeXt-T": Network(
        lambda k: _transformers("ConvNext", k, hidden_sizes=[8, 16], depths=[1, 1], num_stages=2),
        lambda k: _transformers("ConvNext", k),
    ),
    "ViT-Ti": Network(
        lambda k: _transformers(
            "ViT", k, image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
            intermediate_size=32,
        ),
        lambda k: _transformers(
            "ViT", k, image_size=64, patch_size=8, hidden_size=192, num_hidden_layers=12,
            num_attention_heads=3, intermediate_size=768,
        ),
    ),
}  # fmt: skip


def calibrated(build: Callable[[int], nn.Module], num_classes: int = 3, side: int = 32) -> nn.Module:
    """A random network, the same every time, with batch statistics of random images; in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build(num_classes).train()
        with torch.no_grad():
            for _ in range(3):
                net(torch.rand(8, 3, side, side))
    return net.eval()
