"""What grows with the number of images, and what must not."""

import random
from collections import Counter
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import report_run
import small
from bench import scale
from lvlm_va import Project
from lvlm_va.alignment.counterfactuals import Counterfactuals
from lvlm_va.critique.segment_similarity import Likeness
from lvlm_va.data.held import hold
from lvlm_va.data.held_out import stratified, stratified_apart
from lvlm_va.data.imageset import ArrayImageSet
from lvlm_va.data.long_ids import Numbered, Picked
from lvlm_va.data.torch_dataset import from_torch
from lvlm_va.errors import DataError, RunError
from lvlm_va.project import fingerprints
from lvlm_va.report.critiques import critique_of
from lvlm_va.report.record import read_critiques, read_exchanges, read_judged
from lvlm_va.report.write import write_report
from lvlm_va.run import artefacts
from lvlm_va.run.directory import RunDirectory, fingerprint
from lvlm_va.run.files import CRITIC_VERDICTS, IMAGES, MASKS, SEGMENTS, VERDICTS
from lvlm_va.run.verdict_table import read_verdicts, verdicts_file, verdicts_in
from lvlm_va.studio import reading
from lvlm_va.studio.queue import entries
from lvlm_va.studio.reviewing import Review
from lvlm_va.studio.subject import open_subject
from studio_run import make_run

ATTRIBUTION = "segments/attribution.safetensors"


class Counting:
    """900 images that count how often each is asked for."""

    def __init__(self) -> None:
        self.targets = torch.arange(900) % 3
        self.asked: Counter[int] = Counter()

    def __len__(self) -> int:
        return 900

    def __getitem__(self, n: int) -> tuple[torch.Tensor, int]:
        self.asked[n] += 1
        return torch.full((1, 12, 12), n % 251, dtype=torch.uint8), n % 3


def test_each_image_is_read_once_to_select_and_no_stage_asks_for_all(tmp_path, monkeypatch):
    data = Counting()
    splits = from_torch(data, classes=list(small.CLASSES), validation=100, test=100)
    assert data.asked.total() < 50, "labels come from where the data set keeps them"
    largest = 0
    images = type(splits.train).images

    def counted(self: Any, indices: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, len(indices))
        return images(self, indices)

    monkeypatch.setattr(type(splits.train), "images", counted)
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 3))
    settings = {"explain.num_images": 8, "explain.segments": 2, "explain.baselines": 4}
    project = Project(model, splits, small.SPECIFICATIONS, run=tmp_path / "run", settings=settings)
    data.asked.clear()
    project.estimate()
    often = Counter(data.asked.values())
    assert sorted(data.asked) == sorted(splits.train.positions.tolist())
    assert often[1] > 600, "all but the sample of the fingerprint, the baselines and the explained"
    assert max(often) < 12
    assert largest <= 512


def test_names_are_made_when_they_are_asked_for():
    names = Numbered("train", 10**12)
    assert names[-1] == f"train-{10**12 - 1}"
    assert names[3:5] == ["train-3", "train-4"]
    picked = Picked(Numbered("x", 5), torch.tensor([4, 0]))
    assert list(picked) == ["x-4", "x-0"] == picked
    assert picked != ["x-4", "x-1"]
    with pytest.raises(IndexError):
        picked[2]


@pytest.mark.parametrize("content", [None, 'é "x"'])
def test_the_fingerprint_of_a_set_is_that_of_all_of_it_in_one_text(content, monkeypatch):
    monkeypatch.setattr(fingerprints, "_IDS", 3)
    for n in (1, 3, 7):
        truth = torch.rand(n, 4, 4) > 0.5
        ids = [f'ä"{i}' for i in range(n)]
        images: Any = ArrayImageSet(torch.rand(n, 1, 4, 4), torch.zeros(n).long(), ids, ["a", "b"], truth)
        if content is not None:
            object.__setattr__(images, "content", content)
        sample = torch.linspace(0, n - 1, n).long()
        whole = [
            *([] if content is None else [content]),
            ids,
            ["a", "b"],
            *map(fingerprints.tensor_fingerprint, (images.labels, images.images(sample), truth[sample])),
        ]
        assert fingerprints.set_fingerprint(images) == fingerprint(*whole)


def test_what_is_held_out_of_a_million_is_what_was_held_out_of_a_few():
    for seed in range(20):
        labels = np.random.default_rng(seed).integers(0, 4, 60)
        apart = [str(n) for n in range(60)]
        assert stratified_apart(labels, 17, (seed, 1)).tolist() == stratified(
            labels.tolist(), apart, 17, (seed, 1)
        )
    with pytest.raises(DataError, match="hold out fewer"):
        stratified_apart(np.array([0, 1, 1]), 3, (0, 0))


