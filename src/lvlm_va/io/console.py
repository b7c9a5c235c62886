"""What the person at the terminal sees while work goes on."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lvlm_va.io.screen import printable, shown

__all__ = ["Console", "QuietConsole"]


class QuietConsole:
    """Says nothing: for use from Python, and the base of what does."""

    def note(self, text: str) -> None:
        """A line worth reading."""

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:  # noqa: ARG002
        """A stage that runs while the block does."""
        yield

    def progress(self, done: int, total: int) -> None:
        """Inside a stage: `done` of `total` steps."""

    def spent(self, dollars: float, unpriced: int) -> None:
        """US dollars for questions on this run so far, without `unpriced` answers of unknown price."""


class Console(QuietConsole):
    """Progress bars on a terminal, plain lines elsewhere (a log, CI); all on standard error."""

    def __init__(self) -> None:
        self._rich = RichConsole(file=sys.stderr, highlight=False, emoji=False)
        self._progress: Progress | None = None
        self._said = 0.0

    def note(self, text: str) -> None:
        """A line worth reading."""
        # Indented, so that no line of a text from outside looks like one of ours.
        self._rich.print(printable(text).replace("\n", "\n  "), markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        """A stage: a bar while it runs, a line with its seconds when it is done."""
        start = self._said = time.perf_counter()
        self._title = title = shown(title)
        if self._rich.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._progress = Progress(*columns, console=self._rich, transient=True)
            self._progress.start()
            self._task = self._progress.add_task(title, total=None)
        try:
            yield
        finally:
            if self._progress is not None:
                self._progress.stop()
                self._progress = None
        self.note(f"{title} ({time.perf_counter() - start:.1f} s)")

    def progress(self, done: int, total: int) -> None:
        """Move the bar; without a terminal, a line every ten seconds."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done, total=total)
        elif time.perf_counter() - self._said > 10:
            self._said = time.perf_counter()
            self.note(f"  {self._title}: {done} of {total}")
