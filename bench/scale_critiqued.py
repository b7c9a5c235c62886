"""Jobs of `bench.scale` on a run of N critiqued images: store, table, report, export and studio.

The critiques are synthetic, but pass through the questions, the store and the files of a real run. What they
are made of is a small run that was aligned (job `pipeline`), whose images are repeated under other names.

python -m bench.scale_critiqued critiqued FOLDER N
"""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bench.scale_job import SPECIFICATIONS, Marks, narrow_resnet
from bench.studio import pages
from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.examples import load_examples
from lvlm_va.critique.judge import judge_question
from lvlm_va.critique.question import CaptionedImage, ExplainedImage, Question, Reply
from lvlm_va.critique.specification import ClassSpecification, load_specifications
from lvlm_va.critique.store import _insert_answer, _insert_question
from lvlm_va.critique.verdict import Verdict
from lvlm_va.project.export import export
from lvlm_va.report.record import read_images, read_judged
from lvlm_va.report.write import write_report
from lvlm_va.run import artefacts
from lvlm_va.run.artefacts import InParts
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import CRITIC_VERDICTS, IMAGES, MASKS, SEGMENTS, VERDICTS, open_store
from lvlm_va.run.verdict_table import verdicts_file
from lvlm_va.studio.grounds import grounds_of
from lvlm_va.studio.review_pages import queue_of
from lvlm_va.studio.reviewing import Review
from lvlm_va.studio.subject import open_subject

ATTRIBUTION = "segments/attribution.safetensors"
BACKEND = "openai:synthetic"
_KEPT = ("metrics.json", "model.safetensors", "aligned.safetensors", "explanations.safetensors")
_EXAMPLES = load_examples()
_COMMIT = 256  # answers on the disk together, as they arrive from many calls at once
_WORDS = ("patch", "figure", "edge of the figure", "plain ground", "grain of the ground", "corner")


def critiqued(folder: str, count: str) -> None:
    """Write the run, then do with it what people do."""
    marks, path, n = Marks(), Path(folder), int(count)
    base = path.parent / "base"
    shutil.rmtree(path, ignore_errors=True)
    config = json.loads((base / "run.json").read_text())["config"]
    with RunDirectory.open(path, config) as run:
        for name in _KEPT:
            shutil.copy(base / name, path / name)
        images = _tiled(RunDirectory.read(base), run, n)
        marks.end("images, Φ, segments and masks written")
        specifications = load_specifications(SPECIFICATIONS, sorted(SPECIFICATIONS["classes"]))
        verdicts = _record(run, images, specifications)
        marks.end("critiques recorded in the store")
        table = verdicts_file(verdicts)
        run.write(VERDICTS, table)
        run.write(CRITIC_VERDICTS, table)
        marks.end("verdicts.csv written")
    del images, verdicts, table
    run = RunDirectory.read(path)
    read_judged(run)
    marks.end("verdicts.csv read, with the critic's")
    read_images(run)
    marks.end("critiqued images opened")
    with RunDirectory.open(path) as run:
        report = write_report(run)
    marks.end("report", mebibytes=report.stat().st_size / 2**20)
    export(path, model=narrow_resnet())
    marks.end("export")
    subject = open_subject(1, path)
    review = Review(subject)
    review.standing()
    marks.end("studio: verdicts and history read, once")
    queue_of(subject)
    marks.end("studio: queue made, once")
    first = next(iter(review.standing().in_force))
    for spurious, when in ((True, "first"), (False, "next"), (None, "third")):
        review.set({first: spurious}, "bench")
        queue_of(subject)
        marks.end(f"studio: a verdict turned and the queue sorted, {when}")
    grounds_of(subject)
    marks.end("studio: what the classifier relies on, once")
    for name, seconds in pages(path).items():
        marks.end(f"studio, own process: {name}", measured=seconds)


