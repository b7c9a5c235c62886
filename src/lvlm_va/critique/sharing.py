"""Several machines ask one run's questions: a folder in which they divide them, each with its own store.

    RUN/sharing/work.json         what is to be asked about, in blocks of images
    RUN/sharing/known.sqlite      what was answered before, for those who join
    RUN/sharing/claims/...        one file for each block and each question that somebody has taken
    RUN/sharing/NAME.alive        touched while NAME works; when it stops, NAME holds nothing any more
    RUN/sharing/NAME.sqlite       what NAME has been answered
    RUN/sharing/NAME.done         NAME has ended, and its store may be read

A database that several machines write needs locks that network file systems do not keep (SQLite's WAL least
of all), so no file here has two writers. What must happen once is decided by creating a file that must not
exist yet, which NFS (from version 3 on), SMB and every local file system do for one of all who try.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.critique.store import Store
from lvlm_va.errors import CriticError, RunError
from lvlm_va.io.files import write_atomically

__all__ = ["LEADER", "Sharing"]

LEADER = "leader"
"""The name of who holds the run."""

_BLOCK = 16  # images that are taken together
_LEASE = 60.0  # seconds without a sign of life after which somebody is taken for dead
_SIGNS = 6  # of life in that time


class Sharing:
    """One machine's part in the work. See `lead` and `join`.

    Args:
        folder: shared by all.
        name: of this machine.
        lease: seconds without a sign of life after which a machine is taken for dead.
    """

    def __init__(self, folder: Path, name: str, lease: float = _LEASE) -> None:
        self._folder = folder
        self._name = name
        self._lease = lease
        self._ended = threading.Event()
        self._seen = time.monotonic()

    @classmethod
    @contextmanager
    def lead(
        cls,
        folder: Path,
        store: Store,
        images: Sequence[ExplainedImage],
        specifications: Mapping[str, ClassSpecification],
        *,
        lease: float = _LEASE,
    ) -> Iterator[Self]:
        """Offer the questions about these images. What others were answered before is taken into the store.

        Args:
            folder: shared by all.
            store: of the run.
            images: in the order in which they are asked about.
            specifications: class name → V_k.
            lease: seconds without a sign of life after which a machine is taken for dead.

        Raises:
            RunError: if somebody still works on other images of this run, or the folder cannot be written.
        """
        sharing = cls(folder, LEADER, lease)
        work = {
            "images": [one.image_id for one in images],
            "specifications": {
                name: [one.description, list(one.relevant), list(one.spurious)]
                for name, one in specifications.items()
            },
        }
        folder.mkdir(parents=True, exist_ok=True)
        with sharing._alive():
            helpers = sharing.collect(store)
            offered = folder / "work.json"
            if helpers and (not offered.is_file() or sharing._work() != work):
                raise RunError(
                    f"{folder}: {', '.join(helpers)} still work on what was to be asked before; wait for "
                    "their end, or stop them"
                )
            if not helpers:
                shutil.rmtree(folder / "claims", ignore_errors=True)
                offered.unlink(missing_ok=True)
                (folder / "known.sqlite").unlink(missing_ok=True)
                store.copy(folder / "known.sqlite")
                write_atomically(offered, json.dumps(work).encode())
            yield sharing

    @classmethod
    @contextmanager
    def join(cls, folder: Path, name: str, *, lease: float = _LEASE) -> Iterator[tuple[Self, Store]]:
        """Take part, with a store that knows all that was answered when the work was offered.

        Raises:
            CriticError: if nothing is offered.
        """
        sharing = cls(folder, name, lease)
        if not (folder / "work.json").is_file() or sharing._is_dead(LEADER):
            raise CriticError(
                f"{folder.parent}: no questions are offered there. Start with lvlm-va critique PROJECT "
                "--share, and join when it says that it asks"
            )
        path = folder / f"{name}.sqlite"
        shutil.copyfile(folder / "known.sqlite", path)
        with sharing._alive():
            with Store.open(path) as store:
                yield sharing, store
            (folder / f"{name}.done").touch()

    @property
    def specifications(self) -> dict[str, ClassSpecification]:
        """Class name → V_k, as they are offered."""
        return {
            name: ClassSpecification(name, description, tuple(relevant), tuple(spurious))
            for name, (description, relevant, spurious) in self._work()["specifications"].items()
        }

    def mine(self, images: Sequence[ExplainedImage]) -> Iterator[ExplainedImage]:
        """Those images that nobody else has taken, block by block, taken when they are asked for.

        Raises:
            RunError: if an image that is offered is not among these.
        """
        known = {one.image_id: one for one in images}
        work = self._work()["images"]
        if missing := [one for one in work if one not in known]:
            raise RunError(f"{self._folder}: image {missing[0]} is not in this run; start the work again")
        for start in range(0, len(work), _BLOCK):
            if self._take(f"block-{start:08d}"):
                yield from (known[one] for one in work[start : start + _BLOCK])

    def take(self, key: str) -> bool:
        """Whether this machine may ask the question with this key; True for one of all who want to.

        Raises:
            CriticError: if this machine was away for so long that it was taken for dead.
        """
        return self._take(f"{key[:2]}/{key}")

    def collect(self, store: Store) -> list[str]:
        """Take the answers of all who ended or died into the store.

        Returns:
            Who is still at work.
        """
        working = []
        for path in sorted(self._folder.glob("*.alive")):
            name = path.stem
            done = self._folder / f"{name}.done"
            if name == LEADER:
                continue
            if not done.exists():
                if not self._is_dead(name):
                    working.append(name)
                    continue
                (self._folder / f"{name}.over").touch()  # should it wake up, it asks nothing more
            answers = self._folder / f"{name}.sqlite"
            if answers.exists():
                store.merge(answers)
                for part in self._folder.glob(f"{name}.sqlite*"):
                    part.unlink()
            path.unlink()
            done.unlink(missing_ok=True)
        return working

    def wait(self, store: Store, stop: threading.Event | None = None) -> None:
        """Until nobody else is at work; their answers are then in the store."""
        while self.collect(store) and not (stop is not None and stop.is_set()):
            time.sleep(min(1.0, self._lease / _SIGNS))

    def _work(self) -> dict[str, Any]:
        work: dict[str, Any] = json.loads((self._folder / "work.json").read_text("utf-8"))
        return work

    def _take(self, what: str) -> bool:
        if self._ended.is_set() or time.monotonic() - self._seen > self._lease:
            raise CriticError(
                f"{self._name} gave no sign of life for {self._lease:g} s, and its questions went to others; "
                "its answers so far are kept. Join again"
            )
        path = self._folder / "claims" / what
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return path.read_text("utf-8") == self._name  # taken by this one before it was started again
        with os.fdopen(file, "w", encoding="utf-8") as opened:
            opened.write(self._name)
        return True

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """Give signs of life, and look whether somebody took this machine for dead."""
        sign, over = self._folder / f"{self._name}.alive", self._folder / f"{self._name}.over"
        sign.touch()
        resting = threading.Event()

        def live() -> None:
            while not resting.wait(self._lease / _SIGNS):
                if over.exists():
                    self._ended.set()
                    return
                sign.touch()
                self._seen = time.monotonic()

        thread = threading.Thread(target=live, name="signs of life", daemon=True)
        thread.start()
        try:
            yield
        finally:
            resting.set()
            thread.join()

    def _is_dead(self, name: str) -> bool:
        """By the clock of the folder, which is the same for all."""
        now, sign = self._folder / f"{self._name}.now", self._folder / f"{name}.alive"
        now.touch()
        try:
            return now.stat().st_mtime - sign.stat().st_mtime > self._lease
        except FileNotFoundError:
            return True
        finally:
            now.unlink(missing_ok=True)
