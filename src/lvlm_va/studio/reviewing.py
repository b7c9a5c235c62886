"""Verdicts as they stand, and every way of changing them; each change is on the disk before it is shown."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import ConfigError, RunError
from lvlm_va.report.record import Judged, read_judged
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import CRITIC_VERDICTS, VERDICTS
from lvlm_va.run.verdict_table import HEADER, reconcile, row_of
from lvlm_va.studio.history import (
    HISTORY,
    Action,
    Change,
    Kind,
    append,
    new_action,
    read_history,
    steps_of,
)
from lvlm_va.studio.subject import Subject

__all__ = ["Answer", "Key", "Review", "Standing", "turned"]

Key = tuple[str, int]
"""A segment: the image's id, and its number."""

_LONGEST_NAME, _LONGEST_REASON = 80, 2000


@dataclass(frozen=True)
class Answer:
    """What somebody answered elsewhere about a segment.

    Attributes:
        spurious: the verdict.
        reason: in the person's words; may be empty.
        seen: the verdict that the person was shown.
    """

    spurious: bool | None
    reason: str
    seen: bool | None


@dataclass(frozen=True, eq=False)
class Standing:
    """How things stand.

    Attributes:
        said: what the critic said of every segment.
        in_force: the verdict that holds.
        of_image: image → its segments' verdicts in force.
        overruled: segments that a person changed.
        looked_at: images that somebody looked at or changed.
        history: all actions.
    """

    said: Mapping[Key, Verdict]
    in_force: Mapping[Key, Verdict]
    of_image: Mapping[str, Sequence[Verdict]]
    overruled: frozenset[Key]
    looked_at: frozenset[str]
    history: Sequence[Action]

    @cached_property
    def counted(self) -> Mapping[bool | None, int]:
        """Verdict in force → segments."""
        return Counter(verdict.spurious for verdict in self.in_force.values())

    @property
    def revision(self) -> int:
        """Changes with every action."""
        return len(self.history)


