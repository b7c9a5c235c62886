"""Verdicts that a person changes: on the disk at once, undone and done again without end, never mixed."""

import json
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from lvlm_va.critique.segment_similarity import Likeness
from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import ConfigError, RunError
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.verdict_table import read_verdicts, verdicts_file
from lvlm_va.studio.exchange import coco, coco_runs, label_studio, label_studio_runs
from lvlm_va.studio.history import HISTORY, read_history
from lvlm_va.studio.queue import Filter, entries
from lvlm_va.studio.reading import Reading, _neighbours
from lvlm_va.studio.reviewing import Review
from lvlm_va.studio.subject import open_subject
from report_run import CLASSES, IDS, SCRIPT
from studio_run import make_run

A1, A2, B1, B2, C1, C2 = ((image, j) for image in IDS[:3] for j in (1, 2))


@pytest.fixture
def subject(tmp_path):
    return open_subject(1, make_run(tmp_path / "run"))


@pytest.fixture
def review(subject):
    return Review(subject)


def on_disk(subject):
    return {
        (v.image_id, v.segment): (v.spurious, v.author) for v in read_verdicts(subject.path / "verdicts.csv")
    }


def test_a_change_is_on_the_disk_at_once_with_author_time_and_reason(subject, review):
    review.set({A2: True}, "  Dr.  Ann ", f"a scar {SCRIPT}")
    assert on_disk(subject)[A2] == (True, "Dr. Ann")
    [action] = read_history(subject.path / HISTORY)
    assert (action.author, action.kind, action.reason) == ("Dr. Ann", "set", f"a scar {SCRIPT}")
    assert action.time.endswith("+00:00")
    assert [(c.before.spurious, c.after.spurious) for c in action.changes] == [(False, True)]
    assert review.standing().overruled == {A2, C2}  # c's second was overruled before


def test_turned_back_the_verdict_is_the_critics_own_again(subject, review):
    before = on_disk(subject)
    review.set({A2: True}, "Ann")
    review.set({A2: False}, "Ann")
    assert on_disk(subject) == before
    assert review.set({A2: False}, "Ann") is None, "nothing changed, nothing is noted"
    assert review.standing().revision == 2


def test_undo_and_redo_without_end_give_every_state_again(subject, review):
    """A random walk, against a list of all states."""
    dice = random.Random(4)
    states, at = [on_disk(subject)], 0
    for _ in range(60):
        move = dice.choice(["set", "set", "undo", "redo"])
        if move == "set":
            key, value = dice.choice([A1, A2, B1, B2, C1, C2]), dice.choice([True, False, None])
            if review.set({key: value}, "Ann") is not None:
                states[at + 1 :] = [on_disk(subject)]
                at += 1
        else:
            step = -1 if move == "undo" else 1
            there = 0 <= at + step < len(states)
            assert (getattr(review, move)("Ann") is not None) is there
            at += step if there else 0
        assert on_disk(subject) == states[at]
    again = Review(open_subject(1, subject.path))  # as after the server was killed
    while again.undo("Ann"):
        pass
    assert on_disk(subject) == states[0]


def test_one_undo_takes_back_all_that_were_alike(subject, review):
    before = on_disk(subject)
    review.set({A1: False, A2: True, B2: True}, "Ann", "alike")
    assert sum(on_disk(subject)[key] != before[key] for key in before) == 3
    review.undo("Ann")
    assert on_disk(subject) == before


def test_people_undo_their_own_changes_and_not_over_one_another(subject, review):
    review.set({A2: True}, "Ann")
    review.set({A1: False}, "Bob")
    assert review.undo("Cid") is None
    review.set({A2: None}, "Bob")
    with pytest.raises(RunError, match="was changed since"):
        review.undo("Ann")
    assert on_disk(subject)[A2] == (None, "Bob")
    review.undo("Bob")
    review.undo("Ann")
    assert on_disk(subject)[A2][0] is False


def test_an_edit_in_a_spreadsheet_is_seen_and_kept(subject, review):
    review.set({A2: True}, "Ann")
    table = subject.path / "verdicts.csv"
    rows = [
        replace(v, spurious=False, author="Eve") if (v.image_id, v.segment) == A1 else v
        for v in read_verdicts(table)
    ]
    table.write_bytes(verdicts_file(rows))
    assert review.standing().in_force[A1].author == "Eve"
    review.set({B2: True}, "Ann")
    assert on_disk(subject)[A1] == (False, "Eve")


