"""Small finished runs to ask people about: like report_run's, but no two images are alike."""

from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import torch

import report_run
from lvlm_va.explain.segmentation import Segmentation, ppeps_wgm
from lvlm_va.run import artefacts
from lvlm_va.run.files import EXPLANATIONS

PAIRS = 2
"""Test images of each run that are explained before and after."""


def make_runs(folder: Path, count: int = 5) -> list[Path]:
    """Runs of 5 segments with a verdict each (3 condemned), and 2 images explained before and after."""
    return [make_run(folder / f"run-{n}", n) for n in range(count)]


def make_run(path: Path, seed: int) -> Path:
    generator = torch.Generator().manual_seed(seed)

    def images() -> tuple[torch.Tensor, torch.Tensor, Segmentation]:
        images = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8, generator=generator)
        _, attribution, _ = plain()
        return images, attribution, ppeps_wgm(attribution, 2)

    plain = report_run.explained_images
    with mock.patch.object(report_run, "explained_images", images):
        run = report_run.make_run(path)
    write_explanations(path, [0] * PAIRS, generator)
    return run.path


def write_explanations(path: Path, labels: Sequence[int], generator: torch.Generator) -> None:
    n = len(labels)
    tensors = {
        "images": torch.randint(0, 256, (n, 8, 8, 3), dtype=torch.uint8, generator=generator),
        "labels": torch.tensor(labels),
        "before_attribution": torch.randn(n, 8, 8, generator=generator),
        "after_attribution": torch.randn(n, 8, 8, generator=generator),
        "before_predicted": torch.ones(n, dtype=torch.int64),
        "after_predicted": torch.tensor(labels),
        "spurious": torch.zeros(n, 8, 8, dtype=torch.bool),
    }
    ids = [f"secret-test-{i}" for i in range(n)]
    content = artefacts.tensors_file(tensors, ids=ids, class_names=report_run.CLASSES)
    (path / EXPLANATIONS).write_bytes(content)
