"""The whole story in a real browser, on a drawn data set: from a project file to an aligned model."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lvlm_va.report.record import read_metrics
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.verdict_table import read_verdicts
from patience import PATIENCE
from studio_run import make_project

pytestmark = [pytest.mark.browser, pytest.mark.slow]

_PATIENCE = 300_000  # milliseconds; long work on a busy machine


class Served:
    """`lvlm-va studio` as a process of its own."""

    def __init__(self, project: Path, cache: Path) -> None:
        self.project, self.environment = project, {**os.environ, "LVLM_VA_CACHE": str(cache)}
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lvlm_va", "studio", "--no-browser", str(self.project)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
            text=True,
        )
        self.url = re.search(r"http\S+", self.process.stdout.readline())[0]

    def end(self, number: int) -> str:
        self.process.send_signal(number)
        return self.process.communicate(timeout=PATIENCE)[0]


@pytest.fixture
def page(browser):
    page = browser.new_page()
    page.set_default_timeout(_PATIENCE)
    yield page
    page.close()


def sign(page, name):
    page.wait_for_selector("dialog[open]")
    page.fill("dialog input[name=name]", name)
    page.press("dialog input[name=name]", "Enter")


def finished(page):
    """Until long work is over, and well."""
    page.wait_for_selector("#job")
    page.wait_for_selector("#job:not([data-running]) .notice")
    text = page.locator("#job .notice").first.inner_text()
    assert "is done" in text, text


def test_from_a_project_file_to_a_model_that_is_handed_over(tmp_path, page):
    project = make_project(tmp_path / "drawn")
    run = tmp_path / "drawn" / "run"
    served = Served(project, tmp_path / "cache")
    try:
        # Start: what is next is explaining and critiquing; nothing else is needed.
        page.goto(served.url)
        page.wait_for_selector(".steps")
        page.click("a.button.main")
        page.click("button >> text=Explain and critique")
        page.wait_for_selector("#job[data-running]")

        # Killed without a word, the server loses nothing: the work goes on, and is seen again.
        served.end(signal.SIGKILL)
        served.start()
        page.goto(f"{served.url}run/1/align")
        page.wait_for_selector("#job")
        finished(page)
        said = {(v.image_id, v.segment): v for v in read_verdicts(run / "critic_verdicts.csv")}

        # Review by keys, undo, and all that are alike.
        page.goto(f"{served.url}run/1/review?verdict=unscored")
        page.locator(".picture").first.click()
        page.wait_for_selector("#panel")
        page.keyboard.press("1")
        sign(page, "Dr. Ann")
        page.wait_for_selector("#told >> text=/Segment 1 .* is now/")
        page.keyboard.press("z")
        page.wait_for_selector("#told >> text=/Undone/")
        page.keyboard.press("y")
        page.wait_for_selector("#told >> text=/Done again/")
        page.reload()
        changed = [v for v in read_verdicts(run / "verdicts.csv") if v.author == "Dr. Ann"]
        assert len(changed) == 1

        # Understand: every number opens images.
        page.goto(f"{served.url}run/1/understand")
        ground = page.locator(".ground >> nth=0")
        count = int(ground.locator("p a").inner_text().split()[0])
        ground.locator("p a").click()
        page.wait_for_selector(".grid")
        assert page.locator(".cell").count() == count

        # Specify: other words, tried; a flip or more; then asked about all.
        page.goto(f"{served.url}run/1/specify?class=bar")
        page.fill("textarea[name=spurious]", "a grey patch in a corner\nthe density of the bone")
        page.click("text=Try it on all of this class")
        page.wait_for_selector("#trial")
        assert "the density of the bone" in page.locator(".notice.open").inner_text()
        told = page.locator("#trial p").first.inner_text()
        flips = int(re.search(r"(\d+) verdicts? would change", told)[1])
        assert flips == page.locator("#trial .cell").count()
        assert {(v.image_id, v.segment): v for v in read_verdicts(run / "critic_verdicts.csv")} == said
        page.click("text=Save, and ask about all images")
        finished(page)
        now = {(v.image_id, v.segment): v for v in read_verdicts(run / "critic_verdicts.csv")}
        assert sum(now[key].spurious != said[key].spurious for key in said) == flips, "trying foretold it"
        assert [v for v in read_verdicts(run / "verdicts.csv") if v.author == "Dr. Ann"] == changed

        # Align: started, stopped, and resumed.
        page.fill("input[name=epochs]", "6")
        page.click("button >> text=/^Align/")
        page.wait_for_selector("#job[data-running]")
        page.click("button >> text=Stop")
        page.wait_for_selector("#job:not([data-running])")
        assert "stopped" in page.locator("#job .notice").first.inner_text()
        page.click("button >> text=/^Align/")
        finished(page)
        metrics = read_metrics(RunDirectory.read(run))
        assert page.locator("text=The original model stays").count() >= int(metrics.lam.original_stays)
        assert page.locator(".changes li").count() > 0
        page.wait_for_load_state("load")
        assert page.evaluate("[...document.images].every(i => i.loading === 'lazy' || i.naturalWidth > 0)")

        # Hand over.
        page.goto(f"{served.url}run/1/handover")
        page.click("button >> text=PyTorch state dict")
        page.wait_for_selector("text=its model card")
        assert (run / "export/aligned-state-dict/MODEL_CARD.md").is_file()
        page.click("text=Write COCO JSON")
        page.wait_for_selector("text=verdicts.coco.json is written")
        document = json.loads((run / "verdicts.coco.json").read_text())
        authors = [one["attributes"]["author"] for one in document["annotations"]]
        assert authors.count("Dr. Ann") == 1
        assert "Everything is in the run" in served.end(signal.SIGINT)
        assert served.process.returncode == 0
    finally:
        served.process.kill()
        served.process.wait()