def test_files_are_written_in_parts_as_the_library_writes_them():
    tensors = {
        "wide": torch.rand(5, 3, dtype=torch.float64),
        "bytes": torch.arange(20, dtype=torch.uint8).view(5, 4),
        "strided": torch.rand(3, 4).T,
        "counts": torch.arange(5),
        "yes": torch.rand(7) > 0.5,
        "nothing": torch.zeros(0, 2),
    }
    in_parts = tensors | {
        name: artefacts.InParts(tuple(tensors[name].shape), tensors[name].dtype, tensors[name].split(2))
        for name in ("wide", "bytes")
    }
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    assert artefacts.tensors_file(in_parts, note="é") == safetensors.torch.save(whole, {"note": '"\\u00e9"'})
    short = artefacts.InParts((5, 3), torch.float64, tensors["wide"].split(2)[:1])
    with pytest.raises(ValueError, match="6 numbers of 15"):
        artefacts.tensors_file({"wide": short})


@pytest.mark.parametrize("late", [False, True])
def test_held_images_are_to_the_bit_those_of_the_set(late):
    pixels = torch.randint(0, 256, (600, 1, 9, 9), dtype=torch.uint8).float() / 255
    if late:
        pixels[400] += 1e-4  # a value between two bytes, after hundreds that were none
    images = ArrayImageSet(pixels, torch.zeros(600).long(), [str(n) for n in range(600)], ["a", "b"])
    chosen = torch.randperm(600)
    held = hold(images, chosen, torch.device("cpu"))
    assert held.pixels.dtype == (torch.float32 if late else torch.uint8)
    assert torch.equal(held[torch.arange(600)], images.images(chosen))
    masks = torch.zeros(600, 9, 9, dtype=torch.bool)
    masks[:400, :3, :3] = torch.rand(400, 3, 3) > 0.5
    whole = Counterfactuals.of(images.images(chosen), images.labels, masks)
    by_set = Counterfactuals.of_set(images, chosen, masks, torch.device("cpu"))
    assert torch.equal(whole.without, by_set.without)
    some, donors = torch.rand(9, 1, 9, 9), torch.arange(9)
    assert torch.equal(whole.pasted(some, donors), by_set.pasted(some, donors))


def repeated(run: RunDirectory, n: int) -> None:
    """The run of `report_run` with its images repeated under other names: n of them."""
    tensors, notes = artefacts.read_tensors(run.file(IMAGES))
    attribution, targets, predicted = artefacts.read_attribution(run.file(ATTRIBUTION))
    segmentation = artefacts.read_segmentation(run.file(SEGMENTS))
    said, table = read_verdicts(run.file(CRITIC_VERDICTS)), read_verdicts(run.file(VERDICTS))
    masks = artefacts.read_tensors(run.file(MASKS))[0]["masks"]
    usable = [row for row in range(4) if row not in segmentation.set_aside]
    extra = [usable[k % 3] for k in range(n - 4)]
    rows = torch.tensor([*range(4), *extra])
    ids = [*notes["ids"], *(f"{notes['ids'][row]}~{k}" for k, row in enumerate(extra))]
    kept = {name: tensor[rows] for name, tensor in tensors.items()}
    explained = replace(
        attribution, values=attribution.values[rows], completeness_error=attribution.completeness_error[rows]
    )
    with RunDirectory.open(run.path) as writable:
        writable.write(IMAGES, artefacts.tensors_file(kept, ids=ids, class_names=notes["class_names"]))
        writable.write(ATTRIBUTION, artefacts.attribution_file(explained, targets[rows], predicted[rows]))
        writable.write(SEGMENTS, artefacts.segmentation_file(segmentation.rows(rows.tolist())))
        more = torch.cat([masks, masks[[usable.index(row) for row in extra]]])
        names = [image_id for image_id, row in zip(ids, rows.tolist(), strict=True) if row in usable]
        writable.write(MASKS, artefacts.tensors_file({"masks": more}, ids=names))
        for name, verdicts in ((CRITIC_VERDICTS, said), (VERDICTS, table)):
            copies = [
                replace(v, image_id=f"{v.image_id}~{k}")
                for k, row in enumerate(extra)
                for v in verdicts
                if v.image_id == notes["ids"][row]
            ]
            writable.write(name, verdicts_file([*verdicts, *copies]))


