"""ResNets: torchvision's parameters, names, shapes and, where a checkpoint is at hand, its weights."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lvlm_va.models.resnet import Bottleneck, resnet18, resnet50


@pytest.mark.parametrize(
    ("build", "parameters", "entries"), [(resnet18, 11_689_512, 122), (resnet50, 25_557_032, 320)]
)
def test_size_is_torchvisions(build, parameters, entries):
    net = build()
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert len(net.state_dict()) == entries


def test_names_are_torchvisions():
    names = resnet50().state_dict().keys()
    assert {
        "conv1.weight", "bn1.running_var", "bn1.num_batches_tracked", "layer1.0.downsample.0.weight",
        "layer1.0.downsample.1.running_mean", "layer3.5.conv3.weight", "layer4.2.bn3.bias", "fc.bias",
    } <= names  # fmt: skip
    assert "layer1.0.downsample.0.weight" not in resnet18().state_dict()


@pytest.mark.parametrize(("build", "width"), [(resnet18, 512), (resnet50, 2048)])
def test_shapes(build, width):
    net = build(num_classes=5, in_channels=1).eval()
    assert net(torch.rand(2, 1, 64, 64)).shape == (2, 5)
    features = torch.nn.Sequential(*list(net.children())[:-2])(torch.rand(1, 1, 64, 64))
    assert features.shape == (1, width, 2, 2)  # a 32nd of the image


def test_the_bottlenecks_stride_is_on_its_3x3_convolution():
    blocks = [m for m in resnet50().modules() if isinstance(m, Bottleneck)]
    assert {b.conv1.stride for b in blocks} == {(1, 1)}
    assert [b.conv2.stride for b in blocks].count((2, 2)) == 3


def test_a_block_without_residual_is_relu_of_its_shortcut():
    block = resnet50().layer1[1].eval()
    torch.nn.init.zeros_(block.bn3.weight)
    x = torch.randn(1, 256, 8, 8)
    assert torch.equal(block(x), x.relu())


def test_torchvisions_checkpoint_loads():
    path = os.environ.get("LVLM_VA_WEIGHTS")
    if not path or not Path(path).is_file():
        pytest.skip("LVLM_VA_WEIGHTS names no ResNet-50 checkpoint (safetensors, torchvision's names)")
    net = resnet50()
    result = net.load_state_dict(load_file(path), strict=True)
    assert not result.missing_keys
    assert float(net.bn1.running_var.mean()) != 1