class Review:
    """The verdicts of a run."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    @property
    def _files(self) -> tuple[Path, ...]:
        return tuple(self._subject.path / name for name in (VERDICTS, CRITIC_VERDICTS, HISTORY))

    @property
    def stamp(self) -> Hashable:
        """Changes with every change of a verdict, whoever made it."""
        return tuple(self._subject.stamp(file.name) for file in self._files)

    def standing(self) -> Standing:
        """How things stand on the disk now.

        Raises:
            RunError: if a file is missing, or was edited into something that cannot be read.
        """
        return self._subject.kept("standing", self._files, self._read)

    def _read(self) -> Standing:
        if not self._subject.is_critiqued:
            raise RunError("There are no verdicts yet: explain and critique first.")
        judged = read_judged(RunDirectory.read(self._subject.path))
        return _standing(judged, read_history(self._subject.path / HISTORY))

    def set(self, wanted: Mapping[Key, bool | None], author: str, reason: str = "") -> Action | None:
        """Overrule verdicts; what the critic itself said is restored as its own.

        Returns:
            What was done; None where all of it stood so already.

        Raises:
            ConfigError: if the name cannot be used, or a segment is not of this run.
            RunError: if another process is working on the run, or the disk does not take it.
        """
        author, reason = _name(author), " ".join(reason.split())[:_LONGEST_REASON]
        with RunDirectory.open(self._subject.path) as run:
            standing = self.standing()
            changes = [
                change
                for key, spurious in wanted.items()
                if (change := _change(standing, key, spurious, author, reason)) is not None
            ]
            return self._changed(run, standing, changes, author, reason)

    def take(
        self, answers: Mapping[Key, Answer], looked_at: Sequence[str], author: str, reason: str
    ) -> tuple[Action | None, Sequence[Key]]:
        """Take verdicts that somebody gave elsewhere.

        Where a verdict was changed since that person saw it, to another one than the person gave, it stands.

        Args:
            answers: segment → what was answered.
            looked_at: images that the person looked at.
            author: who answered.
            reason: where the answers came from.

        Returns:
            What was done, None where all stood so already; and the segments left as they are.

        Raises:
            ConfigError, RunError: as `set`.
        """
        author = _name(author)
        with RunDirectory.open(self._subject.path) as run:
            standing = self.standing()
            changes, left, remarks = [], [], []
            for key, answer in answers.items():
                why = " ".join(answer.reason.split())[:_LONGEST_REASON]
                change = _change(standing, key, answer.spurious, author, why)
                if answer.spurious is answer.seen:
                    if why:
                        remarks.append((key[0], f"segment {key[1]}: {why}"))
                elif change is None or change.before.spurious is answer.spurious:
                    continue  # it stands so already, whoever said it first
                elif change.before.spurious is not answer.seen:
                    left.append(key)
                else:
                    changes.append(change)
            known = {(i, action.reason) for action in standing.history for i in action.images}
            new = tuple(dict.fromkeys(i for i in looked_at if i not in standing.looked_at))
            notes = [((image_id,), said) for image_id, said in remarks if (image_id, said) not in known]
            for images, said in [*([(new, "")] if new else []), *notes]:
                action = new_action(standing.history, author, "looked at", images=images, reason=said)
                standing = self._noted(run, standing, action)
            return self._changed(run, standing, changes, author, reason), left

    def _changed(
        self, run: RunDirectory, standing: Standing, changes: Sequence[Change], author: str, reason: str
    ) -> Action | None:
        if not changes:
            return None
        action = new_action(standing.history, author, "set", reason=reason, changes=tuple(changes))
        self._do(run, standing, action)
        return action

    def look_at(self, image_id: str, author: str) -> None:
        """Note that somebody looked at an image and agrees.

        Raises:
            ConfigError, RunError: as `set`.
        """
        author = _name(author)
        with RunDirectory.open(self._subject.path) as run:
            standing = self.standing()
            if image_id not in standing.looked_at:
                self._noted(
                    run, standing, new_action(standing.history, author, "looked at", images=(image_id,))
                )

    def undo(self, author: str) -> Action | None:
        """Take back the author's last change; None where there is none.

        Raises:
            ConfigError, RunError: as `set`; also where somebody changed the same verdicts since.
        """
        return self._again(_name(author), redo=False)

    def redo(self, author: str) -> Action | None:
        """Do again what the author took back last."""
        return self._again(_name(author), redo=True)

    def _again(self, author: str, *, redo: bool) -> Action | None:
        with RunDirectory.open(self._subject.path) as run:
            standing = self.standing()
            steps = steps_of(standing.history, author)[redo]
            if not steps:
                return None
            last = steps[-1]
            changes = tuple(
                change if redo else Change(change.after, change.before) for change in last.changes
            )
            for change in changes:
                key = change.before.image_id, change.before.segment
                now = standing.in_force.get(key)
                if now is None or (now.spurious, now.author) != (
                    change.before.spurious,
                    change.before.author,
                ):
                    raise RunError(
                        f"segment {key[1]} of {key[0]} was changed since, so this cannot be "
                        f"{'done again' if redo else 'undone'}; change it by hand"
                    )
            kind: Kind = "redo" if redo else "undo"
            action = new_action(standing.history, author, kind, changes=changes, of=last.number)
            self._do(run, standing, action)
            return action

    def _do(self, run: RunDirectory, standing: Standing, action: Action) -> None:
        rows = dict(self._subject.kept("rows", self._files[:2], lambda: _rows(standing)))
        for change in action.changes:
            rows[change.after.image_id, change.after.segment] = row_of(change.after)
        # The history first: a process that is killed in between leaves a line that says what was wanted.
        append(run.file(HISTORY), action)
        run.write(VERDICTS, HEADER + b"".join(rows.values()))
        self._subject.keep("rows", self._files[:2], rows)
        self._subject.keep("standing", self._files, _after(standing, action, self._files[0]))

    def _noted(self, run: RunDirectory, standing: Standing, action: Action) -> Standing:
        """Keep an action that changes no verdict; how things stand then."""
        append(run.file(HISTORY), action)
        standing = _after(standing, action, self._files[0])
        self._subject.keep("standing", self._files, standing)
        return standing


def _rows(standing: Standing) -> dict[Key, bytes]:
    """The rows of the table, so that a click writes one of 300,000 anew."""
    return {key: row_of(verdict) for key, verdict in standing.in_force.items()}


def _after(standing: Standing, action: Action, table: Path) -> Standing:
    """How things stand after an action: what reading all files again would say."""
    in_force, of_image = dict(standing.in_force), dict(standing.of_image)
    overruled = set(standing.overruled)
    for change in action.changes:
        key = change.after.image_id, change.after.segment
        (in_force[key],), by_person = reconcile([standing.said[key]], [change.after], where=table)
        overruled.discard(key)
        if by_person:
            overruled.add(key)
    for image_id in {change.after.image_id for change in action.changes}:
        of_image[image_id] = [in_force[image_id, v.segment] for v in of_image[image_id]]
    return replace(
        standing,
        in_force=in_force,
        of_image=of_image,
        overruled=frozenset(overruled),
        looked_at=standing.looked_at | set(_images([action])) | {image_id for image_id, _ in overruled},
        history=[*standing.history, action],
    )


def turned(spurious: bool | None) -> bool:
    """The other verdict; of an unscored segment, spurious: that is what a person looks for."""
    return spurious is not True


def _standing(judged: Judged, history: Sequence[Action]) -> Standing:
    of_image: dict[str, list[Verdict]] = {}
    for verdict in judged.in_force:
        of_image.setdefault(verdict.image_id, []).append(verdict)
    return Standing(
        said={(v.image_id, v.segment): v for v in judged.said},
        in_force={(v.image_id, v.segment): v for v in judged.in_force},
        of_image=of_image,
        overruled=frozenset((o.person.image_id, o.person.segment) for o in judged.overruled),
        looked_at=frozenset(_images(history)) | {o.person.image_id for o in judged.overruled},
        history=history,
    )


def _images(history: Iterable[Action]) -> Iterable[str]:
    for action in history:
        yield from action.images
        yield from (change.after.image_id for change in action.changes)


def _change(standing: Standing, key: Key, spurious: bool | None, author: str, reason: str) -> Change | None:
    """A verdict and what it is to become; None where it stands so. What the critic said is its own again."""
    if key not in standing.in_force:
        raise ConfigError(f"segment {key[1]} of {key[0]!r} is not part of this run")
    before, said = standing.in_force[key], standing.said[key]
    after = replace(said, spurious=spurious, author=author, reason=reason or _why(said))
    if spurious == said.spurious:
        after = said
    return None if after == before else Change(before, after)


def _name(author: str) -> str:
    name = " ".join(author.split())
    if not name or len(name) > _LONGEST_NAME:
        raise ConfigError(
            f"say who you are, in at most {_LONGEST_NAME} characters: your name signs what you change"
        )
    return name


def _why(said: Verdict) -> str:
    """The critic's reason stays where a person gives none, marked as such."""
    return f"overruled; the critic said: {said.reason}" if said.reason else "overruled"
