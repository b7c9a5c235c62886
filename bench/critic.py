"""The critic's client: how busy it keeps a server, what that costs, the store's speed, a batch's memory.

The server answers after half a second, in a process of its own; the client is bound to one core where the
system can do that, and the server to the others. Images are drawn beforehand, as on a machine with more
cores: what drawing costs stands beside it.
"""

import asyncio
import json
import os
import platform
import resource
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from lvlm_va.critique.backends.batch import BatchBackend
from lvlm_va.critique.backends.openai import OpenAIBackend
from lvlm_va.critique.batch_export import export_requests
from lvlm_va.critique.batch_import import import_responses
from lvlm_va.critique.driver import critique
from lvlm_va.critique.examples import load_examples
from lvlm_va.critique.question import Backend, CaptionedImage, ExplainedImage, Reply
from lvlm_va.critique.rendering import render
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.critique.store import Store

__all__ = ["main"]

AT_ONCE, DELAY = 256, 0.5
IMAGES, STORED, BATCHED = 3_000, 10_000, 10_000
PNG_BYTES = 90_000  # a drawn knee or lesion of 448 × 448 pixels
SMALL_BYTES = 10_000  # a drawn digit
RESULTS = Path(__file__).parents[1] / "results" / "scale" / "critic.json"
THING = ClassSpecification("thing", "A thing with strokes.", ("the strokes",), ("a patch",))


def main() -> dict[str, Any]:
    """All of it, written to results/scale/critic.json, too."""
    with tempfile.TemporaryDirectory() as folder:
        batch = _batched(Path(folder))  # first, while little memory was used
        found: dict[str, Any] = {
            "busy": {judge: _busy(Path(folder), judge) for judge in ("the critic as the judge", "lines")},
            "store": _stored(Path(folder)),
            "drawing": _drawing(),
            "batch": batch,
        }
    found["load_average_1_minute"] = round(os.getloadavg()[0], 1)
    found["versions"] = {name: version(name) for name in ("lvlm-va", "aiohttp", "pillow", "numpy")}
    found["python"], found["cores"] = platform.python_version(), os.cpu_count()
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(found | {"machine": platform.machine()}, indent=2) + "\n")
    return found


def _images(number: int) -> Iterator[ExplainedImage]:
    segments = np.repeat(np.arange(1, 8), 4)[:, None].repeat(28, 1).astype(np.int16)
    for n in range(number):
        pixels, phi = np.zeros((28, 28, 3), np.uint8), np.zeros((28, 28), np.float32)
        yield ExplainedImage(f"image-{n}", pixels, segments, phi, (1 / 7,) * 7, "thing", "thing")


class _Drawn:
    """Files of the size of drawn images, other ones for each image."""

    def __init__(self, size: int) -> None:
        head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 448, 448)
        self._bytes = head, np.random.default_rng(0).bytes(size)

    def __call__(self, explained: ExplainedImage) -> tuple[CaptionedImage, ...]:
        head, rest = self._bytes
        name = explained.image_id.encode()
        return tuple(
            CaptionedImage(f"Image {n}: as drawn.", head + name + bytes([n]) + rest) for n in (1, 2, 3)
        )


def _asks(backend: Backend, size: int, judge: str = "") -> CriticJudge:
    return CriticJudge(
        backend,
        backend,
        {"thing": THING},
        _Drawn(size),
        load_examples(),
        lines_first=judge == "lines",
    )


