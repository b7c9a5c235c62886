"""The studio in a real browser: by keys and by mouse, hostile names, two tabs, a server that dies."""

import re
from contextlib import contextmanager
from pathlib import Path

import pytest

import report_run
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.judge_check import Compared, JudgeCheck, keep_judge_check
from lvlm_va.run.verdict_table import read_verdicts
from lvlm_va.studio import grounds, meanings, reading, specify_pages
from studio_run import TOKEN, make_run, serving

pytestmark = pytest.mark.browser

PAGES = (
    "run/1",
    "run/1/understand",
    "run/1/review",
    "run/1/review/0",
    "run/1/review/0/like/1",
    "run/1/specify",
    "run/1/teach",
    "run/1/align",
    "run/1/compare",
    "run/1/send",
    "run/1/handover",
)


@pytest.fixture(autouse=True)
def _light(monkeypatch):
    """Nothing that takes seconds to load: the images are not read, meanings are shared words."""
    monkeypatch.setattr(reading.Reading, "start", lambda self: None)
    monkeypatch.setattr(grounds, "encode", report_run.encode)
    monkeypatch.setattr(meanings, "load", lambda: None)
    monkeypatch.setattr(meanings, "are_ready", lambda: True)
    monkeypatch.setattr(specify_pages, "unused_words", lambda _: ["the weather"])


@pytest.fixture
def run(tmp_path) -> Path:
    return make_run(tmp_path / "run")


