"""The expert's words: read, changed with their history kept, and tried before all images are asked about."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from lvlm_va.config.yamlfile import read_yaml
from lvlm_va.critique.specification import ClassSpecification, load_specifications
from lvlm_va.errors import ConfigError, RunError, SpecificationError
from lvlm_va.io.files import append_line, write_atomically
from lvlm_va.project.presets import preset_specifications
from lvlm_va.run.directory import disk_error
from lvlm_va.studio.subject import Subject

__all__ = ["Edit", "Words", "words_of"]

HISTORY = "specifications.history.jsonl"


@dataclass(frozen=True)
class Edit:
    """One change of a class's words.

    Attributes:
        time: ISO 8601, UTC.
        author: who.
        before, after: description, relevant, spurious.
        version: of the words after it.
    """

    time: str
    author: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    version: str


@dataclass(frozen=True)
class Words:
    """Where the specifications are.

    Attributes:
        source: the file that is read.
        file: the file that is written: the same, or the run's own where `source` came with this package.
        folder: of the studio in the run, where the history is.
    """

    source: Path
    file: Path
    folder: Path

    @property
    def settings(self) -> Sequence[str]:
        """What the command line must be told so that it reads them."""
        if self.file.parent != self.folder or not self.file.exists():
            return []
        return [f"specifications={json.dumps(str(self.file.absolute()))}"]

    def read(self) -> dict[str, ClassSpecification]:
        """Class name → words.

        Raises:
            SpecificationError: if the file cannot be used.
        """
        document = read_yaml(self.source, SpecificationError, missing="no such specifications")
        classes = document.get("classes") if isinstance(document, dict) else None
        names = list(map(str, classes)) if isinstance(classes, dict) else []
        return load_specifications(self.source, names)

    def history(self, class_name: str) -> list[Edit]:
        """The changes of a class's words, the latest first."""
        try:
            lines = (self.folder / HISTORY).read_text("utf-8").splitlines()
        except (OSError, ValueError):
            return []
        found = []
        for line in lines:
            try:
                entry = json.loads(line)
                if entry["class"] == class_name:
                    found.append(
                        Edit(*(entry[key] for key in ("time", "author", "before", "after", "version")))
                    )
            except (ValueError, KeyError, TypeError):
                continue  # a line that a killed process left unfinished
        return found[::-1]

    def save(self, wanted: ClassSpecification, seen: str, author: str) -> None:
        """Write a class's words; the file as it was before the first change is kept, too.

        Args:
            wanted: the new words.
            seen: the version that was changed.
            author: who changed it.

        Raises:
            ConfigError: if nobody signs, or the words cannot be used.
            RunError: if somebody else changed them meanwhile, or the disk does not take them.
        """
        if not author.strip():
            raise ConfigError("say who you are first: your name signs what you change")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "specifications.lock", timeout=5):
                self._save(wanted, seen, author)
        except Timeout:
            raise RunError(f"{self.file}: another studio is writing it; try again in a moment") from None
        except OSError as error:
            raise disk_error(self.file, error) from None

    def _save(self, wanted: ClassSpecification, seen: str, author: str) -> None:
        current = self.read()
        if wanted.name not in current:
            raise ConfigError(f"there is no class {wanted.name!r}")
        before = current[wanted.name]
        if before.version == wanted.version:
            return
        if before.version != seen:
            raise RunError(
                f"the words of {wanted.name!r} were changed by somebody else since you opened them; nothing "
                "was written. Copy yours, open the page again, and put them in"
            )
        document = {"classes": {name: _plain(one) for name, one in {**current, wanted.name: wanted}.items()}}
        load_specifications(document, list(current))
        original = self.folder / "specifications.original.yaml"
        if not original.exists():
            write_atomically(original, self.source.read_bytes())
        entry = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "author": author,
            "class": wanted.name,
            "before": _plain(before),
            "after": _plain(wanted),
            "version": wanted.version,
        }
        append_line(self.folder / HISTORY, json.dumps(entry, ensure_ascii=False))
        text = yaml.safe_dump(document, allow_unicode=True, sort_keys=False, width=100)
        write_atomically(self.file, text.encode())


def words_of(subject: Subject) -> Words:
    """Where a run's specifications are.

    Raises:
        ConfigError: if there are none.
    """
    config, folder = subject.config(), subject.folder
    if config.specifications is not None:
        return Words(config.specifications, config.specifications, folder)
    own, packaged = folder / "specifications.yaml", preset_specifications(config.data.name)
    if own.exists():
        return Words(own, own, folder)
    if packaged is None:
        raise ConfigError(
            "this run has no file of specifications that could be edited here: it was made from Python, or "
            "the project file names none (specifications: FILE)"
        )
    return Words(packaged, own, folder)


def _plain(words: ClassSpecification) -> dict[str, Any]:
    return {
        "description": words.description,
        "relevant": list(words.relevant),
        "spurious": list(words.spurious),
    }