@contextmanager
def _server() -> Iterator[str]:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    command = [sys.executable, "-m", "bench.slow_server", str(DELAY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if len(cores) > 1:
                os.sched_setaffinity(process.pid, cores[1:])
                os.sched_setaffinity(0, cores[:1])
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            if len(cores) > 1:
                os.sched_setaffinity(0, cores)
            process.terminate()


def _busy(folder: Path, judge: str) -> dict[str, float]:
    with _server() as url, Store.open(folder / f"{judge}.sqlite") as store:
        os.environ["OPENAI_BASE_URL"] = f"{url}/v1"
        asks = _asks(OpenAIBackend("slow", concurrency=AT_ONCE), PNG_BYTES, judge)
        wall, cpu = time.perf_counter(), time.process_time()
        critique(_images(IMAGES), asks, store, concurrency=AT_ONCE)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        with urllib.request.urlopen(f"{url}/stats") as answer:
            stats = json.load(answer)
    return {
        "questions": stats["asked"],
        "share_under_way": round(stats["mean"] / AT_ONCE, 3),
        "most_under_way": stats["peak"],
        "client_cpu_seconds_per_1000": round(1e3 * cpu / stats["asked"], 2),
        "share_of_one_core": round(cpu / wall, 2),
        "bytes_of_a_critique": 3 * (PNG_BYTES * 4 // 3),
    }


def _stored(folder: Path) -> dict[str, float]:
    asks = _asks(BatchBackend("slow"), 100)
    questions = [asks.critic_question(one) for one in _images(STORED)]
    reply = Reply("words " * 300, "slow", 2000, 300, 0.01, 0.5)

    async def keep(store: Store, some: Sequence[int]) -> None:
        for n in some:
            await store.keep(questions[n], "openai:slow", reply)

    async def run(store: Store) -> None:
        await asyncio.gather(*(keep(store, range(n, STORED, AT_ONCE)) for n in range(AT_ONCE)))

    path = folder / "store.sqlite"
    with Store.open(path) as store:
        wall, cpu = time.perf_counter(), time.process_time()
        asyncio.run(run(store))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "answers": STORED,
        "answers_per_second": round(STORED / wall),
        "answers_per_cpu_second": round(STORED / cpu),
        "bytes_per_answer": round(path.stat().st_size / STORED),
    }


def _drawing() -> dict[str, float]:
    """Of a photograph of 224 × 224 with seven segments: a smooth one with fine noise."""
    random = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(random.normal(size=(224, 224, 3)), (3, 3, 0))
    image = (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)
    centres, lattice = random.uniform(0, 224, (7, 2)), np.stack(np.mgrid[:224, :224], -1)
    nearest = ((lattice[:, :, None] - centres) ** 2).sum(-1).argmin(-1)
    phi = ndimage.gaussian_filter(random.normal(size=(224, 224)), 8).astype(np.float32)
    segments = (nearest + 1).astype(np.int16)
    drawn = render(ExplainedImage("one", image, segments, phi, (1 / 7,) * 7, "thing", "thing"))
    cpu = time.process_time()
    for n in range(10):
        render(ExplainedImage(str(n), image, segments, phi, (1 / 7,) * 7, "thing", "thing"))
    cpu = time.process_time() - cpu
    return {
        "cpu_seconds_per_1000_images": round(100 * cpu, 1),
        "bytes_per_image": sum(len(one.png) for one in drawn),
    }


def _batched(folder: Path) -> dict[str, float]:
    """Export of the critiques and import of their answers; memory is what the process grew by."""
    asks = _asks(BatchBackend("slow"), SMALL_BYTES, "lines")
    path = folder / "batch" / "requests.jsonl"
    with Store.open(folder / "batch.sqlite") as store:
        before, wall = _resident(), time.perf_counter()
        export = export_requests(_images(BATCHED), asks, store, path)
        exported, export_seconds = _resident(), time.perf_counter() - wall
        answers = folder / "answers.jsonl"
        with answers.open("w") as file:
            for part in export.files:
                with part.open() as lines:
                    for line in lines:
                        key = json.loads(line)["custom_id"]
                        message = {"content": "words " * 300}
                        body = {"choices": [{"message": message, "finish_reason": "stop"}]}
                        response = {"status_code": 200, "body": body}
                        file.write(json.dumps({"custom_id": key, "response": response}) + "\n")
        wall = time.perf_counter()
        imported = import_responses([answers], store).imported
        import_seconds = time.perf_counter() - wall
    return {
        "questions": export.requests,
        "answers": imported,
        "megabytes_written": round(sum(part.stat().st_size for part in export.files) / 1e6),
        "export_seconds": round(export_seconds, 1),
        "import_seconds": round(import_seconds, 1),
        "mebibytes_grown_by_export": round(exported - before),
        "mebibytes_grown_by_both": round(_resident() - before),
    }


def _resident() -> float:
    """The largest memory so far, MiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)
