"""A review that is sent as one file: corrected elsewhere, by keys, and taken back without harm."""

import json
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from lvlm_va.cli.main import app
from lvlm_va.errors import RunError
from lvlm_va.run.verdict_table import read_verdicts
from lvlm_va.studio import reading
from lvlm_va.studio.history import HISTORY, read_history
from lvlm_va.studio.queue import entries
from lvlm_va.studio.review_file import review_file, take_answers
from lvlm_va.studio.reviewing import Review
from lvlm_va.studio.subject import open_subject
from report_run import IDS, SCRIPT
from studio_run import make_run, serving

A1, A2, B1, C2 = (IDS[0], 1), (IDS[0], 2), (IDS[1], 1), (IDS[2], 2)


@pytest.fixture
def subject(tmp_path):
    return open_subject(1, make_run(tmp_path / "run"))


def on_disk(subject):
    return {
        (v.image_id, v.segment): (v.spurious, v.author) for v in read_verdicts(subject.path / "verdicts.csv")
    }


def document(subject, *answers, author="Dr. Ann"):
    """What a page would save: (key, seen, verdict, reason) each."""
    images = subject.images().explained_images
    by_image = {}
    for (image, segment), seen, verdict, reason in answers:
        by_image.setdefault(image, []).append(
            {"segment": segment, "seen": seen, "verdict": verdict, "reason": reason}
        )
    found = [
        {"image": image, "fingerprint": images[image].fingerprint, "segments": segments}
        for image, segments in by_image.items()
    ]
    return {"format": 1, "review": "x", "author": author, "images": found}


def take(subject, content):
    return take_answers(subject, json.dumps(content).encode(), "review-ann.json")


def test_answers_are_taken_once_signed_and_can_be_told(subject):
    answers = document(subject, (A1, "spurious", "valid", "a scar"), (B1, "unscored", "spurious", ""))
    assert str(take(subject, answers)) == "Dr. Ann: 2 verdicts changed, 2 images looked at."
    assert on_disk(subject)[A1] == (False, "Dr. Ann")
    assert on_disk(subject)[B1] == (True, "Dr. Ann")
    assert read_history(subject.path / HISTORY)[-1].reason == "from review-ann.json"
    before, history = on_disk(subject), read_history(subject.path / HISTORY)
    assert take(subject, answers).changed == 0
    assert (on_disk(subject), read_history(subject.path / HISTORY)) == (before, history)
    Review(subject).undo("Dr. Ann")
    assert on_disk(subject)[A1][0] is True


def test_what_was_changed_here_meanwhile_stands_and_is_named(subject):
    Review(subject).set({A1: None}, "Bob")
    done = take(subject, document(subject, (A1, "spurious", "valid", ""), (A2, "valid", "spurious", "")))
    assert (on_disk(subject)[A1], on_disk(subject)[A2]) == ((None, "Bob"), (True, "Dr. Ann"))
    assert (done.left, done.changed) == ([A1], 1)
    assert f"segment 1 of {IDS[0]}" in str(done)
    Review(subject).set({A1: False}, "Bob")  # comes to the same: nothing is in the way
    assert take(subject, document(subject, (A1, "spurious", "valid", ""))).left == []
    assert on_disk(subject)[A1] == (False, "Bob")


def test_a_remark_without_another_verdict_is_kept(subject):
    answers = document(subject, (A1, "spurious", "spurious", f"indeed {SCRIPT}"))
    for _ in range(2):
        assert take(subject, answers).changed == 0
    said = [a.reason for a in read_history(subject.path / HISTORY) if a.reason]
    assert said == [f"segment 1: indeed {SCRIPT}"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d.update(format=2), "format"),
        (lambda d: d.update(author=""), "author"),
        (lambda d: d["images"][0].update(image="stranger"), "not of this run"),
        (lambda d: d["images"][0].update(fingerprint="0"), "other segments"),
        (lambda d: d["images"][0]["segments"][0].update(segment=9), "not part of this run"),
        (lambda d: d["images"][0]["segments"][0].update(verdict="maybe"), "verdict"),
        (lambda d: d.update(more=1), "more"),
    ],
)
def test_another_file_is_refused_whole(subject, change, told):
    before = on_disk(subject)
    content = document(subject, (A1, "spurious", "valid", ""), (A2, "valid", "spurious", ""))
    change(content)
    with pytest.raises(Exception, match=told):
        take(subject, content)
    with pytest.raises(RunError, match="is not what a page of a review saves"):
        take_answers(subject, b"\xff{", "x.json")
    assert on_disk(subject) == before


