"""Answers from folders that were filled in by hand: a few at a time, from any editor."""

import codecs
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from lvlm_va.critique.batch_import import Import
from lvlm_va.critique.folder_export import ANSWER, KEY_DIGITS, PROMPT, prompt_text
from lvlm_va.critique.question import Reply, as_text
from lvlm_va.critique.store import Store
from lvlm_va.errors import ConfigError
from lvlm_va.io.redaction import one_line

__all__ = ["import_folders"]

_FOLDER = re.compile(rf"\d+-([0-9a-f]{{{KEY_DIGITS}}})\b.*")
_LONGEST_ANSWER = 2**20  # bytes
_LONGEST_NAME = 200  # characters


def import_folders(
    paths: Iterable[str | Path], store: Store, *, answered_by: str | None, note: str = ""
) -> Import:
    """Take the answers that stand in `answer.txt` of each question's folder; empty ones stay open.

    Args:
        paths: folders that hold the questions' folders, or single ones of these; importing twice changes
            nothing.
        store: the store that the questions were exported from.
        answered_by: the model, or the person; kept with each answer and shown wherever its numbers are.
        note: how it was asked.

    Raises:
        ConfigError: if nobody is named, or a folder cannot be read.
    """
    who = one_line(answered_by or "", _LONGEST_NAME).strip()
    if not who:
        raise ConfigError("say who answered, the model or the person: --answered-by NAME")
    how = "; ".join(filter(None, ("answered by file", one_line(note, 5 * _LONGEST_NAME).strip())))
    imported = known = empty = 0
    unknown: list[str] = []
    damaged: list[tuple[str, str]] = []
    unreadable: list[str] = []
    for path in map(Path, paths):
        found = list(_folders(path))
        if not found:
            unreadable.append(str(path))
        for folder, beginning in found:
            exchange = store.exchange_beginning_with(beginning)
            try:
                text = _answer(folder / ANSWER)
                if exchange is None:
                    unknown.append(folder.name)
                elif not text.strip():
                    empty += 1
                elif exchange.reply is not None:
                    known += 1
                else:
                    _check_prompt(folder / PROMPT, prompt_text(exchange.system, exchange.prompt))
                    store.record_reply(exchange.key, Reply(as_text(text), who, note=how))
                    imported += 1
            except ValueError as error:
                damaged.append((str(folder), str(error)))
    return Import(imported, (), (), tuple(unknown), known, tuple(damaged), tuple(unreadable), empty)


def _folders(path: Path) -> Iterator[tuple[Path, str]]:
    """The questions' folders at or in `path`, with the beginning of each one's key."""
    try:
        for folder in [path, *sorted(path.iterdir())]:
            match = _FOLDER.fullmatch(folder.resolve().name)
            if match and folder.is_dir():
                yield folder, match[1]
    except OSError as error:
        raise ConfigError(f"{path}: the answers cannot be read: {error.strerror}") from None


def _answer(path: Path) -> str:
    """The text of an answer; ValueError, with what to do, where there is none."""
    if not path.is_file():
        raise ValueError(f"holds no {ANSWER}")
    with path.open("rb") as file:
        data = file.read(_LONGEST_ANSWER + 1)
    if len(data) > _LONGEST_ANSWER:
        raise ValueError(f"{ANSWER} is longer than any answer")
    utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if utf_16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{ANSWER} is no UTF-8 text; save it as UTF-8") from None


def _check_prompt(path: Path, asked: str) -> None:
    """Another question than was asked has no answer here; line ends are an editor's affair."""
    if path.is_file() and path.read_text("utf-8-sig", "replace").split() != asked.split():
        raise ValueError(f"{PROMPT} is not what was asked; export the question again")