@contextmanager
def visit(browser, url, **options):
    """A tab of its own; nothing may come from elsewhere, and no script of a stranger may run."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
    context.set_default_timeout(180_000)  # a busy machine takes its time
    page = context.new_page()
    complaints, requests = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
    page.complaints = complaints
    yield page
    context.close()
    assert all(request.startswith(url.split(TOKEN)[0]) for request in requests)
    assert [text for text in complaints if "status of 409" not in text and "ERR_CONNECTION" not in text] == []


def sign(page, name="Ann"):
    page.wait_for_selector("dialog[open]")
    page.fill("dialog input[name=name]", name)
    page.press("dialog input[name=name]", "Enter")
    page.wait_for_selector("dialog", state="hidden")


def verdicts(run):
    return {(v.image_id, v.segment): (v.spurious, v.author) for v in read_verdicts(run / "verdicts.csv")}


def settled(page, text):
    page.wait_for_selector(f"#told >> text=/{text}/")


def test_review_by_keys_alone_then_by_mouse_and_in_two_tabs(run, browser):
    a1, a2 = (report_run.IDS[0], 1), (report_run.IDS[0], 2)
    with serving([run]) as url, visit(browser, url) as page:
        page.goto(f"{url}run/1/review/0")
        page.wait_for_selector("#panel")
        page.keyboard.press("2")
        sign(page)
        settled(page, "Segment 2 .* is now spurious")
        assert verdicts(run)[a2] == (True, "Ann")
        page.keyboard.press("1")
        settled(page, "Segment 1 .* is now valid")
        page.keyboard.press("z")
        settled(page, "Undone: Segment 1 .* is now spurious")
        assert verdicts(run)[a1][0] is True
        page.keyboard.press("y")
        settled(page, "Done again")
        assert verdicts(run)[a1] == (False, "Ann")
        page.reload()  # in the middle of everything
        assert page.locator("#panel .state.valid").count() == 1

        # A reason, by the keyboard; digits in a field are text.
        page.fill("input[name=reason] >> nth=0", "")
        page.locator("input[name=reason] >> nth=0").focus()
        page.keyboard.type("seen in 1 of 2")
        page.keyboard.press("Enter")
        settled(page, "Segment 1 .* is now spurious")
        assert page.locator("details.more summary").count() == 1

        # The mouse: the segment lies under the pointer. Segment 2 is the block on the right.
        box = page.locator("#stack").bounding_box()
        page.mouse.click(box["x"] + box["width"] * 5 / 8, box["y"] + box["height"] * 5.5 / 8)
        settled(page, "Segment 2 .* is now valid")
        assert verdicts(run)[a2][0] is False

        # Layers, and the mask that follows.
        assert page.locator("#mask").is_hidden()
        page.keyboard.press("m")
        assert page.locator("#mask").is_visible()
        page.keyboard.press("h")
        page.locator("#opacity").fill("30")
        assert page.evaluate("document.querySelector('[data-layer=heat]').style.opacity") == "0.3"
        images = "[...document.querySelectorAll('#stack img')]"
        page.evaluate(f"Promise.all({images}.map(i => i.decode()))")
        assert page.evaluate(f"{images}.map(i => i.naturalWidth)") == [560] * 6

        # A second tab sees it, changes it, and the first goes on from there.
        other = page.context.new_page()
        other.goto(f"{url}run/1/review")
        other.locator(".cell[data-position='0'] button[value='1']").click()
        settled(other, "Segment 1 .* is now")
        page.keyboard.press("2")
        settled(page, "Segment 2 .* is now spurious")
        # In the grid, a key on the image that has the focus.
        other.locator(".cell[data-position='1'] .picture").focus()
        other.keyboard.press("1")
        settled(other, "Segment 1 .* is now spurious")
        assert verdicts(run)[report_run.IDS[1], 1] == (True, "Ann")
        assert other.evaluate("document.activeElement.closest('.cell').dataset.position") == "1"
        other.close()

        page.keyboard.press("Enter")  # all right, next
        page.wait_for_url(re.compile(r"review(/\d+)?(\?.*)?$"))


def test_the_server_dies_and_is_started_again(run, browser):
    with serving([run]) as url, visit(browser, url) as page:
        page.goto(f"{url}run/1/review/0")
        page.wait_for_selector("#panel")
        page.keyboard.press("2")
        sign(page)
        settled(page, "Segment 2 .* is now spurious")
        tab = page.context.new_page()
        tab.goto(f"{url}run/1/review/0")
        port = int(re.search(r":(\d+)/", url)[1])
        tab.route("**/verdicts", lambda route: route.abort("connectionrefused"))
        tab.keyboard.press("1")
        settled(tab, "does not answer")
        tab.close()
    assert verdicts(run)[report_run.IDS[0], 2] == (True, "Ann")
    with serving([run], port=port) as url, visit(browser, url) as page:
        page.goto(f"{url}run/1/review/0")
        page.wait_for_selector("#panel")
        page.keyboard.press("z")
        sign(page)
        settled(page, "Undone: Segment 2 .* is now valid")


def test_what_strangers_wrote_is_text(run, browser):
    with serving([run]) as url, visit(browser, url) as page:
        for path in PAGES:
            page.goto(url + path)
            if path == "run/1":  # the libraries may still load
                page.wait_for_selector(".steps")
            assert page.evaluate("document.title").endswith("lvlm-va studio")
            assert (
                page.evaluate(
                    "document.querySelectorAll('main script, main img[onerror], main b + u').length"
                )
                == 0
            )
            assert (
                page.evaluate(
                    "document.querySelectorAll('script:not([src]), [style]:not(img), [onclick]').length"
                )
                == 0
            )
        page.goto(f"{url}run/1/review/0")
        assert (
            report_run.SCRIPT in page.locator(".six").inner_text()
            or page.locator(".six details").first.is_visible()
        )
        assert "\x1b" not in page.content()
        assert report_run.CLASSES[0] in page.locator("h1").inner_text()


ACCESSIBLE = Path(__file__).with_name("accessible.js").read_text("utf-8")


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 640)], ids=str
)
def test_everything_has_a_name_can_be_read_and_fits(run, browser, scheme, width):
    """Names, headings, contrast (WCAG AA, 4.5), and a window as narrow as a phone's or a page at 200 %."""
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
    with serving([run]) as url, visit(browser, url, **options) as page:
        page.goto(f"{url}run/1")
        page.wait_for_selector(".steps")
        for path in PAGES:
            page.goto(url + path)
            assert page.evaluate(ACCESSIBLE) == [], path


