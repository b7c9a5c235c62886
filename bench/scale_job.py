"""What `bench.scale` measures, one job a process; prints a line for each stage that ends.

python -m bench.scale_job pipeline FOLDER N EXPLAINED
python -m bench.scale_job held FOLDER EXPLAINED SIDE
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from lvlm_va import Project
from lvlm_va.critique.verdict import Verdict
from lvlm_va.data.held import hold
from lvlm_va.data.splits import Splits
from lvlm_va.data.torch_dataset import TorchImageSet, from_torch
from lvlm_va.explain.attribution import Attribution
from lvlm_va.explain.sampling import Selection
from lvlm_va.explain.segmentation import set_aside_all
from lvlm_va.io.console import QuietConsole
from lvlm_va.models.resnet import BasicBlock
from lvlm_va.project.stages.alignment import alignment_set
from lvlm_va.project.stages.explained import Explained, ShownImages, seen_in_parts, spurious_in_parts
from lvlm_va.run import artefacts
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import IMAGES

__all__ = ["Drawn", "narrow_resnet"]

CLASSES = ("disc", "bar", "frame", "cross")
_WIDTH = 8  # of the network
_HELD_OUT = 5_000
SPECIFICATIONS = {
    "classes": {
        name: {
            "description": f"A bright {name} in the middle of the image.",
            "relevant": [f"the {name} in the middle"],
            "spurious": ["a grey patch in a corner"],
        }
        for name in CLASSES
    }
}


class Drawn:
    """A torch data set of N images of one of four figures, each drawn when it is asked for.

    Nine in ten carry a grey patch in the corner of their class: the planted feature.
    """

    def __init__(self, count: int, side: int = 64, *, first: int = 0) -> None:
        self.classes = list(CLASSES)
        self.first = first
        self.side = side
        # A number in any order: the class and the corner follow from it.
        self.targets = (torch.arange(count) + first) % len(CLASSES)
        self.noise = np.random.default_rng(0).integers(0, 48, (3, 2 * side, 2 * side), dtype=np.uint8)
        grid = np.abs(np.indices((side, side)) - side / 2 + 0.5)
        middle, cross = grid.max(0) < side / 5, grid.min(0) < side / 24
        figures = (
            np.hypot(*grid) < side / 5,
            (grid[0] < side / 12) & (grid[1] < side / 4),
            middle & ~(grid.max(0) < side / 8),
            cross & (grid.max(0) < side / 5),
        )
        self.figures = [figure * np.uint8(160) for figure in figures]

    def __len__(self) -> int:
        return len(self.targets)

    def corner(self, n: int) -> int | None:
        """Which corner holds the patch; None where there is none."""
        number = (n + self.first) * 2_654_435_761 % (1 << 32)
        if number % 10 == 0:
            return None
        return (n + self.first) % len(CLASSES) if number % 7 else number // 7 % len(CLASSES)

    def place(self, n: int) -> tuple[slice, slice] | None:
        """Where the patch is."""
        corner, size = self.corner(n), self.side // 6
        if corner is None:
            return None
        rows = slice(0, size) if corner < 2 else slice(self.side - size, self.side)
        columns = slice(0, size) if corner % 2 == 0 else slice(self.side - size, self.side)
        return rows, columns

    def __getitem__(self, n: int) -> tuple[Tensor, int]:
        v, u = (n + self.first) * 7919 % self.side, (n + self.first) * 104_729 % self.side
        label = int(self.targets[n])
        image = self.noise[:, v : v + self.side, u : u + self.side] + self.figures[label]
        if (place := self.place(n)) is not None:
            image[:, *place] = 128
        return torch.from_numpy(image), label


@dataclass(frozen=True, eq=False)
class WithTruth(TorchImageSet):
    """The same images with the ground truth of the planted feature, for the oracle."""

    def spurious_masks(self, indices: Tensor) -> Tensor:
        """(n, H, W) bool."""
        side = self.data.side
        masks = torch.zeros(len(indices), side, side, dtype=torch.bool)
        for row, n in enumerate(indices.tolist()):
            if (place := self.data.place(n)) is not None:
                masks[row][place] = True
        return masks


def splits_of(count: int, side: int = 64) -> Splits:
    """N training images, and a fixed number to choose and to test by."""
    held_out = min(_HELD_OUT, count)
    found = from_torch(
        {
            "train": Drawn(count, side),
            "val": Drawn(held_out, side, first=1 << 30),
            "test": Drawn(held_out, side, first=1 << 31),
        }
    )

    def known(images: Any) -> WithTruth:
        return WithTruth(**{name: getattr(images, name) for name in TorchImageSet.__dataclass_fields__})

    assert found.validation is not None
    return Splits(
        name="drawn figures",
        train=known(found.train),
        validation=known(found.validation),
        tests={name: known(images) for name, images in found.tests.items()},
        source="drawn on the fly",
        planted="a grey patch in a corner",
    )


def narrow_resnet() -> nn.Module:
    """ResNet-18 with one block a stage, an eighth of its channels and a stem of stride 4."""
    widths = [_WIDTH << stage for stage in range(4)]
    blocks = []
    for before, width in zip([_WIDTH, *widths], widths, strict=False):
        stride = 1 if before == width else 2
        shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        blocks.append(BasicBlock(before, width, stride, None if stride == 1 else shortcut))
    return nn.Sequential(
        nn.Conv2d(3, _WIDTH, 7, stride=4, padding=3, bias=False),
        nn.BatchNorm2d(_WIDTH),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(widths[-1], len(CLASSES)),
    )


class Marks:
    """One line on standard output for each stage that ended, with the seconds since the one before."""

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self.of = ""  # goes before the names of stages

    def end(self, stage: str, **more: object) -> None:
        """`stage` began where the last one ended."""
        now = time.perf_counter()
        told = {"stage": self.of + stage, "seconds": now - self._since, "cpu": time.process_time(), **more}
        print(json.dumps(told), flush=True)
        self._since = now


def watch_stages(marks: Marks) -> None:
    """Have every stage of a run marked when it is done, what it took to know that it is not done included."""
    run_stage: Callable[..., Any] = RunDirectory.stage

    def stage(run: RunDirectory, name: str, *rest: Any, **more: Any) -> Any:
        found = run_stage(run, name, *rest, **more)
        marks.end(name, computed=found[1])
        return found

    RunDirectory.stage = stage  # type: ignore[method-assign, assignment]


def train(weights: Path) -> None:
    """A model that relies on the patch, once for all sizes."""
    torch.manual_seed(0)
    run = weights.parent / "training"
    project = Project(
        narrow_resnet(),
        splits_of(8_192),
        trained=False,
        run=run,
        settings={"model.epochs": 3, "model.batch": 128, "model.learning_rate": 2e-3},
    )
    torch.save(project.train().model.state_dict(), weights)


class _Said(QuietConsole):
    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def pipeline(folder: str, count: str, explained: str, side: str = "64") -> None:
    """Select to report, with the oracle, whose verdicts align; then the built-in critic is asked."""
    marks, path, N = Marks(), Path(folder), int(count)
    weights = path.parent / "model.pt"
    if not weights.exists():
        train(weights)
    marks.end("train (once)")
    watch_stages(marks)
    model = narrow_resnet()
    model.load_state_dict(torch.load(weights, weights_only=True))
    splits = splits_of(N, int(side))
    marks.end("data")
    settings = {
        "explain.num_images": min(int(explained), N),
        "explain.sampling": "lowest",
        "explain.baselines": 5,
        "explain.segments": 3,
        "explain.n_init": 1,
        "evaluate.num_images": 200,
        "align.lambda": [0.03],
        "align.epochs": 1,
        "align.training_batch": max(32, min(2_048, N // 128)),
        "align.alignment_batch": 32,
        "evaluate.bounds": False,
    }
    project = partial(Project, model, splits, SPECIFICATIONS, run=path, settings=settings, console=_Said())
    project(critic="ground-truth").align()
    marks.end("report")
    marks.of = "built-in critic: "
    project(critic="builtin").critique()


def held(folder: str, count: str, side: str) -> None:
    """What is held of M explained images of H × W pixels, with Φ and segments that are only made up."""
    marks, path, M, width = Marks(), Path(folder), int(count), int(side)
    images = splits_of(M, width).train
    values = torch.rand(M, width, width)
    segmentation = set_aside_all(M, 3, width, width, values.device, {})
    segmentation.labels[:] = 1 + torch.arange(width)[:, None] * 3 // width
    segmentation.pi[:] = torch.tensor([0.5, 0.3, 0.2])
    marks.end("Φ and segments, computed")
    indices = torch.arange(M)
    tensors = {
        "images": artefacts.InParts((M, width, width, 3), torch.uint8, seen_in_parts(images, indices)),
        "spurious": artefacts.InParts((M, width, width), torch.bool, spurious_in_parts(images, indices)),
        "values": values,
        "labels": segmentation.labels,
    }
    with RunDirectory.open(path, {"project": "held"}) as run:
        run.write(IMAGES, artefacts.tensors_pieces(tensors))
    marks.end("written, with the images")
    del values, tensors
    read = artefacts.read_tensors(path / IMAGES)[0]
    ids = [images.ids[n] for n in range(M)]
    explained = Explained(
        ids,
        Selection(indices, torch.zeros(M), "lowest", (M,)),
        Attribution(read["values"], torch.zeros(M), "random"),
        images.labels,
        images.labels,
        replace(segmentation, labels=read["labels"]),
        ShownImages(read["images"], read["spurious"]),
    )
    del segmentation
    named = [one.fingerprint for one in explained.explained_images(Splits(name="held", train=images))]
    marks.end("read back, hashed for the critic", hashes=len(named))
    config = SimpleNamespace(align=SimpleNamespace(mask="segment"))
    verdicts = [Verdict(image_id, 1, True, "", "") for image_id in ids]
    alignment = alignment_set(cast(Any, SimpleNamespace(config=config)), explained, verdicts)
    marks.end("masks cut")
    found = hold(images, alignment.indices, torch.device("cpu"))
    marks.end("alignment images held", dtype=str(found.pixels.dtype))


JOBS = {"pipeline": pipeline, "held": held}

if __name__ == "__main__":
    JOBS[sys.argv[1]](*sys.argv[2:])
