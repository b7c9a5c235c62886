"""How a run stood before and after each piece of long work, so that any two of these can be compared.

A run holds one state alone. So what is small of it, verdicts and measurements, is kept in the run's folder
`.studio/versions` with the words that the critic had read; each version is a folder that is never rewritten.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import RunError
from lvlm_va.io.files import file_sha256
from lvlm_va.report.record import Images, read_critiques, read_judged, specifications_asked
from lvlm_va.run.directory import RunDirectory, disk_error
from lvlm_va.run.files import CRITIC_VERDICTS, METRICS, PARTS, SEGMENTS, VERDICTS
from lvlm_va.run.metrics import RunMetrics
from lvlm_va.run.verdict_table import read_verdicts
from lvlm_va.studio.reviewing import Review
from lvlm_va.studio.subject import Subject

__all__ = ["Version", "keep_version", "stand_now", "versions_of"]

_FOLDER, _ABOUT = "versions", "version.json"
_KEPT = (VERDICTS, CRITIC_VERDICTS, METRICS)


@dataclass(frozen=True, eq=False)
class Version:
    """A state of a run.

    Attributes:
        key: in addresses.
        title: which it is, in words.
        subject: the run.
        segments: fingerprint of what the verdicts are on.
        verdicts: in force, one per segment.
        metrics: what was measured then; None where nothing was aligned yet.
        words: class → what the critic had read of it.
    """

    key: str
    title: str
    subject: Subject
    segments: str
    verdicts: Mapping[tuple[str, int], Verdict]
    metrics: RunMetrics | None
    words: Mapping[str, str]


def keep_version(subject: Subject, what: str) -> None:
    """Keep how the run stands, unless nothing changed since the last version or there are no verdicts yet.

    Args:
        subject: the run; no other process may have its critiques open.
        what: what was done, in words.

    Raises:
        RunError: if the run cannot be read, or the disk does not take it.
    """
    if not subject.is_critiqued:
        return
    folder = subject.folder / _FOLDER
    content = {name: (subject.path / name).read_bytes() for name in _KEPT if subject.has(name)}
    about = {"segments": _segments(subject.path), "files": {n: _digest(c) for n, c in content.items()}}
    last = next(reversed(_folders(folder)), None)
    if last is not None and _about(last).items() >= about.items():
        return
    number = 1 if last is None else int(last.name) + 1
    about |= {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "what": what,
        "words": _words_asked(RunDirectory.read(subject.path), subject.images()),
    }
    part = folder / f".{number:04}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
        part.mkdir(parents=True)
        for name, data in content.items():
            (part / name).write_bytes(data)
        (part / _ABOUT).write_text(json.dumps(about, ensure_ascii=False), "utf-8")
        part.rename(folder / f"{number:04}")
    except OSError as error:
        raise disk_error(folder, error) from None


def versions_of(subject: Subject) -> list[Version]:
    """The versions that were kept, the oldest first; one that cannot be read is left out."""
    found = []
    for folder in _folders(subject.folder / _FOLDER):
        version = subject.remembered(f"version {folder.name}", None, partial(_read, subject, folder))
        if version is not None:
            found.append(version)
    return found


def stand_now(subject: Subject) -> Version:
    """How the run stands now.

    Raises:
        RunError: if there are no verdicts yet, or they cannot be read.
    """
    if not subject.is_critiqued:
        raise RunError(f"{subject.name}: there are no verdicts yet; explain and critique first")
    standing = Review(subject).standing()

    def words() -> Mapping[str, str]:
        try:
            return _words_asked(subject.read(), subject.images())
        except RunError:
            return {}  # work is under way

    return Version(
        f"run-{subject.number}",
        f"{subject.name}, now",
        subject,
        subject.remembered(
            "segments", subject.stamp(_segments_file(subject.path)), lambda: _segments(subject.path)
        ),
        standing.in_force,
        subject.metrics(),
        subject.remembered("words", (subject.stamp(CRITIC_VERDICTS),), words),
    )


def _read(subject: Subject, folder: Path) -> Version | None:
    about = _about(folder)
    try:
        verdicts = read_verdicts(folder / VERDICTS)
        metrics = None
        if (folder / METRICS).exists():
            metrics = RunMetrics.model_validate_json((folder / METRICS).read_bytes())
        time = str(about["time"]).replace("T", " ").replace("+00:00", " UTC")
        return Version(
            str(int(folder.name)),
            f"{time}, {about['what']}",
            subject,
            str(about["segments"]),
            {(v.image_id, v.segment): v for v in verdicts},
            metrics,
            {str(name): str(text) for name, text in about["words"].items()},
        )
    except (RunError, OSError, KeyError, AttributeError, ValidationError):
        return None


def _folders(folder: Path) -> Sequence[Path]:
    return sorted(path for path in folder.glob("[0-9][0-9][0-9][0-9]") if path.is_dir())


def _about(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / _ABOUT).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _segments_file(path: Path) -> str:
    return PARTS if (path / PARTS).exists() else SEGMENTS


def _segments(path: Path) -> str:
    return file_sha256(path / _segments_file(path))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _words_asked(run: RunDirectory, images: Images) -> dict[str, str]:
    names = sorted({explained.class_name for explained in images.explained_images.values()})
    critiques = read_critiques(run, read_judged(run))
    return {name: one.specification for name, one in specifications_asked(images, critiques, names)}
