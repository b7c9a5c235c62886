"""What holds for all tests."""

import os
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

# A test is judged by what it finds, not by how busy the machine is.
settings.register_profile("lvlm-va", deadline=None)
settings.load_profile("lvlm-va")


def _usual_signals() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


# A suite that runs in the background may have been told to ignore Ctrl-C, and its children with it.
_usual_signals()


@pytest.fixture(autouse=True)
def _no_handlers_left() -> Iterator[None]:
    """A command that ran in this process minds signals to its end; tests go on and send their own."""
    yield
    _usual_signals()


@pytest.fixture(autouse=True)
def _children_import_from_their_folder() -> Iterator[None]:
    """A command that ran in this process forbids that to its children; those of later tests may."""
    before = os.environ.get("PYTHONSAFEPATH")
    yield
    if before is None:
        os.environ.pop("PYTHONSAFEPATH", None)
    else:
        os.environ["PYTHONSAFEPATH"] = before


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium, by playwright."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as p:
        yield p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])


class _FailuresAtOnce:
    """Tells what failed when it fails: of a run that is cut off, the summary is never printed."""

    def __init__(self, config: pytest.Config) -> None:
        self._reporter: Any = config.pluginmanager.get_plugin("terminalreporter")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self._reporter is not None:
            self._reporter.ensure_newline()
            self._reporter.section(f"{report.nodeid} ({report.when})", "_", red=True)
            self._reporter.write_line(str(report.longrepr)[-6000:])


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_FailuresAtOnce(config))