@contextmanager
def sent(browser, path, **options):
    """The file in a browser of its own; it may load nothing, and no script but its own may run."""
    context = browser.new_context(accept_downloads=True, **options)
    page = context.new_page()
    complaints, requests = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert {url.split(":")[0] for url in requests} <= {"file", "data", "blob"}
    assert complaints == []


@pytest.mark.browser
def test_the_page_is_corrected_by_keys_and_what_it_saves_is_taken(subject, browser, tmp_path, monkeypatch):
    monkeypatch.setattr(reading.Reading, "start", lambda self: None)
    page_file = tmp_path / "review.html"
    queue = entries(subject.images().explained_images, Review(subject).standing(), {})
    page_file.write_bytes(review_file(subject, queue))
    with sent(browser, page_file) as page:
        page.fill("input[name=name]", f"Dr. <b>Ann</b> {SCRIPT}"[:60])
        page.keyboard.press("Enter")
        while page.locator("#name").inner_text() != IDS[0]:
            page.keyboard.press("ArrowRight")
        page.keyboard.press("2")
        page.wait_for_selector("#told >> text=/Segment 2 is now spurious/")
        page.keyboard.press("1")
        page.keyboard.press("z")
        page.wait_for_selector("#told >> text=/Undone: segment 1 is now spurious/")
        page.keyboard.press("y")
        page.keyboard.press("z")
        page.reload()  # nothing is lost
        assert page.locator("#name").inner_text() == IDS[0]
        # Typed, and then a button without leaving the field first: neither is lost.
        page.locator("input[aria-label^='Why, segment 1']").fill("seen in 1 of 2")
        page.locator("#segments button[data-key='1']").click()
        page.wait_for_selector("#told >> text=/Segment 1 is now valid/")
        box = page.locator("#stack").bounding_box()  # segment 2 is the block on the right
        page.mouse.click(box["x"] + box["width"] * 5 / 8, box["y"] + box["height"] * 5.5 / 8)
        page.wait_for_selector("#told >> text=/Segment 2 is now valid/")
        page.mouse.click(box["x"] + box["width"] * 5 / 8, box["y"] + box["height"] * 5.5 / 8)
        assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
        assert page.locator("main script, main b + u").count() == 0
        assert SCRIPT in page.locator("#critique").inner_text()
        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.click("#finish")
        assert "changed 2 verdicts" in page.locator("#summary").inner_text()
        with page.expect_download() as download:
            page.click("#save")
        saved = tmp_path / download.value.suggested_filename
        download.value.save_as(saved)
    # Back through the studio: the other way than the command line.
    with serving([subject.path]) as url:
        page = browser.new_page()
        page.goto(f"{url}run/1/send")
        page.set_input_files("input[type=file]", saved)
        page.click("text=Take the answers")
        assert "2 verdicts changed, 1 image looked at" in page.locator(".notice.good").inner_text()
        page.close()
    assert (on_disk(subject)[A1][0], on_disk(subject)[A2][0]) == (False, True)
    assert on_disk(subject)[A1][1].startswith("Dr. <b>Ann</b>")


def test_the_commands(subject, tmp_path, monkeypatch):
    monkeypatch.setattr(reading.Reading, "compared", True)
    monkeypatch.setattr(reading.Reading, "start", lambda self: None)
    out = tmp_path / "page.html"
    arguments = ["review", "export", str(subject.path), "--out", str(out), "--images", "2"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "\n2 images" in done.output
    assert b"default-src 'none'" in out.read_bytes()
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps(document(subject, (A2, "valid", "spurious", ""))))
    done = CliRunner().invoke(app, ["review", "import", str(subject.path), str(answers)])
    assert "1 verdict changed" in done.output
    assert on_disk(subject)[A2] == (True, "Dr. Ann")
