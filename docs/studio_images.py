"""The images of docs/studio.md: the studio's pages on a finished run of images drawn by a program.

python docs/studio_images.py RUN

No data set's images may be published here: draw some with `make_project` of tests/studio_run.py, and align
that. The run is copied, so that what is done for an image stays out of it. Needs Chromium and playwright.
"""

import shutil
import sys
import tempfile
import threading
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from lvlm_va.studio.server import Address, Studio

DOCS = Path(__file__).resolve().parent
SIZE = {"width": 1200, "height": 820}


def main(run: Path) -> None:
    """Serve a copy of the run, walk through it, and take the images."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "drawn"
        shutil.copytree(run, copy)
        studio = Studio([copy], Address())
        thread = threading.Thread(target=studio.run)
        thread.start()
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                page = browser.new_page(viewport=SIZE)
                page.set_default_timeout(300_000)
                walk(page, studio.url)
        finally:
            studio.stop()
            thread.join()


def walk(page: Page, url: str) -> None:
    """One image after the other."""

    def take(name: str, path: str, wait: str) -> None:
        page.goto(f"{url}run/1/{path}")
        page.wait_for_selector(wait)
        page.wait_for_load_state("networkidle")
        shoot(name)

    def shoot(name: str) -> None:
        # The path of a temporary copy is nobody's business.
        page.evaluate(
            "document.querySelectorAll('footer').forEach(e => e.remove());"
            "document.querySelectorAll('.small code').forEach(e => e.textContent = 'specifications.yaml')"
        )
        page.screenshot(path=DOCS / f"studio-{name}.png")

    take("align", "align", ".curve img, .notice")
    page.goto(f"{url}run/1/specify?class=bar")
    page.fill("textarea[name=spurious]", "a grey patch in a corner")
    page.click("text=Try it on all of this class")
    page.wait_for_selector("#trial")
    page.wait_for_load_state("networkidle")
    page.evaluate("window.scrollTo(0, 0)")
    shoot("specify")
    take("understand", "understand", ".grounds")
    take("review", "review", ".grid")
    page.locator(".picture >> nth=4").click()
    page.wait_for_selector("#panel")
    page.wait_for_load_state("networkidle")
    shoot("image")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
