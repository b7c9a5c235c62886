"""A run's directory: what was done, with what, and how long it took, readable by a person.

A stage is done again only when the fingerprint of its inputs changed. Every file is written beside its
place and moved there, so that a process that is killed leaves the old file or the new one, never half.
"""

import errno
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NotRequired, TypeVar

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict  # pydantic asks for this one before Python 3.12

from lvlm_va._version import __version__
from lvlm_va.config.loading import from_folder, parse_recorded
from lvlm_va.config.schema import Config
from lvlm_va.errors import ConfigError, RunError
from lvlm_va.io.ending import note_run
from lvlm_va.io.files import file_sha256, write_atomically
from lvlm_va.run.machine import describe_machine, peak_gib
from lvlm_va.training.process_group import ProcessGroup

__all__ = ["RunDirectory", "StageRecord", "disk_error", "fingerprint"]

FORMAT = 2
"""Raised when an older program could misread what a newer one wrote."""

_PART = re.compile(r"\..+\.[0-9a-f]{8}\.part", re.DOTALL)
"""What `write_atomically` calls a file until it is complete."""

T = TypeVar("T")


@dataclass(frozen=True)
class StageRecord:
    """One line of the run's log.

    Attributes:
        fingerprint: of the stage's inputs.
        seconds: wall clock, when it was computed.
        peak_gib: largest memory of the process up to its end, GiB.
        summary: numbers worth showing.
    """

    fingerprint: str
    seconds: float
    peak_gib: float | None
    summary: Mapping[str, Any]


class _Record(TypedDict):
    """run.json, as far as a reader relies on it."""

    format: int
    stages: dict[str, StageRecord]
    config: NotRequired[dict[str, Any]]
    folder: NotRequired[str]
    machine: NotRequired[dict[str, Any]]
    files: NotRequired[dict[str, str]]


_RECORD = TypeAdapter(_Record)