@pytest.mark.slow
def test_the_report_of_many_images_shows_no_more_of_them(tmp_path):
    shown, sizes = [], []
    for n in (60, 240):
        run = report_run.make_run(tmp_path / str(n))
        repeated(run, n)
        with RunDirectory.open(run.path) as writable:
            page = write_report(writable).read_text()
        shown.append(page.count("data:image/"))
        sizes.append(len(page))
    assert shown[0] == shown[1] < 80
    assert sizes[1] < 1.2 * sizes[0]


def test_critiques_are_read_one_by_one_as_they_would_be_all_at_once(tmp_path):
    run = report_run.make_run(tmp_path / "run")
    judged, exchanges = read_judged(run), read_exchanges(run)
    whole = {
        image_id: critique_of(exchanges.get(image_id, ()), [v for v in judged.said if v.image_id == image_id])
        for image_id in {v.image_id for v in judged.said}
    }
    whole = {image_id: critique for image_id, critique in whole.items() if critique is not None}
    one_by_one, at_once = read_critiques(run, judged), read_critiques(run, judged)
    assert len(one_by_one) == len(whole) > 0
    assert {image_id: one_by_one[image_id] for image_id in whole} == whole == dict(at_once.items())
    assert "elsewhere" not in one_by_one
    assert one_by_one.get("elsewhere") is None


def test_the_table_is_read_row_by_row(tmp_path):
    run = report_run.make_run(tmp_path / "run")
    table = run.file(VERDICTS)
    verdicts = read_verdicts(table)
    table.write_bytes(table.read_bytes() + b"x,one,1,,\r\n")
    rows = verdicts_in(table)
    assert [next(rows) for _ in verdicts] == verdicts
    with pytest.raises(RunError, match="segment is 'one'"):
        next(rows)


def test_the_studios_index_is_what_the_files_say(tmp_path):
    subject = open_subject(1, make_run(tmp_path / "run"))
    review = Review(subject)
    choose = random.Random(0)
    keys, known = list(review.standing().in_force), {}
    for step in range(40):
        author = choose.choice(["Ann", "Bob", "builtin"])
        with suppress(RunError):  # what another changed since is not undone
            match choose.randrange(5):
                case 0:
                    review.undo(author)
                case 1:
                    review.redo(author)
                case 2:
                    review.look_at(choose.choice(keys)[0], author)
                case _:
                    wanted = dict.fromkeys(choose.sample(keys, 2), choose.choice([True, False, None]))
                    review.set(wanted, author, choose.choice(["", f"reason {step}"]))
        kept, read = review.standing(), Review(open_subject(1, subject.path)).standing()
        for field in fields(read):
            assert getattr(kept, field.name) == getattr(read, field.name), field.name
        assert (subject.path / VERDICTS).read_bytes() == verdicts_file(read.in_force.values())
        images = subject.images().explained_images
        found = entries(images, kept, {}, known)
        known.update((entry.position, entry) for entry in found)
        assert [(e.position, e.doubt, e.why) for e in found] == [
            (e.position, e.doubt, e.why) for e in entries(images, read, {})
        ]


def test_segments_are_compared_with_some_of_many(monkeypatch):
    monkeypatch.setattr(reading, "_COMPARED", 16)
    vectors = np.random.default_rng(0).normal(size=(100, 3))
    alike = Likeness(np.arange(100), np.ones(100, np.int64), vectors, np.arange(100) % 2)
    near = reading._neighbours(alike)
    for n in range(100):
        compared = [m for m in range(n % 2, 100, 2)][:: -(-50 // 16)]
        others = sorted(
            (m for m in compared if m != n), key=lambda m: float(np.linalg.norm(vectors[n] - vectors[m]))
        )
        assert near[n].tolist()[: len(others)][:12] == others[:12]


def test_of_too_many_images_none_is_read_in_the_background(monkeypatch):
    monkeypatch.setattr(reading, "_MOST", 3)
    read = reading.Reading(dict.fromkeys("abcd"))
    read.wait()
    assert "too many" in read.problem
    assert not read.compared


def test_the_page_of_results_has_a_row_for_each_stage_and_a_column_for_each_size():
    def of(n: int, seconds: float) -> dict[str, Any]:
        stage = {"stage": "select", "processor": seconds, "peak_gib": 0.5, "own_gib": 0.25}
        return {"job": "pipeline", "size": [n, 10], "stages": [stage]}

    page = scale.page([of(1000, 1.5), of(10_000, 12.0)])
    assert "| stage | 1,000 / 10 | 10,000 / 10 |" in page
    assert "| select | 1.50 s, 0.50 (0.25) GiB | 12.00 s, 0.50 (0.25) GiB |" in page