def test_everything_can_be_reached_by_the_keyboard(run, browser):
    with serving([run]) as url, visit(browser, url) as page:
        page.goto(f"{url}run/1")
        page.wait_for_selector(".steps")
        page.goto(f"{url}run/1/review/0")
        wanted = page.evaluate(
            "[...document.querySelectorAll('a[href], button:not(:disabled), input:not([type=hidden]),"
            " summary')].filter(e => e.checkVisibility()).length"
        )
        seen = set()
        for _ in range(wanted + 5):
            page.keyboard.press("Tab")
            seen.add(page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
        assert len(seen) >= wanted


def test_words_are_edited_with_their_history_and_never_over_somebody_elses(run, browser):
    file = run.parent / "run-specifications.yaml"
    before = file.read_text()
    with serving([run]) as url, visit(browser, url) as page:
        page.goto(f"{url}run/1/specify?class=seven")
        page.wait_for_selector("#words")
        other = page.context.new_page()
        other.goto(page.url)
        text = f"A bar {report_run.SCRIPT}\n\nwith a second paragraph"
        page.fill("textarea[name=description]", text)
        page.fill("textarea[name=spurious]", "a patch\n\n a  letter ")
        page.click("#words >> text=/^Save$/")
        sign(page)
        page.wait_for_selector("text=Saved.")
        assert page.locator("textarea[name=spurious]").input_value() == "a patch\na letter"
        assert page.locator("textarea[name=description]").input_value() == text
        assert "Ann" in page.locator(".ground").inner_text()
        assert (run / ".studio/specifications.original.yaml").read_text() == before
        # The other tab still has the old words: what it types is not written, and not lost.
        other.fill("textarea[name=description]", "A slash.")
        other.evaluate("document.body.dataset.author = 'Ann'")
        other.click("#words >> text=/^Save$/")
        other.wait_for_selector("text=changed by somebody else")
        assert other.locator("textarea[name=description]").input_value() == "A slash."
        assert "A slash" not in file.read_text()
        page.click("text=Bring these back")
        page.wait_for_selector("text=Saved.")
        assert page.locator("textarea[name=description]").input_value() == "A seven."


def test_what_is_handed_over(run, browser):
    with serving([run]) as url, visit(browser, url) as page:
        page.goto(f"{url}run/1/handover")
        page.click("text=Write COCO JSON")
        page.wait_for_selector("text=verdicts.coco.json is written")
        page.click("text=Write Label Studio JSON")
        page.wait_for_selector("text=verdicts.label-studio.json is written")
        with page.expect_download() as download:
            page.click("a >> text=verdicts.coco.json")
        assert download.value.suggested_filename == "verdicts.coco.json"
        assert Path(download.value.path()).read_bytes() == (run / "verdicts.coco.json").read_bytes()


def test_the_judges_agreement_is_shown_with_its_interval_and_a_warning(run, browser):
    few, enough = Compared(4, 0, 3), Compared(12, 3, 9)
    with RunDirectory.open(run) as directory:
        keep_judge_check(directory, JudgeCheck("openai:<b>m</b>", 2, 3, few, Compared(3, 3, 3), few))
    with serving([run]) as url, visit(browser, url) as page:
        page.goto(f"{url}run/1/teach")
        page.wait_for_selector("#agreement table")
        row = page.locator("#agreement tbody tr").first.inner_text()
        assert re.sub(r"\s+", " ", row) == "that you corrected, held back 4 0 (0 % to 60 %) 3 (19 % to 99 %)"
        assert "fewer than 10 say little" in page.locator("#agreement").inner_text()
        with RunDirectory.open(run) as directory:
            keep_judge_check(directory, JudgeCheck("m", 2, 3, enough, Compared(3, 3, 3), few))
        page.reload()
        assert "say little" not in page.locator("#agreement").inner_text()
        # What cannot be asked is said at once: the expert spoke on one critique alone.
        page.fill("input[name=judge]", "openai:gpt-4o")
        page.click("text=What would it cost?")
        assert "two are the least" in page.locator(".notice").inner_text()