def fingerprint(*parts: Any) -> str:
    """24 hexadecimal digits that change with any of the parts (plain values, in order)."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class RunDirectory:
    """A run, open for one process at a time.

    Use as a context manager:

        with RunDirectory.open(Path("runs/knee"), config) as run:
            value = run.stage("select", fingerprint, compute, save, load)
    """

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path = path
        self._record = record
        self._lock = FileLock(path / ".lock")
        self._used: set[str] = set()
        self._writable = False
        self._group = ProcessGroup.here()

    @classmethod
    @contextmanager
    def open(cls, path: Path, config: Mapping[str, Any] | None = None) -> Iterator["RunDirectory"]:
        """Open a run, or start it where there is none. Of several processes the main one holds it.

        Args:
            path: the directory.
            config: the settings in force; None keeps those of an existing run and starts none.

        Raises:
            RunError: if it is in use, written by another version, damaged, or not a run.
        """
        if not ProcessGroup.here().is_main:
            yield cls(path, {"config": dict(config or {}), "stages": {}})
            return
        if config is not None:
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise disk_error(path, error) from None
        run = cls(path, cls._read(path, config))
        run._acquire()
        try:
            # Again, now that nobody else writes: another process may have finished in between.
            run._record = cls._read(path, config)
            run._writable = True
            if config is not None:
                run._record["config"] = dict(config)
                run._record["folder"] = str(Path.cwd())
                run._record["machine"] = describe_machine()
                run._write_record()
            run._sweep()
            note_run(path)
            yield run
            note_run(None)
        finally:
            run._lock.release()

    @staticmethod
    def read(path: Path) -> "RunDirectory":
        """A run to look at: not locked, not to be written to.

        Raises:
            RunError: if there is no run at `path`, or one this version cannot read.
        """
        return RunDirectory(path, RunDirectory._read(path, None))

    @property
    def config(self) -> Mapping[str, Any]:
        """The settings in force, as they were given."""
        config: Mapping[str, Any] = self._record["config"]
        return config

    @property
    def placed_config(self) -> Mapping[str, Any]:
        """The same, with relative paths from the folder in which the command was given."""
        folder = self._record.get("folder")
        return self.config if folder is None else from_folder(self.config, Path(folder))

    @cached_property
    def settings(self) -> Config:
        """The same as typed values; keys of a later version are left out.

        Raises:
            RunError: naming what in run.json cannot be.
        """
        try:
            return parse_recorded(self._record.get("config"), where=str(self.file("run.json")))
        except ConfigError as error:
            raise RunError(
                f"{error}\nThe run's record was changed: restore it, or run the command again"
            ) from None

    def seal(self, name: str) -> None:
        """Remember what is in a file, so that `check_sealed` notices another one in its place."""
        if self._group.is_main:
            self._record.setdefault("files", {})[name] = _digest(self.file(name))
            self._write_record()

    def check_sealed(self, name: str) -> None:
        """Make sure that a file is the one that was sealed; those of older runs are not known.

        Raises:
            RunError: if it is another one.
        """
        known = self._record.get("files", {}).get(name)
        if known is not None and self.file(name).exists() and _digest(self.file(name)) != known:
            raise RunError(
                f"{self.file(name)}: is not the file that this run wrote; put that back, or delete this one "
                "and run the command again, which makes it anew"
            )

    @property
    def machine(self) -> Mapping[str, Any]:
        """Versions and hardware of the last process that worked here."""
        machine: Mapping[str, Any] = self._record.get("machine", {})
        return machine

    @property
    def stages(self) -> dict[str, StageRecord]:
        """What was done, in order; with other settings, too."""
        return {name: StageRecord(**record) for name, record in self._record["stages"].items()}

    @property
    def stages_used(self) -> dict[str, StageRecord]:
        """Those whose results this process computed or read."""
        return {name: record for name, record in self.stages.items() if name in self._used}

    @property
    def group(self) -> ProcessGroup:
        """The processes that compute this run's stages."""
        return self._group

    def file(self, name: str) -> Path:
        """The path of a file of this run."""
        return self.path / name

    def stage(
        self,
        name: str,
        inputs: str,
        compute: Callable[[], T],
        save: Callable[[T], object],
        load: Callable[[], T],
        summarise: Callable[[T], Mapping[str, Any]] = lambda _: {},
        *,
        together: Callable[[T | None], T] | None = None,
    ) -> tuple[T, bool]:
        """The result of a stage, computed only if its inputs changed.

        Of several processes the main one reads and computes, and the others are sent the result; where
        `together` is given, all of them compute.

        Args:
            name: of the stage.
            inputs: their `fingerprint`.
            compute: makes the result.
            save: writes it, with `write`.
            load: reads it back; a file that is missing or damaged (FileNotFoundError, ValueError, KeyError)
                counts as a changed input.
            summarise: numbers for the log.
            together: what every process does with a result that was read, where all of them compute it: the
                main process is given it, the others None.

        Returns:
            The result, and whether it was computed now.
        """
        group = self._group
        self._used.add(name)
        start = time.perf_counter()
        read = self._known(name, inputs, load) if group.is_main else None
        known = group.broadcast(read is not None)
        value: Any = None if read is None else read[0]
        if not known and (group.is_main or together is not None):
            value = compute()
        if not known and group.is_main:
            save(value)
            self._record["stages"].pop(name, None)
            self._record["stages"][name] = {
                "fingerprint": inputs,
                "seconds": round(time.perf_counter() - start, 3),
                "peak_gib": peak_gib(),
                "summary": dict(summarise(value)),
            }
            self._write_record()
        self._record["stages"][name] = group.broadcast(self._record["stages"].get(name))
        if together is None:
            value = group.broadcast(value)
        elif known:
            value = together(value)
        return value, not known

    def on_main(self, compute: Callable[[], T]) -> T:
        """What `compute` gives in the main process, for all of them; its stages wait for no other process."""
        group, self._group = self._group, ProcessGroup()
        try:
            return group.on_main(compute)
        finally:
            self._group = group

    def _known(self, name: str, inputs: str, load: Callable[[], T]) -> tuple[T] | None:
        record = self._record["stages"].get(name)
        if record is None or record["fingerprint"] != inputs:
            return None
        try:
            return (load(),)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def write(self, name: str, content: bytes | Iterable[bytes | memoryview]) -> Path:
        """Write a file of this run, whole or not at all; of several processes the main one does.

        The content may come piece after piece, as it is made.

        Raises:
            RunError: if the disk is full, the folder cannot be written to, or the run was opened by `read`.
        """
        path = self.file(name)
        if not self._group.is_main:
            return path
        if not self._writable:
            raise RunError(f"{path}: is missing or no longer fits, and the run is open for reading alone")
        try:
            write_atomically(path, content)
        except OSError as error:
            raise disk_error(path, error) from None
        return path

    def _write_record(self) -> None:
        self.write("run.json", (json.dumps(self._record, indent=2, default=str) + "\n").encode())

    def _sweep(self) -> None:
        """Remove what killed processes were writing. The lock is held, so nobody is writing any more."""
        for folder, inner, names in os.walk(self.path):
            # A folder with a lock of its own is another run.
            inner[:] = [name for name in inner if not Path(folder, name, ".lock").exists()]
            for name in filter(_PART.fullmatch, names):
                with suppress(OSError):
                    Path(folder, name).unlink()

    @staticmethod
    def _read(path: Path, config: Mapping[str, Any] | None) -> dict[str, Any]:
        file = path / "run.json"
        try:
            record: Any = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if config is None:
                raise RunError(f"{path}: no run here (run.json is missing)") from None
            strangers = [p.name for p in path.iterdir() if not p.name.startswith(".")]
            if strangers:
                raise RunError(
                    f"{path}: holds {strangers[0]} and is not a run; choose an empty or new folder"
                ) from None
            return {"format": FORMAT, "lvlm_va": __version__, "stages": {}}
        except (OSError, ValueError) as error:
            raise RunError(f"{file}: cannot be read ({error}); restore it or choose another folder") from None
        if not isinstance(record, dict) or "format" not in record:
            raise RunError(f"{file}: not written by this program; choose another folder")
        if record["format"] != FORMAT:
            raise RunError(
                f"{path}: written by version {record.get('lvlm_va')} in format {record.get('format')}; this "
                f"is version {__version__}, which reads format {FORMAT}. Use that version, or a new folder"
            )
        try:
            _RECORD.validate_python(record)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise RunError(
                f"{file}: is damaged ({key}: {first['msg']}); restore it, or delete that entry to have it "
                "made anew"
            ) from None
        return record

    def _acquire(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise RunError(
                f"{self.path}: another process is working on this run; wait for it, or choose another --run"
            ) from None
        except OSError as error:
            raise disk_error(self.path, error) from None


def disk_error(path: Path, error: OSError) -> RunError:
    """What to tell the person whose disk would not take the file or folder `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError(f"{path}: the disk is full; free some space and run the same command again")
    return RunError(
        f"{path}: cannot be written ({error.strerror}); check its rights, or choose another folder"
    )


def _digest(path: Path) -> str:
    """The sha256 of a file."""
    try:
        return file_sha256(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None