def _tiled(base: RunDirectory, run: RunDirectory, n: int) -> Sequence[ExplainedImage]:
    """The files of the critiqued images, written in parts, and the images as they are read from there."""
    tensors, notes = artefacts.read_tensors(base.file(IMAGES))
    attribution, targets, predicted = artefacts.read_attribution(
        base.file("segments/attribution.safetensors")
    )
    segmentation = artefacts.read_segmentation(base.file(SEGMENTS))
    usable = [i for i in range(len(targets)) if i not in segmentation.set_aside]
    rows, ids = torch.tensor(usable).repeat(-(-n // len(usable)))[:n], [f"train-{i}" for i in range(n)]

    def tiled(tensor: Tensor) -> InParts:
        parts = (tensor[part] for part in rows.split(256))
        return InParts((n, *tensor.shape[1:]), tensor.dtype, parts)

    kept = {name: tiled(tensor) for name, tensor in tensors.items()}
    run.write(IMAGES, artefacts.tensors_pieces(kept, ids=ids, class_names=notes["class_names"]))
    explained = {
        "values": tiled(attribution.values),
        "completeness_error": attribution.completeness_error[rows],
        "targets": targets[rows],
        "predicted": predicted[rows],
    }
    run.write(ATTRIBUTION, artefacts.tensors_pieces(explained, method=attribution.method))
    numbers = {name: getattr(segmentation, name) for name in artefacts.SEGMENTATION}
    divided = {name: tiled(tensor) for name, tensor in numbers.items()}
    run.write(SEGMENTS, artefacts.tensors_pieces(divided, set_aside={}, method=segmentation.method))
    covered = (segmentation.labels[part] == 1 for part in rows.split(256))
    masks = InParts((n, *segmentation.labels.shape[1:]), torch.bool, covered)
    run.write(MASKS, artefacts.tensors_pieces({"masks": masks}, ids=ids))
    return list(read_images(run).explained_images.values())


def _record(
    run: RunDirectory,
    explained_images: Sequence[ExplainedImage],
    specifications: Mapping[str, ClassSpecification],
) -> list[Verdict]:
    """A critique and a judgement of every image, through the statements that the store itself runs."""
    verdicts: list[Verdict] = []
    with open_store(run) as store:
        for first in range(0, len(explained_images), _COMMIT):
            with store._database.transaction() as db:
                for n, explained in enumerate(explained_images[first : first + _COMMIT], start=first):
                    for question, reply in _asked(n, explained, specifications[explained.class_name]):
                        _insert_answer(db, _insert_question(db, question, BACKEND), reply)
                    verdicts += _verdicts(n, explained)
    return verdicts


def _asked(n: int, explained: ExplainedImage, words: ClassSpecification) -> Iterator[tuple[Question, Reply]]:
    shown = tuple(CaptionedImage(f"image {k}", f"{n} {k}".encode()) for k in range(3))
    critic = critic_question(explained, words, shown)
    said = [
        f"Segment {v.segment}: {'spurious' if v.spurious else 'valid'}. {v.reason}"
        for v in _verdicts(n, explained)
    ]
    text = "\n".join(f"Step {step}: " + " ".join(said) for step in range(1, 7))
    yield critic, Reply(text, "synthetic", 1_900, 420, 0.001, 2.0)
    answer = [
        {"segment": v.segment, "spurious": v.spurious, "reason": v.reason} for v in _verdicts(n, explained)
    ]
    judge = judge_question(critic, text, _EXAMPLES)
    yield judge, Reply(json.dumps({"verdicts": answer}), "synthetic", 900, 90, 0.0002, 1.0)


def _verdicts(n: int, explained: ExplainedImage) -> list[Verdict]:
    found = []
    for j in explained.segment_ids:
        word, share = _WORDS[(n * 7 + j) % len(_WORDS)], explained.shares[j - 1]
        reason = f"it holds {share:.0%} of the evidence and covers the {word} of kind {(n * 31 + j) % 50}"
        found.append(Verdict(explained.image_id, j, (n + j) % 3 == 0, reason, BACKEND))
    return found


def manifest(folder: str, count: str) -> None:
    """A CSV of N lines over a thousand small files, read as a user's."""
    import csv

    from PIL import Image

    from lvlm_va.data.manifest import read_manifest, read_table

    path, n = Path(folder), int(count)
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    random = torch.Generator().manual_seed(0)
    for k in range(1_000):
        pixels = torch.randint(0, 255, (16, 16), generator=random, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(path / f"{k}.png")
    with (path / "images.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "name"])
        writer.writerows([f"{k % 1_000}.png", f"class {k % 4}", f"image-{k}"] for k in range(n))
    marks = Marks()
    table = read_table(path / "images.csv")
    marks.end("table read", rows=len(table[1]))
    del table
    for when in ("first, decoded into the cache", "again"):
        read_manifest(path / "images.csv", columns={"id": "name"}, size=16, channels="grey")
        marks.end(f"manifest read, {when}")


JOBS = {"critiqued": critiqued, "manifest": manifest}

if __name__ == "__main__":
    JOBS[sys.argv[1]](*sys.argv[2:])
