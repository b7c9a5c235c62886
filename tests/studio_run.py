"""A run to review in the studio, and a studio that serves it."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import yaml
from PIL import Image, ImageDraw

import report_run
from lvlm_va.studio.server import Address, Studio
from patience import PATIENCE

TOKEN = "token-of-the-tests"
CLASSES = ("ring", "bar", "cross")
SIDE = 28


def make_run(path: Path) -> Path:
    """The run of `report_run`, whose names and replies are hostile, with settings that can be read."""
    report_run.make_run(path)
    record = json.loads((path / "run.json").read_text())
    words = {name: {"description": f"A {name}."} for name in report_run.CLASSES}
    file = path.parent / f"{path.name}-specifications.yaml"
    file.write_text(yaml.safe_dump({"classes": words}))
    record["config"] = {
        "project": "tiny",
        "align": {"lambda": [0.01, 0.1]},
        "specifications": str(file),
        "data": {"name": "folder", "path": str(path.parent)},
    }
    (path / "run.json").write_text(json.dumps(record))
    return path


@contextmanager
def serving(paths: Sequence[Path], *, port: int = 0) -> Iterator[str]:
    """A studio in a thread of its own; yields its address."""
    studio = Studio(list(paths), Address(port=port), token=TOKEN)
    thread = threading.Thread(target=studio.run)
    thread.start()
    try:
        yield studio.url
    finally:
        studio.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def draw(name: str, seed: int, shade: int | None) -> np.ndarray:
    """(28, 28) uint8: a ring, a bar or a cross, and in a corner a patch whose shade may betray it."""
    random, big = np.random.default_rng((seed, CLASSES.index(name))), 4
    image = Image.new("L", (SIDE * big, SIDE * big), 0)
    drawing = ImageDraw.Draw(image)
    x, y = (int(v) for v in random.integers(9 * big, 19 * big, 2))
    half, width = int(random.integers(5 * big, 7 * big)), int(random.integers(8, 11))
    if name == "ring":
        drawing.ellipse((x - half, y - half, x + half, y + half), outline=190, width=width)
    elif name == "bar":
        drawing.line((x - half, y - half // 2, x + half, y + half // 2), fill=190, width=width)
    else:
        drawing.line((x - half, y - half, x + half, y + half), fill=190, width=width)
        drawing.line((x - half, y + half, x + half, y - half), fill=190, width=width)
    small = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)).astype(int)
    pixels = small + random.integers(0, 25, (SIDE, SIDE))
    top, left = (int(v) * (SIDE - 5) for v in random.integers(0, 2, 2))
    if shade is not None:
        pixels[top : top + 5, left : left + 5] = (255, 150, 80)[shade]
    return np.clip(pixels, 0, 255).astype(np.uint8)


def make_project(root: Path, per_class: int = 40, num_images: int = 24) -> Path:
    """A drawn data set whose patches betray the class in training alone, and its project file."""
    for part, count, first in (
        ("train", per_class, 0),
        ("val", per_class // 3, 1000),
        ("test", per_class // 2, 2000),
    ):
        for k, name in enumerate(CLASSES):
            folder = root / "images" / part / name
            folder.mkdir(parents=True)
            for seed in range(first, first + count):
                shade = k if part == "train" else int(np.random.default_rng(seed * 7 + k).integers(3))
                Image.fromarray(draw(name, seed, shade)).save(folder / f"{seed}.png")
    words = {
        "ring": {
            "description": "A closed ring.",
            "relevant": ["the ring"],
            "spurious": ["a grey patch in a corner"],
        },
        "bar": {"description": "A slanted stroke.", "relevant": ["the stroke"], "spurious": []},
        "cross": {"description": "Two strokes that cross.", "relevant": ["the strokes"], "spurious": []},
    }
    (root / "specifications.yaml").write_text(yaml.safe_dump({"classes": words}, sort_keys=False))
    project = {
        "project": "drawn",
        "run": "run",
        "specifications": "specifications.yaml",
        "data": {"name": "folder", "path": "images", "size": SIDE, "channels": "grey"},
        "model": {"name": "mlp", "epochs": 12, "batch": 16, "learning_rate": 0.002},
        "explain": {"num_images": num_images, "n_init": 1, "baselines": 8},
        "align": {"lambda": [0.01, 0.1], "epochs": 4, "learning_rate": 0.002, "counterfactual": 1.0},
        "evaluate": {"num_images": 60, "bounds": False},
    }
    (root / "project.yaml").write_text(yaml.safe_dump(project, sort_keys=False))
    return root / "project.yaml"
