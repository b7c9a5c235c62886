"""Long work in a process of its own, which outlives the page and the server.

The studio starts the command line with the order in the run's folder `.studio`; the process says there how
far it is, and how it ended. While it lives it holds a lock, so that whoever looks knows whether it does.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lvlm_va.critique.store import Store
from lvlm_va.errors import Interrupted, LvlmVaError, RunError
from lvlm_va.io.console import QuietConsole
from lvlm_va.io.files import write_atomically
from lvlm_va.project.judging import JudgeChecking
from lvlm_va.project.project import Project
from lvlm_va.report.words import usd
from lvlm_va.run.directory import disk_error
from lvlm_va.run.files import CRITIQUES
from lvlm_va.studio.subject import Subject
from lvlm_va.studio.versions import keep_version

__all__ = ["CHECK", "VERBS", "Job", "job_of", "start", "stop", "work"]

CHECK = "judge-check"
VERBS = {
    "critique": "Explaining and critiquing",
    "diagnose": "Ranking what the classifier relies on",
    "align": "Aligning",
    CHECK: "Asking the judge",
}
_DONE = {"critique": "critiqued", "diagnose": "diagnosed", "align": "aligned"}
_ORDER, _SAID, _LOG, _LOCK = "order.json", "progress.json", "log.txt", "working.lock"
_OFTEN = 0.3  # seconds between two notes of how far it is


@dataclass(frozen=True)
class Job:
    """The last piece of long work on a run.

    Attributes:
        verb: a key of `VERBS`.
        running: whether its process lives.
        stage: what it does, in words; "" before the first stage.
        done, total: of the stage's steps; 0 where they are not counted.
        seconds_left: of the stage; None where that cannot be said yet.
        seconds: since the stage began.
        spent: US dollars for questions on this run so far, in words; "" while nothing is known.
        stages: those that are over, with their seconds.
        notes: what it said.
        outcome: how it ended: "" while it runs, "done", "stopped", or why it failed, in words.
    """

    verb: str
    running: bool
    stage: str
    done: int
    total: int
    seconds_left: float | None
    seconds: float
    spent: str
    stages: Sequence[tuple[str, float]]
    notes: Sequence[str]
    outcome: str

    @property
    def title(self) -> str:
        """What it is, in words."""
        return VERBS.get(self.verb, self.verb)


def start(
    subject: Subject,
    verb: str,
    settings: Sequence[str] = (),
    arguments: Mapping[str, str | float | None] | None = None,
) -> None:
    """Start long work, unless some is under way.

    Args:
        subject: the run.
        verb: a key of `VERBS`: a method of `Project`, or `CHECK`.
        settings: "key=value", as for --set.
        arguments: of `JudgeChecking`, for `CHECK`.

    Raises:
        RunError: if work is under way already, or the disk does not take the order.
    """
    job = job_of(subject)
    if job is not None and job.running:
        raise RunError(f"{job.title} is under way already; stop it first, or wait for it")
    subject.config()  # so that a mistake is told here, not in the process
    folder = subject.folder
    order = {
        "verb": verb,
        "project": None if subject.project is None else str(subject.project.absolute()),
        "run": str(subject.path.absolute()),
        "settings": list(settings),
        "arguments": dict(arguments or {}),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / _SAID, json.dumps({"started": time.time()}).encode())
        write_atomically(folder / _ORDER, json.dumps(order, ensure_ascii=False, indent=2).encode())
        log = (folder / _LOG).open("wb")
    except OSError as error:
        raise disk_error(folder, error) from None
    with log:
        process = subprocess.Popen(  # noqa: S603 -- this program itself
            [sys.executable, "-m", "lvlm_va", "studio-work", str(folder.absolute())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C on the server does not reach it
        )
    _children.append(process)
    # Until it holds its lock nobody could tell that it lives.
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None and not _is_held(folder):
        time.sleep(0.05)


_children: list["subprocess.Popen[bytes]"] = []


def stop(subject: Subject) -> None:
    """Ask the process to end; what is done is kept, and the same work started again goes on from there."""
    said = _json(subject.folder / _SAID)
    if _is_held(subject.folder) and isinstance(said.get("pid"), int):
        with suppress(ProcessLookupError):
            os.kill(said["pid"], signal.SIGTERM)


def job_of(subject: Subject) -> Job | None:
    """The last piece of work, or None where there was none."""
    folder = subject.folder
    order = _json(folder / _ORDER)
    if not order:
        return None
    for process in _children:
        process.poll()  # what has ended is no zombie
    running = _is_held(folder)
    said = _json(folder / _SAID)  # read after: of a process that has ended, its last words
    done, total = int(said.get("done", 0)), int(said.get("total", 0))
    left = None
    if running and 0 < done < total:
        left = (time.time() - float(said.get("since", time.time()))) * (total - done) / done
    now = time.time()
    since = float(said.get("since", said.get("started", now)))
    outcome = ""
    if not running:
        outcome = str(said.get("outcome") or _last_words(folder))
    return Job(
        verb=str(order.get("verb", "")),
        running=running,
        stage=str(said.get("stage", "")),
        done=done,
        total=total,
        seconds_left=left,
        seconds=max(0.0, now - since),
        spent=str(said.get("spent", "")),
        stages=[(str(name), float(seconds)) for name, seconds in said.get("stages", [])],
        notes=[str(note) for note in said.get("notes", [])],
        outcome=outcome,
    )


def work(folder: Path) -> None:
    """Do what an order says: the body of the process that `start` starts.

    Raises:
        LvlmVaError: whatever the user can mend; it is also told in the folder.
    """
    order = _json(folder / _ORDER)
    with _held(folder):
        console = _Told(folder)
        try:
            verb, subject = str(order["verb"]), Subject(1, Path(order["run"]), None, "")
            keep_version(subject, "changed by hand")
            console.spent(*_spent(subject.path))
            if verb == CHECK:
                JudgeChecking(subject.path, console=console, **order["arguments"]).check()
            else:
                getattr(_project(order, console), verb)()
                keep_version(subject, _DONE[verb])
        except LvlmVaError as error:
            console.end("stopped" if isinstance(error, Interrupted) else str(error))
            raise
        except KeyboardInterrupt:
            console.end("stopped")
            raise
        except BaseException as error:
            console.end(f"This is a mistake of lvlm-va, not yours ({type(error).__name__}: {error}).")
            raise
        console.end("done")


def _spent(run: Path) -> tuple[float, int]:
    """US dollars for all answers of a run with a known price, and how many have none."""
    if not (run / CRITIQUES).exists():
        return 0.0, 0
    with Store.open(run / CRITIQUES) as store:
        return store.spent(), store.unpriced()


def _project(order: dict[str, Any], console: QuietConsole) -> Project:
    from lvlm_va.config.loading import apply_settings, load_config, parse_config
    from lvlm_va.run.directory import RunDirectory

    run, settings = Path(order["run"]), [*order["settings"]]
    if order["project"] is not None:
        config = load_config(Path(order["project"]), settings)
    else:
        config = parse_config(apply_settings(RunDirectory.read(run).placed_config, settings), where=str(run))
    return Project.from_config(config.model_copy(update={"run": run}), console=console)


class _Told(QuietConsole):
    """Tells the folder what a terminal would be told."""

    def __init__(self, folder: Path) -> None:
        self._file, self._written = folder / _SAID, 0.0
        self._said: dict[str, Any] = {"pid": os.getpid(), "stages": [], "notes": [], "started": time.time()}
        self._write()

    def note(self, text: str) -> None:
        self._said["notes"].append(text)
        self._write()

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        began = time.time()
        self._said |= {"stage": title, "since": began, "done": 0, "total": 0}
        self._write()
        yield
        self._said["stages"].append([title, round(time.time() - began, 1)])
        self._said |= {"stage": "", "done": 0, "total": 0}
        self._write()

    def progress(self, done: int, total: int) -> None:
        self._said |= {"done": done, "total": total}
        if time.monotonic() - self._written > _OFTEN:
            self._write()

    def spent(self, dollars: float, unpriced: int) -> None:
        self._said |= {"spent": usd(dollars, unpriced) if dollars or unpriced else ""}
        self._write()

    def end(self, outcome: str) -> None:
        self._said |= {"outcome": outcome, "stage": "", "done": 0, "total": 0}
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        with suppress(OSError):  # work does not end because nobody can be told of it
            write_atomically(self._file, json.dumps(self._said).encode())


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    try:
        with FileLock(folder / _LOCK, timeout=0):
            yield
    except Timeout:
        raise RunError(f"{folder.parent}: the studio works on this run already") from None


def _is_held(folder: Path) -> bool:
    if not (folder / _LOCK).exists():
        return False
    try:
        with FileLock(folder / _LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False


def _last_words(folder: Path) -> str:
    """Of a process that could not tell the folder how it ended."""
    with suppress(OSError):
        lines = (folder / _LOG).read_text("utf-8", "replace").strip().splitlines()
        if lines:
            return lines[-1][:2000]
    return "It ended without saying why (was it killed?). Started again, it goes on from what is done."


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
