"""Which explanation of which architecture adds up: docs/architectures.md.

Each network, in float32, is trained for a moment on drawn strokes, so that it is neither random nor
converged, and then explained. Kept in results/architectures.json after every network: an interrupted run goes
on. Small instances take a minute of one core, those of the usual size about ten.

    python -m bench.architectures            small instances
    python -m bench.architectures usual      those of the usual size
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.networks import NETWORKS, calibrated
from lvlm_va.errors import AttributionError
from lvlm_va.explain.attribution import attribute
from lvlm_va.models.adapter import Adapted

__all__ = ["main"]

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "results" / "architectures.json", ROOT / "docs" / "architectures.md"
SIDES = {"small": 32, "usual": 64}
CLASSES, IMAGES, BASELINES, UPDATES = 3, 2, 3, 30
MOST_STEPS = 1024

HEAD = f"""# Architectures

How exactly an explanation adds up: |ΣΦ − (f(x) − E f(b))| / |f(x) − E f(b)|, the largest over {IMAGES}
colour images against {BASELINES} baselines, in float32, with `normalise: imagenet` before the network. Each
network was trained for {UPDATES} updates on drawn strokes; small instances see images of {SIDES["small"]}²
pixels, those of the usual size {SIDES["usual"]}². Written by `python -m bench.architectures`.

DeepLIFT-SHAP is exact wherever a network is made of affine maps, element-wise activations and max-pools,
however they are called. It is *refused* (above 1e-4) where activations are multiplied (squeeze-and-excite,
attention) or normalised (LayerNorm, softmax). There choose `explain.attribution: integrated-gradients`, which
is refused above 1e-2; the table says which `explain.steps` were enough (64 is the default). Gradient SHAP is
a random sample, of 64 points here: its error is shown, never refused.

| architecture | parameters | pixels | DeepLIFT-SHAP | integrated gradients (steps) | gradient SHAP |
| --- | ---: | ---: | --- | --- | ---: |
"""


def strokes(n: int, side: int, seed: int) -> tuple[Tensor, Tensor]:
    """n noisy images (n, 3, side, side) in [0, 1] of a bar, a post or a slash, and which it is."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    pixels = 0.4 * torch.rand(n, 3, side, side, generator=g)
    for i, label in enumerate(labels.tolist()):
        at = int(torch.randint(side // 4, side // 2, (), generator=g))
        run = torch.arange(side // 4, 3 * side // 4)
        rows, columns = ((run * 0 + at, run), (run, run * 0 + at), (run, run))[label]
        for shift in range(3):
            pixels[i, :, rows + shift, columns] += 0.5
    return pixels, labels


def trained(name: str, size: str) -> nn.Module:
    """The network after `UPDATES` updates."""
    side = SIDES[size]
    net = Adapted(calibrated(getattr(NETWORKS[name], size), CLASSES, side), "imagenet", CLASSES).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-4)
    pixels, labels = strokes(96, side, seed=1)
    torch.manual_seed(0)
    for _ in range(UPDATES):
        chosen = torch.randperm(len(labels))[:16]
        loss = F.cross_entropy(net(pixels[chosen]), labels[chosen])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return net.eval()


def measure(name: str, size: str) -> dict[str, Any]:
    """The largest completeness error of each method, and whether the package would refuse it."""
    net, side = trained(name, size), SIDES[size]
    (images, targets), (baselines, _) = strokes(IMAGES, side, seed=2), strokes(BASELINES, side, seed=3)

    def error(method: str, steps: int = 64) -> float:
        found = attribute(
            net, images, targets, baselines, method=method, steps=steps, tolerance=float("inf"), batch_size=24
        )
        return float(found.completeness_error.max())

    try:
        attribute(net, images, targets, baselines)
        refused = None
    except AttributionError as refusal:
        refused = str(refusal)
    steps, integrated = 64, error("integrated-gradients")
    # Where DeepLIFT is exact nobody needs more steps.
    while refused and integrated > 1e-2 and steps < MOST_STEPS:
        steps *= 2
        integrated = error("integrated-gradients", steps)
    return {
        "parameters": sum(p.numel() for p in net.parameters()),
        "deeplift-shap": error("deeplift-shap"),
        "deeplift_refused": refused is not None,
        "integrated-gradients": integrated,
        "steps": steps,
        "gradient-shap": error("gradient-shap"),
    }


def page(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    """docs/architectures.md."""
    rows = []
    for name in NETWORKS:
        for size, found in results.get(name, {}).items():
            deeplift = f"{found['deeplift-shap']:.1e}" + (", refused" if found["deeplift_refused"] else "")
            integrated = f"{found['integrated-gradients']:.1e} ({found['steps']})"
            integrated += ", refused" if found["integrated-gradients"] > 1e-2 else ""
            title = f"{name}, small" if size == "small" else name
            numbers = [f"{found['parameters']:,}", f"{SIDES[size]}²"]
            cells = [title, *numbers, deeplift, integrated, f"{found['gradient-shap']:.1e}"]
            rows.append(f"| {' | '.join(cells)} |\n")
    return HEAD + "".join(rows)


def main(size: str = "small") -> None:
    """Measure what is not there yet, and write the page."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in NETWORKS:
        known = results.setdefault(name, {})
        if size not in known:
            known[size] = measure(name, size)
            print(name, size, json.dumps(known[size]), flush=True)
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")
            PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
