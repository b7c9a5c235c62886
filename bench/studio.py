"""The studio: how long a person waits, on a run of 10,000 drawn images and on 256 larger ones.

Beside wall clock stands the processor's time, which says the same on a busy machine.
"""

import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.critique.verdict import Verdict
from lvlm_va.explain.attribution import Attribution
from lvlm_va.explain.segmentation import Segmentation
from lvlm_va.run import artefacts
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.verdict_table import verdicts_file
from lvlm_va.studio.pictures import thumbnail
from lvlm_va.studio.queue import entries
from lvlm_va.studio.reading import reading_of
from lvlm_va.studio.reviewing import Review
from lvlm_va.studio.subject import Subject, open_subject
from lvlm_va.studio.trying import try_words

__all__ = ["main", "pages"]

MANY, FEW, PAGE = 10_000, 256, 60


def main() -> dict[str, Any]:
    """Seconds of each wait."""
    with tempfile.TemporaryDirectory() as folder:
        many = _run(Path(folder, "many"), MANY, 28)
        review, images = Review(many), many.images().explained_images
        found = {
            "10,000 images: verdicts read and queue sorted": _timed(
                lambda: entries(images, review.standing(), {})
            ),
            "10,000 images: a verdict turned, on the disk": _timed(
                lambda: review.set({("image-7", 1): True}, "bench")
            ),
            f"{PAGE} thumbnails drawn": _timed(lambda: [thumbnail(e) for e in list(images.values())[:PAGE]]),
            f"{PAGE} thumbnails again": _timed(lambda: [thumbnail(e) for e in list(images.values())[:PAGE]]),
        }
        few = _run(Path(folder, "few"), FEW, 224)
        reading_of(few).wait()
        words = ClassSpecification("thing", "A thing.", ("the stroke",), ("a grey patch in a corner",))
        try_words(few, words, "spurious", all_images=False)  # the encoder is loaded
        other = ClassSpecification("thing", "A thing.", ("a round blob",), ("a flat white box",))
        found[f"{FEW} images of 224²: other words tried"] = _timed(
            lambda: try_words(few, other, "spurious", all_images=True)
        )
        waits = pages(many.path)
        found |= {f"10,000 images: {name}": {"seconds": seconds} for name, seconds in waits.items()}
    return found


def _timed(what: Callable[[], object]) -> dict[str, float]:
    wall, own = time.perf_counter(), time.process_time()
    what()
    return {
        "seconds": round(time.perf_counter() - wall, 3),
        "processor": round(time.process_time() - own, 3),
    }


def pages(run: Path) -> dict[str, float]:
    """A server of its own: from its address on the screen to the first answer, the overview, and pages."""
    command = [sys.executable, "-m", "lvlm_va", "studio", "--no-browser", str(run)]
    found = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        begin = time.perf_counter()
        waits = _get(url)
        found["start to first answer (a page that waits)"] = time.perf_counter() - begin
        while waits:
            time.sleep(0.05)
            waits = _get(url)
        found["start to the overview"] = time.perf_counter() - begin
        for name, path in (
            ("the overview, again", "run/1"),
            ("first page of the review, first time", "run/1/review"),
            ("first page of the review, again", "run/1/review"),
            ("a page in the middle", "run/1/review?page=80"),
        ):
            begin = time.perf_counter()
            _get(url + path)
            found[name] = time.perf_counter() - begin
        process.terminate()
        process.communicate()
    return {name: round(seconds, 3) for name, seconds in found.items()}


def _get(url: str) -> bool:
    """Whether the answer only says that the studio is still being loaded."""
    with urllib.request.urlopen(url) as answer:
        answer.read()
        return answer.headers.get("refresh") is not None


def _run(path: Path, count: int, side: int) -> Subject:
    """A critiqued run of images with a patch in a corner and a bar in the middle, two segments each."""
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.integers(0, 40, (count, side, side, 3), dtype=np.uint8))
    small, third = side // 6, side // 3
    images[:, :small, :small] = 150
    images[:, third : 2 * third, third : third + small] = 220
    labels = torch.ones(count, side, side, dtype=torch.int16)
    labels[:, :third] = 2
    attribution = torch.rand(count, side, side)
    ids = [f"image-{n}" for n in range(count)]
    zeros = torch.zeros(count, dtype=torch.int64)
    with RunDirectory.open(path, {"project": "bench"}) as run:
        tensors = {"images": images, "labels": zeros}
        run.write(
            "segments/images.safetensors", artefacts.tensors_file(tensors, ids=ids, class_names=["thing"])
        )
        explained = Attribution(attribution, torch.zeros(count), "deeplift-shap")
        run.write("segments/attribution.safetensors", artefacts.attribution_file(explained, zeros, zeros))
        segmentation = Segmentation(
            labels=labels,
            pi=torch.tensor([[0.7, 0.3]]).repeat(count, 1),
            mu=torch.zeros(count, 2, 2),
            sigma=torch.zeros(count, 2, 2, 2),
            log_likelihood=torch.zeros(count),
            iterations=zeros,
            converged=torch.ones(count, dtype=torch.bool),
            set_aside={},
            method="ppeps-wgm",
        )
        run.write("segments/segments.safetensors", artefacts.segmentation_file(segmentation))
        said = [Verdict(i, j, j == 2, "it covers the patch", "builtin") for i in ids for j in (1, 2)]
        for name in ("verdicts.csv", "critic_verdicts.csv"):
            run.write(name, verdicts_file(said))
    return open_subject(1, path)
