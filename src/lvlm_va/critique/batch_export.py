"""Open questions as files in OpenAI's batch format: half the price, within a day, no network here.

Rounds of export and import follow each other: the first asks for critiques, the next for judgements of
those that came back (and again for critiques that failed), a last one for repairs, until an export
finds nothing left to ask. Each line is the very request that the endpoint would get, under the same
key, so the two ways can be mixed.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from lvlm_va.critique.backends.chat import request_body
from lvlm_va.critique.backends.file import FileBackend
from lvlm_va.critique.estimate import open_questions
from lvlm_va.critique.question import Backend, ExplainedImage, Question
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.store import Store
from lvlm_va.errors import ConfigError

__all__ = ["Export", "check_target", "export_requests", "write_requests"]

_MOST_REQUESTS = 50_000
_MOST_BYTES = 200_000_000


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        files: the files, or the folder.
        requests: how many they hold together.
        others: critic or judge that is not asked this way → its open questions.
    """

    files: tuple[Path, ...]
    requests: int
    others: Mapping[str, int] = field(default_factory=dict)


def export_requests(
    explained_images: Iterable[ExplainedImage],
    critic_judge: CriticJudge,
    store: Store,
    path: str | Path,
    *,
    most_requests: int = _MOST_REQUESTS,
    most_bytes: int = _MOST_BYTES,
) -> Export:
    """Write the open questions as batch requests, split at the format's limits and by model.

    A critic or judge of another kind is left its questions: `lines` and `builtin` need no file, another is
    asked in its own way.

    The questions are recorded in the store first, so that their answers will be recognised.

    Args:
        explained_images: the explained images.
        critic_judge: critic or judge, or both, are asked by the chat-completions format.
        store: where questions are recorded.
        path: requests.jsonl; several files become requests-0001.jsonl, requests-0002.jsonl, ...
        most_requests: the format's limit for one file.
        most_bytes: likewise.

    Raises:
        ConfigError: if neither is asked so, or the files exist already.
    """
    questions = open_questions(explained_images, critic_judge, store)
    return write_requests(
        questions, critic_judge, store, path, most_requests=most_requests, most_bytes=most_bytes
    )


def write_requests(
    questions: Iterable[Question],
    critic_judge: CriticJudge,
    store: Store,
    path: str | Path,
    *,
    most_requests: int = _MOST_REQUESTS,
    most_bytes: int = _MOST_BYTES,
) -> Export:
    """`export_requests` for these questions."""
    path = Path(path)
    check_target(path)
    asked = (critic_judge.critic, critic_judge.judge)
    if not any(_in_a_batch(backend) for backend in asked):
        by_folder = [backend.name for backend in asked if isinstance(backend, FileBackend)]
        raise ConfigError(
            f"{by_folder[0]} is asked by folder: --export DIR, a name without .jsonl"
            if by_folder
            else f"{asked[0].name} cannot be asked by file; name openai:<model>, or file"
        )
    series = re.compile(re.escape(path.stem) + r"(-\d{4,})?" + re.escape(path.suffix))
    if path.parent.is_dir():
        for other in path.parent.iterdir():
            if series.fullmatch(other.name):
                raise ConfigError(
                    f"{other} exists already, and may have been sent; remove it or choose another name"
                )
    others: Counter[str] = Counter()
    writer = _Writer(path, most_requests, most_bytes)
    try:
        with closing(store.committed_together(questions)) as recorded:
            for question in recorded:
                backend = critic_judge.backend(question.stage)
                name = backend.name
                if not _in_a_batch(backend):
                    others[name] += 1
                    continue
                model = name.removeprefix("openai:")
                key = store.record_question(question, name)
                request = {
                    "custom_id": key,
                    "method": "POST",
                    "url": "/v1/chat/completions",
                    "body": request_body(question, model, system_role=getattr(backend, "system_role", True)),
                }
                writer.write(model, json.dumps(request, ensure_ascii=False).encode() + b"\n")
        return Export(writer.finish(), writer.requests, others)
    except OSError as error:
        writer.abandon()
        raise ConfigError(f"{path}: the questions cannot be written there: {error.strerror}") from None
    except BaseException:
        writer.abandon()
        raise


def _in_a_batch(backend: Backend) -> bool:
    return backend.name.startswith("openai:")


def check_target(path: Path) -> None:
    """Refuse, before any work, what no file can be written to.

    Raises:
        ConfigError: if it is a folder, or one of its folders is none.
    """
    try:
        if not path.name or path.is_dir():
            raise ConfigError(
                f"{path} is a folder; name a file in it, for example {path / 'questions.jsonl'}"
            )
        path.with_name(f"{path.stem}-0001{path.suffix}.1.partial").exists()  # a name may be too long
        for folder in path.parents:
            if folder.exists():
                if not folder.is_dir():
                    raise ConfigError(f"{path}: {folder} is a file, not a folder")
                if not os.access(folder, os.W_OK | os.X_OK):
                    raise ConfigError(f"{path}: nothing can be written in {folder}")
                break
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{path}: the questions cannot be written there: {reason}") from None


class _Writer:
    """Files that appear under their names only when all of them are complete."""

    def __init__(self, path: Path, most_requests: int, most_bytes: int) -> None:
        self._path = path
        self._limits = most_requests, most_bytes
        self._open: dict[str, tuple[IO[bytes], int, int]] = {}  # model → file, requests, bytes
        self._parts: list[Path] = []
        self.requests = 0

    def write(self, model: str, line: bytes) -> None:
        file, requests, size = self._open.get(model, (None, 0, 0))
        if file is None or requests + 1 > self._limits[0] or size + len(line) > self._limits[1]:
            if file is not None:
                _complete(file)
            part = self._path.with_name(f"{self._path.name}.{len(self._parts) + 1}.partial")
            part.parent.mkdir(parents=True, exist_ok=True)
            file, requests, size = part.open("wb"), 0, 0
            self._parts.append(part)
        file.write(line)
        self._open[model] = (file, requests + 1, size + len(line))
        self.requests += 1

    def finish(self) -> tuple[Path, ...]:
        for file, _, _ in self._open.values():
            _complete(file)
        names = [self._path]
        if len(self._parts) > 1:
            stem, suffix = self._path.stem, self._path.suffix
            names = [self._path.with_name(f"{stem}-{n:04d}{suffix}") for n in range(1, len(self._parts) + 1)]
        for part, name in zip(self._parts, names, strict=False):
            part.replace(name)
        return tuple(names[: len(self._parts)])

    def abandon(self) -> None:
        for file, _, _ in self._open.values():
            file.close()
        for part in self._parts:
            part.unlink(missing_ok=True)


def _complete(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
