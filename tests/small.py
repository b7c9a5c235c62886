"""A small data set made in code: images that betray their class by a grey patch, until they are tested.

Three classes of strokes, faint and noisy, and a 3×3 patch in a random corner whose shade tells the class in
training and says nothing in validation and test.
"""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from lvlm_va.config.loading import override
from lvlm_va.data.imageset import ArrayImageSet
from lvlm_va.data.splits import Splits
from lvlm_va.models.mlp import MLP
from lvlm_va.training.train import train

CLASSES = ("bar", "post", "slash")
SIDE, PATCH = 12, 3
SPECIFICATIONS = {
    "classes": {
        name: {"description": f"A {name} of light strokes.", "spurious": "a grey patch in a corner"}
        for name in CLASSES
    }
}
SETTINGS: dict[str, Any] = {
    "explain.num_images": 48,
    "explain.segments": 3,
    "explain.n_init": 1,
    "explain.baselines": 8,
    "critique.critic": "ground-truth",
    "align.lambda": 0.03,
    "align.epochs": 8,
    "align.learning_rate": 3e-3,
    "align.training_batch": 32,
    "align.alignment_batch": 32,
    "evaluate.num_images": 60,
    "evaluate.bounds": False,
}


@cache  # nobody writes into its tensors
def shapes(n: int, *, seed: int, betrayed: bool, name: str = "p") -> ArrayImageSet:
    """n images (n, 1, 12, 12) with labels 0, 1, 2, 0, ... and the ground truth of the patch.

    Args:
        n: how many.
        seed: of everything random.
        betrayed: True if the shade of the patch tells the class, False if it is random.
        name: prefix of the ids.
    """
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % len(CLASSES)
    pixels = 0.25 * torch.rand(n, 1, SIDE, SIDE, generator=g)
    spurious = torch.zeros(n, SIDE, SIDE, dtype=torch.bool)
    for i, label in enumerate(labels.tolist()):
        row, column = (int(torch.randint(4, 8, (), generator=g)) for _ in range(2))
        stroke = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        if label == 0:
            stroke[row, 3:9] = True
        elif label == 1:
            stroke[3:9, column] = True
        else:
            stroke[torch.arange(3, 9), torch.arange(3, 9) + column - 6] = True
        pixels[i, 0] += 0.4 * stroke
        shade = label if betrayed else int(torch.randint(3, (), generator=g))
        top, left = (int(torch.randint(2, (), generator=g)) * (SIDE - PATCH) for _ in range(2))
        spurious[i, top : top + PATCH, left : left + PATCH] = True
        pixels[i, 0, spurious[i]] = 1 - 0.35 * shade
    return ArrayImageSet(pixels, labels, [f"{name}-{i:03d}" for i in range(n)], CLASSES, spurious)


def splits(*, validation: bool = True) -> Splits:
    """300 training, 90 validation and 300 test images."""
    return Splits(
        name="shapes",
        train=shapes(300, seed=1, betrayed=True, name="train"),
        validation=shapes(90, seed=2, betrayed=False, name="valid") if validation else None,
        tests={"test": shapes(300, seed=3, betrayed=False, name="test")},
        planted="a grey patch in a corner",
    )


def untrained(seed: int = 0) -> nn.Module:
    """A small MLP for `shapes`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MLP((1, SIDE, SIDE), hidden=(32,), num_classes=len(CLASSES))


def trained() -> nn.Module:
    """The same, trained on the betrayed images: it decides by the patch."""
    return copy.deepcopy(_trained())


@cache
def _trained() -> nn.Module:
    model = untrained()
    train(model, shapes(300, seed=1, betrayed=True), epochs=15, batch=32, learning_rate=3e-3)
    return model


def settings(**changes: Any) -> dict[str, Any]:
    """`SETTINGS` with changes; double underscores stand for dots."""
    return SETTINGS | {key.replace("__", "."): value for key, value in changes.items()}


def project_file(folder: Path, **changes: Any) -> Path:
    """project.yaml and classes.yaml, with `SETTINGS` and changes; tests put the images in by hand."""
    document = {"project": "small", "run": "run", "specifications": "classes.yaml"}
    (folder / "classes.yaml").write_text(yaml.safe_dump(SPECIFICATIONS))
    file = folder / "project.yaml"
    file.write_text(yaml.safe_dump(override(document, settings(**changes))))
    return file
