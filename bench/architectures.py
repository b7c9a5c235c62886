"""Which explanation of which architecture adds up, and what it costs: docs/architectures.md.

Small instances, in float32, see drawn strokes. Those of `networks` are trained for a moment, so that they
are neither random nor converged; those of the `zoo` keep random weights that are not trivial (see
`disturbed`). So do those of the usual size, with noise for images, measured each in a process of its own, of
one thread. Kept in results/architectures.json after every network: an interrupted run goes on.

    python -m bench.architectures            small instances, some minutes of one core
    python -m bench.architectures usual      those of the usual size, some more
    python -m bench.architectures page       only writes the page
"""

import json
import multiprocessing
import platform
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.memory import count_from_here, peak
from bench.networks import NETWORKS, calibrated
from bench.zoo import REFUSED, ZOO, Refused, disturbed
from lvlm_va.errors import AttributionError
from lvlm_va.explain.attribution import attribute
from lvlm_va.models.adapter import Adapted

__all__ = ["main"]

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "results" / "architectures.json", ROOT / "docs" / "architectures.md"
SIDE, CLASSES, IMAGES, BASELINES, UPDATES = 32, 3, 2, 3, 30
USUAL_IMAGES, USUAL_BASELINES = 1, 2
EQUAL, FEWEST_STEPS, MOST_STEPS, MOST_STEPS_USUAL = 1e-4, 4, 64, 16
ALL = NETWORKS | ZOO
USUAL = {
    "MobileNetV3-L": 224, "EfficientNet-B0, random": 224, "ConvNeXt-T, random": 224, "BiT-50": 224,
    "ViT-S/16": 224, "Swin-T": 224, "SwinV2-T": 256,
}  # fmt: skip
"""Name -> side of the images."""

HEAD = """# Architectures

How exactly an explanation adds up: |ΣΦ − (f(x) − E f(b))| / |f(x) − E f(b)| (with a floor, see
`lvlm_va.explain.attribution.completeness`), the largest over the images, in float32, with
`normalise: imagenet` before the network. Written by `python -m bench.architectures`.

DeepLIFT-SHAP is exact (≤ 1e-4, mostly rounding) wherever a network is made of affine maps, element-wise
functions, maxima, products of activations, softmax and normalisation, however they are called: convolutional
networks, gates and squeeze-and-excitation, attention, LayerNorm, RMSNorm and GroupNorm. The rules stand in
`lvlm_va.explain.attribution.operations`:

- a product by its factors' midpoints, Δ(uv) = ū Δv + v̄ Δu, the Shapley value of a game of two factors (the
  gradient at (x + b) / 2, exact for every polynomial of degree two: matrix products and variances, too);
- softmax by Δp = (diag(m) − m mᵀ / Σm) Δz with the logarithmic mean m_k = Δp_k / Δ log p_k, the only choice
  for which the rescale rule of the exponential is kept and shifting z changes nothing;
- normalisation by the product rule for c · r with the secant of r = (v + ε)^(−1/2);
- element-wise functions by the rescale rule (Shrikumar et al. 2017), the derivative where Δx vanishes;
- `torch.where` by a condition on activations as a product with the step that the condition is.

It is *refused* above 1e-4, with the reason. There choose `explain.attribution: integrated-gradients`, which
is refused above 1e-2 (64 `explain.steps` are the default). Gradient SHAP is a random sample, of 64 points
here: its error is shown, never refused.
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


def built(name: str, size: str, side: int) -> nn.Module:
    """The network, before any training."""
    build = getattr(ALL[name], size)
    if name in ZOO:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = build(CLASSES)
        return Adapted(disturbed(net, side), "imagenet", CLASSES)
    return Adapted(calibrated(build, CLASSES, side), "imagenet", CLASSES)


def prepared(name: str) -> nn.Module:
    """The small network: disturbed if of the zoo, else after `UPDATES` updates."""
    net = built(name, "small", SIDE)
    if name in ZOO:
        return net
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-4)
    pixels, labels = strokes(96, SIDE, seed=1)
    torch.manual_seed(0)
    for _ in range(UPDATES):
        chosen = torch.randperm(len(labels))[:16]
        loss = F.cross_entropy(net(pixels[chosen]), labels[chosen])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return net.eval()


def measure(name: str) -> dict[str, Any]:
    """A small instance: completeness, and what DeepLIFT's would cost by integrated gradients."""
    net = prepared(name)
    (images, targets), (baselines, _) = strokes(IMAGES, SIDE, seed=2), strokes(BASELINES, SIDE, seed=3)

    def run(method: str, steps: int = 64) -> tuple[float, float]:
        start = time.process_time()
        found = attribute(
            net, images, targets, baselines, method=method, steps=steps, tolerance=float("inf"), batch_size=24
        )
        return float(found.completeness_error.max()), time.process_time() - start

    try:
        attribute(net, images, targets, baselines)  # warms up, too
        refused = None
    except AttributionError as refusal:
        refused = str(refusal)
    deeplift, seconds = run("deeplift-shap")
    steps = FEWEST_STEPS
    error, taken = run("integrated-gradients", steps)
    while error > EQUAL and steps < MOST_STEPS:
        steps *= 4
        error, taken = run("integrated-gradients", steps)
    return {
        "parameters": sum(p.numel() for p in net.parameters()),
        "deeplift-shap": deeplift,
        "deeplift_refused": refused,
        "seconds": seconds,
        "integrated-gradients": error if steps == 64 else run("integrated-gradients")[0],
        "equal_steps": steps,
        "equal_error": error,
        "equal_seconds": taken,
        "gradient-shap": run("gradient-shap")[0],
    }


