"""What the studio works on: a run, with the project file that describes it where there is one."""

import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from lvlm_va.config.loading import load_config, parse_config
from lvlm_va.config.schema import Config
from lvlm_va.errors import LvlmVaError, RunError
from lvlm_va.report.record import Images, read_images, read_metrics
from lvlm_va.run.diagnosed import Diagnosed
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import CRITIC_VERDICTS, DIAGNOSIS, IMAGES, METRICS, PARTS, SEGMENTS, VERDICTS
from lvlm_va.run.metrics import RunMetrics

__all__ = ["FOLDER", "Subject", "open_subject"]

FOLDER = ".studio"
"""Where the studio keeps its own few files in a run; hidden, so that the run may still be begun."""

T = TypeVar("T")


@dataclass(eq=False)
class Subject:
    """A run, looked at.

    Attributes:
        number: of its address in the studio.
        path: the run's directory; it need not exist yet.
        project: the project file; None where a run was opened.
        name: of the project, or of the run's folder.
    """

    number: int
    path: Path
    project: Path | None
    name: str
    _kept: dict[str, tuple[Hashable, Any]] = field(default_factory=dict, repr=False)
    _locks: dict[str, threading.Lock] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def folder(self) -> Path:
        """The studio's own files in it."""
        return self.path / FOLDER

    def has(self, *names: str) -> bool:
        """Whether the run holds these files."""
        return all((self.path / name).exists() for name in names)

    @property
    def is_critiqued(self) -> bool:
        """Whether there are verdicts to review."""
        return self.has("run.json", IMAGES, SEGMENTS, VERDICTS, CRITIC_VERDICTS)

    def config(self) -> Config:
        """The settings: of the project file, or those that the run was made with.

        Raises:
            LvlmVaError: if they cannot be read.
        """
        if self.project is not None:
            config = self.kept("config", (self.project,), lambda: load_config(self.project or Path()))
            return config.model_copy(update={"run": self.path})
        return parse_config(dict(self.settings), where=str(self.path / "run.json"))

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that the run was made with, wherever the studio is started."""
        return self.read().placed_config

    def read(self) -> RunDirectory:
        """The run, to look at."""
        return self.kept("run", (self.path / "run.json",), lambda: RunDirectory.read(self.path))

    def images(self) -> Images:
        """The critiqued images."""
        names = [IMAGES, "segments/attribution.safetensors", SEGMENTS]
        if self.has(PARTS):  # then the critic's verdicts say whether they are on parts
            names += [PARTS, CRITIC_VERDICTS]
        return self.kept("images", [self.path / name for name in names], lambda: read_images(self.read()))

    def metrics(self) -> RunMetrics | None:
        """What was measured; None where nothing was aligned yet."""
        if not self.has(METRICS):
            return None
        return self.kept("metrics", (self.path / METRICS,), lambda: read_metrics(self.read()))

    def diagnosis(self) -> Diagnosed | None:
        """What `lvlm-va diagnose` found; None where it was not asked."""
        file = self.path / DIAGNOSIS
        if not file.exists():
            return None
        try:
            return self.kept("diagnosis", (file,), lambda: Diagnosed.model_validate_json(file.read_bytes()))
        except ValueError:
            raise RunError(f"{file}: cannot be read; delete it, and it will be made again") from None

    def kept(self, what: str, files: tuple[Path, ...] | list[Path], read: Callable[[], T]) -> T:
        """What `read` makes of some files, read again only when one of them changed."""
        return self.remembered(what, tuple(map(_stamp, files)), read)

    def keep(self, what: str, files: tuple[Path, ...] | list[Path], value: object) -> None:
        """Remember what `kept` would make of these files as they are now, where that is known already."""
        with self._lock:
            lock = self._locks.setdefault(what, threading.Lock())
        with lock:
            self._kept[what] = (tuple(map(_stamp, files)), value)

    def stamp(self, name: str) -> Hashable:
        """Changes when a file of the run does."""
        return _stamp(self.path / name)

    def remembered(self, what: str, key: Hashable, compute: Callable[[], T]) -> T:
        """What `compute` gives, computed again only when `key` changed."""
        with self._lock:
            lock = self._locks.setdefault(what, threading.Lock())
        with lock:
            known = self._kept.get(what)
            if known is None or known[0] != key:
                known = (key, compute())
                self._kept[what] = known
            value: T = known[1]
            return value


def open_subject(number: int, path: Path) -> Subject:
    """A project file, or the directory of a run.

    Raises:
        LvlmVaError: if it is neither.
    """
    if path.is_dir():
        RunDirectory.read(path)
        return Subject(number, path, None, path.resolve().name)
    config = load_config(path)
    return Subject(number, config.run or Path("runs") / config.project, path, config.project)


def _stamp(file: Path) -> Hashable:
    try:
        found = file.stat()
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            return None
        raise LvlmVaError(f"{file}: cannot be read ({error.strerror})") from None
    return (str(file), found.st_mtime_ns, found.st_size)
