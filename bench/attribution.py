"""Exact DeepLIFT-SHAP beside captum's: processor seconds per image, peak memory, completeness.

Each measurement runs in a fresh process on one thread and counts its processor time, so that a busy machine
does not blur it. captum explains one image a call, where it needs least memory, and on a variant of the
network with one ReLU module per use, since it refuses the stock one. The networks are random, with the
batch-norm statistics of random images.

    python -m bench.attribution    on Linux, see `bench.memory`
"""

import json
import subprocess
import sys
import time
from typing import Any

import torch
from captum.attr import DeepLiftShap
from torch import Tensor, nn

from bench.memory import count_from_here, peak
from lvlm_va.explain.attribution import attribute
from lvlm_va.explain.attribution.completeness import Explained, completeness_error
from lvlm_va.models.resnet import BasicBlock, Bottleneck, ResNet, resnet18, resnet50

__all__ = ["main"]

NETWORKS = {"resnet18": resnet18, "resnet50": resnet50}
IMAGES, BASELINES, SIZE = 12, 10, 224


class DistinctBlock(nn.Module):
    """A residual block with one ReLU module per use, as captum needs it."""

    def __init__(self, block: BasicBlock | Bottleneck) -> None:
        super().__init__()
        pairs = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
        if isinstance(block, Bottleneck):
            pairs.append((block.conv3, block.bn3))
        layers: list[nn.Module] = []
        for conv, bn in pairs:
            layers += [conv, bn, nn.ReLU()]
        self.residual = nn.Sequential(*layers[:-1])
        self.shortcut = block.downsample or nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.residual(x) + self.shortcut(x))


def distinct(net: ResNet) -> nn.Module:
    """The same function with distinct, out-of-place ReLU modules."""
    stages = [net.layer1, net.layer2, net.layer3, net.layer4]
    blocks = [DistinctBlock(block) for stage in stages for block in stage]
    return nn.Sequential(
        net.conv1, net.bn1, nn.ReLU(), net.maxpool, *blocks, net.avgpool, nn.Flatten(), net.fc
    ).eval()


def problem(network: str) -> tuple[ResNet, Tensor, Tensor, Tensor]:
    """The network, images, targets and baselines, the same for both."""
    torch.manual_seed(0)
    net = NETWORKS[network]()
    with torch.no_grad():
        for _ in range(3):
            net.train()(torch.randn(8, 3, 64, 64))
    net.eval()
    images, baselines = torch.randn(IMAGES, 3, SIZE, SIZE), torch.randn(BASELINES, 3, SIZE, SIZE)
    return net, images, net(images[:2]).detach().argmax(1).repeat(IMAGES // 2), baselines


def measure(who: str, network: str) -> dict[str, float]:
    """Seconds per image, peak MiB above what the process held before, largest completeness error."""
    torch.set_num_threads(1)
    net, images, targets, baselines = problem(network)
    before = count_from_here()
    start = time.process_time()
    if who == "lvlm_va":
        # No tolerance: the error is measured below, by the same formula for both.
        values = attribute(net, images, targets, baselines, tolerance=float("inf")).values
    else:
        explainer = DeepLiftShap(distinct(net))
        pairs = zip(images.split(1), targets.split(1), strict=True)
        values = torch.cat([explainer.attribute(x, baselines, target=t).detach().sum(1) for x, t in pairs])
    seconds = (time.process_time() - start) / len(images)
    grown = peak() - before
    with torch.no_grad():
        error = completeness_error(Explained(values, net(images), net(baselines)), targets)
    return {
        "seconds_per_image": seconds,
        "peak_mib": grown,
        "largest_completeness_error": float(error.max()),
    }


def _in_fresh_process(who: str, network: str) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", "-m", "bench.attribution", who, network]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> dict[str, Any]:
    """Both networks, both implementations in turn, and the ratios between them."""
    results: dict[str, Any] = {"images": IMAGES, "baselines": BASELINES, "size": SIZE}
    for network in NETWORKS:
        ours, captum = (_in_fresh_process(who, network) for who in ("lvlm_va", "captum"))
        results[network] = {
            "lvlm_va": ours,
            "captum": captum,
            "times_faster": captum["seconds_per_image"] / ours["seconds_per_image"],
            "share_of_memory": ours["peak_mib"] / captum["peak_mib"],
        }
    return results


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:]) if len(sys.argv) == 3 else main(), indent=2))