def test_two_writers_get_a_clear_sentence_and_no_mixed_file(subject, review):
    before = (subject.path / "verdicts.csv").read_bytes()
    hold = (
        "import sys; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(subject.path / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="another process is working on this run"):
            review.set({A2: True}, "Ann")
        other.communicate("")
    assert (subject.path / "verdicts.csv").read_bytes() == before
    assert read_history(subject.path / HISTORY) == []
    review.set({A2: True}, "Ann")


def test_what_a_killed_process_left_of_a_line_is_dropped(subject, review):
    review.set({A2: True}, "Ann")
    file = subject.path / HISTORY
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"number": 2, "time": "20')
    assert len(Review(open_subject(1, subject.path)).standing().history) == 1
    review.set({A1: False}, "Ann")
    assert len(read_history(file)) == 2
    assert file.read_bytes().startswith(whole)
    file.write_bytes(b"nonsense\n" + whole)
    with pytest.raises(RunError, match="line 1"):
        read_history(file)


@pytest.mark.parametrize("name", ["", "   ", "x" * 81])
def test_nobody_changes_anything_without_a_name(subject, review, name):
    with pytest.raises(ConfigError, match="who you are"):
        review.set({A2: True}, name)
    with pytest.raises(ConfigError, match="not part of this run"):
        review.set({("elsewhere", 1): True}, "Ann")


def test_the_queue_has_the_unscored_first_then_disagreement_then_shares(subject, review):
    images = subject.images().explained_images
    order = [e.explained.image_id for e in entries(images, review.standing(), {})]
    # c was overruled by a person: looked at, so last; b has a segment without a verdict.
    assert order == [IDS[1], IDS[0], IDS[2]]
    doubtful = entries(images, review.standing(), {A2: 0.9})
    assert "90% of the segments like segment 2" in doubtful[1].why
    review.look_at(IDS[1], "Ann")
    assert [e.explained.image_id for e in entries(images, review.standing(), {})] == [IDS[0], IDS[1], IDS[2]]


def test_filters_must_hold_of_one_and_the_same_segment(subject, review):
    standing = review.standing()
    every = entries(subject.images().explained_images, standing, {})

    def passing(**wanted):
        return {e.explained.image_id for e in every if Filter(**wanted).takes(e, standing)}

    assert passing(verdict="unscored") == {IDS[1]}
    assert passing(verdict="overruled") == {IDS[2]}
    assert passing(verdict="spurious") == {IDS[0], IDS[2]}
    assert passing(words="STROKES") == {IDS[0], IDS[1]}
    assert passing(verdict="spurious", words="strokes") == set()
    assert passing(class_name=CLASSES[0]) == set(IDS[:3])
    assert passing(right="wrong") == set()
    assert passing(looked="new") == {IDS[0], IDS[1]}
    assert passing(ground=frozenset([B2])) == {IDS[1]}


def masks():
    random = np.random.default_rng(3)
    for shape in ((1, 1), (5, 7), (40, 30)):
        yield np.zeros(shape, bool)
        yield np.ones(shape, bool)
        yield random.random(shape) < 0.5
        block = np.zeros(shape, bool)
        block[shape[0] // 2 :] = True
        yield block


@pytest.mark.parametrize("mask", list(masks()))
def test_runs_give_the_mask_again(mask):
    counts = coco_runs(mask)
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    assert np.array_equal(flat.reshape(mask.shape[::-1]).T, mask)
    assert np.array_equal(
        decoded(label_studio_runs(mask)).reshape(*mask.shape, 4), np.repeat(mask[..., None] * 255, 4, 2)
    )


def decoded(content):
    """Label Studio's own decoder, after label_studio_sdk's `decode_rle`."""
    bits, at = "".join(f"{byte:08b}" for byte in content), 0

    def read(count):
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    number, word, sizes = read(32), read(5) + 1, [read(4) + 1 for _ in range(4)]
    out, i = np.zeros(number, np.int64), 0
    while i < number:
        repeated = read(1)
        j = i + 1 + read(sizes[read(2)])
        if repeated:
            out[i:j] = read(word)
        else:
            out[i:j] = [read(word) for _ in range(i, j)]
        i = j
    return out


def test_verdicts_as_coco_and_for_label_studio(subject, review):
    images, standing = subject.images(), review.standing()
    document = json.loads(coco(images, standing.in_force))
    names = {c["id"]: c["name"] for c in document["categories"]}
    files = {i["id"]: i["file_name"] for i in document["images"]}
    assert len(document["annotations"]) == 6
    for one in document["annotations"]:
        key = files[one["image_id"]], one["attributes"]["segment"]
        mask = images.explained_images[key[0]].segments == key[1]
        assert (
            names[one["category_id"]]
            == {True: "spurious", False: "valid", None: "unscored"}[standing.in_force[key].spurious]
        )
        assert one["area"] == mask.sum() == sum(one["segmentation"]["counts"][1::2])
        left, top, width, height = one["bbox"]
        assert mask[top : top + height, left : left + width].sum() == mask.sum()
    tasks = json.loads(label_studio(images, standing.in_force))
    assert [task["data"]["image"] for task in tasks] == list(IDS[:3])
    region = tasks[2]["annotations"][0]["result"][1]
    assert region["value"]["brushlabels"] == ["valid"]
    assert region["meta"]["text"][1] == "by Dr. <u>Who</u>"
    RunDirectory.read(subject.path)


def test_disagreement_is_counted_among_the_likest_that_have_a_verdict(subject, review):
    """Against distances one by one."""
    random = np.random.default_rng(5)
    ids = [f"i{n}" for n in range(40)]
    alike = Likeness(
        images=np.arange(40),
        segment_ids=np.ones(40, np.int64),
        vectors=random.normal(size=(40, 3)),
        kinds=np.arange(40) % 2,
    )
    values = random.choice([True, False, None], 40, p=[0.45, 0.45, 0.1]).tolist()
    verdicts = {(i, 1): Verdict(i, 1, value, "", "") for i, value in zip(ids, values, strict=True)}
    read = Reading(dict.fromkeys(ids))
    read._alike, read._near = alike, _neighbours(alike)
    found = read.disagreement(replace(review.standing(), in_force=verdicts))
    for n in range(40):
        if values[n] is None:
            assert (ids[n], 1) not in found
            continue
        others = sorted(
            (float(np.linalg.norm(alike.vectors[n] - alike.vectors[m])), m)
            for m in range(n % 2, 40, 2)
            if m != n
        )[:12]
        voting = [values[m] for _, m in others if values[m] is not None][:5]
        assert found[ids[n], 1] == pytest.approx(sum(v != values[n] for v in voting) / 5)
