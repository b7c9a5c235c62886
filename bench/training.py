"""A right-reasons step beside a cross-entropy step: processor seconds, of the same batch in the same run.

Both are iterations of `fine_tune` on the same mixed batches, with λ > 0 and with λ = 0, one after the
other in turn; the second backward pass of the first runs through the alignment half alone. One thread,
processor time, and the median of the ratios of neighbours, so that a busy machine does not blur it.

    python -m bench.training
"""

import json
import statistics
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from lvlm_va.alignment.fine_tune import AlignmentSet, FineTuning, fine_tune
from lvlm_va.data.imageset import ArrayImageSet
from lvlm_va.models.mlp import MLP
from lvlm_va.models.resnet import resnet50

__all__ = ["main"]

TURNS = 5
TARGET = {"resnet50": 2.5, "mlp": 3.0}
NETWORKS = {  # network, shape of an image, samples of each half
    "resnet50": (lambda: resnet50(), (3, 224, 224), 4),
    "mlp": (lambda: MLP((1, 28, 28), (50, 30), 10), (1, 28, 28), 64),
}


def steps(model: nn.Module, shape: tuple[int, ...], half: int, lam: float) -> Iterator[float]:
    """Processor seconds of each of a few iterations, without the first."""
    torch.manual_seed(0)
    n = half * 3
    images = ArrayImageSet(
        torch.rand(n, *shape), torch.arange(n) % 10, [str(i) for i in range(n)], [str(i) for i in range(10)]
    )
    masks = torch.zeros(half, *shape[1:], dtype=torch.bool)
    masks[:, : shape[1] // 4, : shape[2] // 4] = True
    settings = FineTuning(
        lam, epochs=1, training_batch=half, alignment_batch=half, statistics="frozen", precision="float32"
    )
    marks = []
    fine_tune(
        model,
        images,
        AlignmentSet(torch.arange(half), masks),
        settings,
        progress=lambda _done, _total: marks.append(time.process_time()),
    )
    return (after - before for before, after in pairwise(marks))


def main() -> dict[str, Any]:
    """Both networks: seconds of both steps and the ratio between them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    try:
        for name, (make, shape, half) in NETWORKS.items():
            torch.manual_seed(0)
            model = make()
            turns = TURNS if name == "resnet50" else 20 * TURNS
            pairs = [
                tuple(statistics.median(steps(model, shape, half, lam)) for lam in (0.0, 1.0))
                for _ in range(turns)
            ]
            plain, reasons = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
            results[name] = {
                "images": f"{half} + {half} of {'×'.join(map(str, shape))}",
                "cross_entropy_step": round(plain, 5),
                "right_reasons_step": round(reasons, 5),
                "times_slower": round(statistics.median(b / a for a, b in pairs), 2),
                "target": TARGET[name],
            }
    finally:
        torch.set_num_threads(threads)
    return results


if __name__ == "__main__":
    print(json.dumps(main(), indent=2))
