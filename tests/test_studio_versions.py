"""States of a run that are kept, and any two of them side by side."""

import json

import pytest

from lvlm_va.run.directory import RunDirectory
from lvlm_va.studio.comparing import compared_words, flipped, measured_table
from lvlm_va.studio.reviewing import Review
from lvlm_va.studio.subject import open_subject
from lvlm_va.studio.versions import keep_version, stand_now, versions_of
from report_run import IDS, metrics
from studio_run import make_run

A1, A2, B1 = (IDS[0], 1), (IDS[0], 2), (IDS[1], 1)


@pytest.fixture
def subject(tmp_path):
    return open_subject(1, make_run(tmp_path / "run"))


def test_what_flipped_since_and_what_it_gained(subject):
    keep_version(subject, "aligned")
    keep_version(subject, "aligned")  # nothing changed: nothing more is kept
    Review(subject).set({A1: False, B1: True}, "Ann")
    better = metrics()
    better["models"]["aligned"]["accuracy"]["decoy $test$"] += 0.01
    with RunDirectory.open(subject.path) as run:
        run.write("metrics.json", json.dumps(better).encode())
    [before] = versions_of(subject)
    now = stand_now(subject)
    flips, both = flipped(before, now)
    assert both == len(now.verdicts) == 6
    assert {(f.before.image_id, f.before.segment): (f.before.spurious, f.after.spurious) for f in flips} == {
        A1: (True, False),
        B1: (None, True),
    }
    rows = {
        row[0]: tuple(cell.replace("\u202f", "") for cell in row[1:])
        for row in measured_table(before, now).rows
    }
    assert rows["accuracy, decoy $test$"] == ("56.3%", "92.5%", "93.5%", "+1.0")
    assert rows["accuracy, validation"][-1] == "0.0"
    assert "Strokes, not patches" in before.words["nine & <b>ten</b>"]
    assert compared_words(before, now) == []
    # A new version does not touch the one before.
    keep_version(subject, "aligned again")
    assert [len(v.verdicts) for v in versions_of(subject)] == [6, 6]
    assert versions_of(subject)[0].verdicts[A1].spurious is True


def test_two_runs_share_the_images_that_are_equal(subject, tmp_path):
    other = open_subject(2, make_run(tmp_path / "other"))
    Review(other).set({A2: True}, "Ann")
    flips, both = flipped(stand_now(subject), stand_now(other))
    assert (both, [f.after.author for f in flips]) == (6, ["Ann"])
    assert flips[0].subject is other


def test_a_version_of_other_segments_has_none_in_common(subject):
    keep_version(subject, "critiqued")
    about = subject.folder / "versions/0001/version.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "segments": "others"}))
    assert flipped(versions_of(subject)[0], stand_now(subject)) == ([], 0)
    about.write_text("{")
    assert versions_of(open_subject(1, subject.path)) == [], "what cannot be read is left out"
