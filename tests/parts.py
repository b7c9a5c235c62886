"""Small image files for tests: a bolt is a bar, a nut is a ring, both with a bright sticker or without."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("bolt", "nut")
SIDE = 16


def part(name: str, seed: int, *, sticker: bool = False) -> NDArray[np.uint8]:
    """(16, 16) uint8: one part on a dark, noisy ground; no two seeds give the same image."""
    random = np.random.default_rng((seed, CLASSES.index(name)))
    pixels = random.integers(0, 60, (SIDE, SIDE))
    row, column = random.integers(4, 9, 2)
    pixels[row : row + 5, column : column + 5] = 150
    if name == "nut":
        pixels[row + 1 : row + 4, column + 1 : column + 4] = 20
    if sticker:
        pixels[:4, :4] = 255
    return pixels.astype(np.uint8)


def class_folders(root: Path, per_class: int, *, first: int = 0, sticker_on: str | None = None) -> Path:
    """`root`/CLASS/NNN.png, `per_class` each; returns `root`."""
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for seed in range(first, first + per_class):
            pixels = part(name, seed, sticker=name == sticker_on)
            Image.fromarray(pixels).save(root / name / f"{seed:03d}.png")
    return root