def cost(name: str, method: str, steps: int) -> dict[str, float]:
    """A network of the usual size: processor seconds, peak MiB above what the process held, completeness."""
    torch.set_num_threads(1)
    side = USUAL[name]
    net = built(name, "usual", side)
    g = torch.Generator().manual_seed(1)
    images, baselines = (torch.rand(n, 3, side, side, generator=g) for n in (USUAL_IMAGES, USUAL_BASELINES))
    with torch.no_grad():
        net(images)
    before = count_from_here()
    start = time.process_time()
    found = attribute(
        net, images, torch.zeros(USUAL_IMAGES, dtype=torch.int64), baselines, method=method, steps=steps,
        tolerance=float("inf"), batch_size=1, baseline_chunk=2,
    )  # fmt: skip
    return {
        "seconds": time.process_time() - start,
        "peak_mib": peak() - before,
        "error": float(found.completeness_error.max()),
        "parameters": sum(p.numel() for p in net.parameters()),
    }


def _fresh(name: str, method: str, steps: int) -> dict[str, Any]:
    """`cost` in a process of its own, forked from this one, which holds no network."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=lambda: theirs.send(cost(name, method, steps)))
    process.start()
    found: dict[str, Any] = ours.recv()
    process.join()
    return found | {"steps": steps}


def costs(known: dict[str, dict[str, Any]], keep: Callable[[], None]) -> None:
    """DeepLIFT of all networks of the usual size, then integrated gradients until those are as complete."""
    for name in USUAL:
        if "deeplift-shap" not in known.setdefault(name, {}):
            known[name]["deeplift-shap"] = _fresh(name, "deeplift-shap", 1)
            print(name, known[name], flush=True)
            keep()
    for steps in (FEWEST_STEPS, MOST_STEPS_USUAL):
        for name in USUAL:
            found = known[name].get("integrated-gradients")
            if found is None or (found["error"] > EQUAL and found["steps"] < steps):
                known[name]["integrated-gradients"] = _fresh(name, "integrated-gradients", steps)
                print(name, known[name], flush=True)
                keep()


def refusals() -> dict[str, str]:
    """What is said of each model that has no exact rule."""
    (images, targets), (baselines, _) = strokes(IMAGES, SIDE, seed=2), strokes(BASELINES, SIDE, seed=3)
    said = {}
    for name, (middle, _) in REFUSED.items():
        torch.manual_seed(0)
        try:
            attribute(Refused(CLASSES, middle), images, targets, baselines)
            said[name] = "not refused"
        except AttributionError as refusal:
            words = str(refusal)
            said[name] = words[words.index("The ") :].split(". ")[0] + "."
    return said


def _spent(found: dict[str, Any]) -> list[str]:
    return [f"{found['seconds']:.1f}", f"{found['peak_mib']:.0f}"]


def page(results: dict[str, Any]) -> str:
    """docs/architectures.md."""
    lines = [
        HEAD,
        "\n## Small instances\n",
        f"\n{IMAGES} images of {SIDE}² pixels against {BASELINES} baselines, drawn strokes, the first "
        f"{len(NETWORKS)} networks after {UPDATES} updates, the others with random weights. *Equal*: "
        f"integrated gradients with {FEWEST_STEPS}, {4 * FEWEST_STEPS}, ... steps until they were as "
        f"complete as {EQUAL:.0e}, at most {MOST_STEPS}: the steps, the error that was left, and their time "
        "in units of DeepLIFT's, by the processor's clock.\n",
        "\n| architecture | parameters | DeepLIFT-SHAP | integrated gradients, 64 steps | equal | time "
        "| gradient SHAP |",
        "\n| --- | ---: | --- | --- | --- | ---: | ---: |\n",
    ]
    for name in ALL:
        found = results["small"].get(name)
        if found is None:
            continue
        cells = [
            name,
            f"{found['parameters']:,}",
            f"{found['deeplift-shap']:.1e}" + (", refused" if found["deeplift_refused"] else ""),
            f"{found['integrated-gradients']:.1e}"
            + (", refused" if found["integrated-gradients"] > 1e-2 else ""),
            f"{found['equal_steps']} ({found['equal_error']:.1e})",
            f"{found['equal_seconds'] / found['seconds']:.1f}",
            f"{found['gradient-shap']:.1e}",
        ]
        lines.append(f"| {' | '.join(cells)} |\n")
    if results["usual"]:
        lines += [
            "\n## Usual sizes\n",
            f"\n{USUAL_IMAGES} image against {USUAL_BASELINES} baselines, random weights, noise for images: "
            "one thread's processor seconds and peak memory above the process with its network; integrated "
            f"gradients with {FEWEST_STEPS} steps, or with {MOST_STEPS_USUAL} where those left more than "
            f"{EQUAL:.0e}.\n",
            "\n| architecture | parameters | pixels | DeepLIFT-SHAP | s | MiB "
            "| integrated gradients (steps) | s | MiB |",
            "\n| --- | ---: | ---: | --- | ---: | ---: | --- | ---: | ---: |\n",
        ]
    for name, side in USUAL.items():
        found = results["usual"].get(name)
        if found is None:
            continue
        ours, theirs = found["deeplift-shap"], found.get("integrated-gradients")
        cells = [name, f"{ours['parameters']:,}", f"{side}²", f"{ours['error']:.1e}", *_spent(ours)]
        cells += (
            [f"{theirs['error']:.1e} ({theirs['steps']})", *_spent(theirs)]
            if theirs
            else ["not measured", "", ""]
        )
        lines.append(f"| {' | '.join(cells)} |\n")
    lines += ["\n## What is refused, and why\n\n| model | what the refusal says |\n| --- | --- |\n"]
    lines += [f"| {name} | {words} |\n" for name, words in results["refused"].items()]
    lines.append(f"\nMeasured with {results['versions']}.\n")
    return "".join(lines)


def main(size: str = "small") -> None:
    """Measure what is not there yet, and write the page."""
    import transformers

    transformers.logging.set_verbosity_error()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if "usual" not in results:
        results = {"small": {}, "usual": {}}
    results["versions"] = (
        f"torch {torch.__version__}, transformers {transformers.__version__}, Python "
        f"{platform.python_version()}, {platform.machine()}, no GPU"
    )
    results["refused"] = refusals()
    for name in ALL if size == "small" else ():
        if name not in results["small"]:
            results["small"][name] = measure(name)
            print(name, json.dumps(results["small"][name]), flush=True)
            _write(results)
    if size == "usual":
        costs(results["usual"], lambda: _write(results))
    _write(results)


def _write(results: dict[str, Any]) -> None:
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    PAGE.write_text(page(results), encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
