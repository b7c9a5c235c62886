"""Results, one JSON Lines file an experiment: a line a trial, appended as they come, never computed twice."""

import errno
import json
import os
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from filelock import FileLock

from lvlm_va.errors import RunError
from lvlm_va.run.directory import disk_error

__all__ = ["TRIALS", "TrialStore", "read_lines"]

TRIALS = "trials.jsonl"
"""The file in an experiment's folder."""


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """All trials of an experiment's folder, by name; of several lines about one trial the last.

    A last line that was torn by an interruption is left out; the next `TrialStore.add` removes it.

    Raises:
        RunError: if another line is no trial.
    """
    path = folder / TRIALS
    try:
        *whole, rest = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None
    found = {}
    for number, line in enumerate([*whole, rest] if _is_trial(rest) else whole, start=1):
        try:
            trial = _parse(line)
        except ValueError as error:
            raise RunError(
                f"{path}, line {number}: not a trial ({error}); remove the line to compute it again"
            ) from None
        found[trial["trial"]] = trial
    return [found[name] for name in sorted(found)]


class TrialStore:
    """The trials of one experiment, results/EXPERIMENT/trials.jsonl; several processes may add at once.

    Args:
        out: the folder of all results. A trial that another experiment has computed from the same inputs is
            taken over from there.
        experiment: its name.

    Attributes:
        folder: of the experiment.
    """

    def __init__(self, out: Path, experiment: str) -> None:
        self.folder = out / experiment
        self._own = {trial["trial"]: trial for trial in read_lines(self.folder)}
        others = (path.parent for path in sorted(out.glob(f"*/{TRIALS}")) if path.parent != self.folder)
        every = [*(trial for folder in others for trial in read_lines(folder)), *self._own.values()]
        self._computed = {trial["inputs"]: trial for trial in every if "failed" not in trial}

    def find(self, trial: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result of a trial with these inputs; None where it failed or was never computed.

        Args:
            trial: what it is, see `Trial.to_dict`.
        """
        known = self._computed.get(trial["inputs"])
        # The same work may have another name here.
        return None if known is None else {**known, **trial}

    def holds(self, trial: Mapping[str, Any]) -> bool:
        """Whether this experiment has a result of that name and inputs of its own."""
        own = self._own.get(trial["trial"])
        return own is not None and own["inputs"] == trial["inputs"] and "failed" not in own

    def add(self, trial: Mapping[str, Any]) -> None:
        """Append a result, or a failure {"trial", "inputs", …, "failed": why}, unless it is there already.

        The line is on the disk, whole, when this returns; if that fails, the file is as it was.

        Raises:
            RunError: if the disk does not take it.
        """
        line = _finite(trial)
        if self._own.get(line["trial"]) == line:
            return
        path = self.folder / TRIALS
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                _append(path, (json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n").encode())
        except OSError as error:
            raise disk_error(path, error) from None
        self._own[line["trial"]] = line
        if "failed" not in line:
            self._computed[line["inputs"]] = line


def _append(path: Path, line: bytes) -> None:
    with path.open("ab+", buffering=0) as file:
        file.seek(0)
        content = file.read()
        rest = content.rpartition(b"\n")[2]
        if _is_trial(rest):
            line = b"\n" + line
            rest = b""
        end = len(content) - len(rest)
        try:
            file.truncate(end)  # what an interruption left of the last line
            if os.write(file.fileno(), line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(end)
            raise


def _is_trial(line: bytes) -> bool:
    try:
        _parse(line)
    except ValueError:
        return False
    return True


def _parse(line: bytes) -> dict[str, Any]:
    trial = json.loads(line)
    if not isinstance(trial, dict) or not {"trial", "inputs"} <= set(trial):
        raise ValueError("it has no name and inputs")
    return trial


def _finite(value: Any) -> Any:
    """The same with None for numbers that are none: JSON knows no NaN."""
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not isfinite(value) else value
