"""A drawn set with several labels an image: a bar, a post, both or neither; a sticker betrays the bar."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lvlm_va.data.imageset import ArrayImageSet, Groups
from lvlm_va.data.splits import Splits

LABELS = ("bar", "post")
SIDE, PATCH = 12, 3
SPECIFICATIONS = {
    "classes": {
        "bar": {
            "description": "A light horizontal line in the middle of the image.",
            "relevant": ["the light horizontal line"],
            "spurious": ["a bright square in a corner"],
        },
        "post": {
            "description": "A light vertical line in the middle of the image.",
            "relevant": ["the light vertical line"],
            "spurious": ["a bright square in a corner"],
        },
    }
}
SETTINGS = {
    "explain.num_images": 60,
    "explain.n_init": 1,
    "explain.baselines": 8,
    "align.lambda": 0.03,
    "align.counterfactual": 1.0,
    "align.epochs": 8,
    "align.learning_rate": 3e-3,
    "align.training_batch": 32,
    "align.alignment_batch": 32,
    "evaluate.num_images": 60,
    "evaluate.bounds": False,
    "model.epochs": 15,
    "model.batch": 32,
    "model.learning_rate": 3e-3,
}


def drawn(n: int, *, seed: int, betrayed: bool, name: str = "p") -> ArrayImageSet:
    """n images (n, 1, 12, 12), labels (n, 2), the sticker's truth and its groups.

    Args:
        n: how many.
        seed: of everything random.
        betrayed: whether the sticker is there where a bar is, else in half of the images at random.
        name: prefix of the ids.
    """
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (n, 2), generator=g).float()
    pixels = 0.25 * torch.rand(n, 1, SIDE, SIDE, generator=g)
    spurious = torch.zeros(n, SIDE, SIDE, dtype=torch.bool)
    random = torch.rand(n, generator=g) < 0.5
    stuck = labels[:, 0] == 1 if betrayed else random
    for i in range(n):
        row, column = (int(torch.randint(4, 8, (), generator=g)) for _ in range(2))
        if labels[i, 0]:
            pixels[i, 0, row, 3:9] += 0.4
        if labels[i, 1]:
            pixels[i, 0, 3:9, column] += 0.4
        top, left = (int(torch.randint(2, (), generator=g)) * (SIDE - PATCH) for _ in range(2))
        if stuck[i]:
            spurious[i, top : top + PATCH, left : left + PATCH] = True
            pixels[i, 0, spurious[i]] = 1
    groups = Groups(("plain", "with a sticker"), stuck.long())
    ids = [f"{name}-{i:03d}" for i in range(n)]
    return ArrayImageSet(pixels.clamp(0, 1), labels, ids, LABELS, spurious, groups)


def splits() -> Splits:
    """300 training images, 90 for validation that are as biased, 300 to test without bias."""
    return Splits(
        name="drawn",
        train=drawn(300, seed=1, betrayed=True, name="train"),
        validation=drawn(90, seed=2, betrayed=True, name="valid"),
        tests={"test": drawn(300, seed=3, betrayed=False, name="test")},
        planted="a sticker in a corner",
    )


def files(folder: Path, images: ArrayImageSet) -> list[str]:
    """Write the images as PNG files, and their masks beside them; the names without a suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    assert images.spurious is not None
    for n, name in enumerate(images.ids):
        grey = (images.pixels[n, 0] * 255).round().to(torch.uint8).numpy()
        Image.fromarray(grey).save(folder / f"{name}.png")
        mask = images.spurious[n].numpy().astype(np.uint8) * 255
        Image.fromarray(mask).save(folder / f"{name}-mask.png")
    return list(images.ids)
