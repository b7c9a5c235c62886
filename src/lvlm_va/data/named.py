"""The files that a table names: as it names them here, or as they were called on another machine."""

import ntpath
import os
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path, PurePosixPath

from lvlm_va.data.names import name_problem, shown
from lvlm_va.data.reading import SUFFIXES
from lvlm_va.data.tree import Tree, file_problem, is_outside

__all__ = ["NamedFiles"]

_SHOWN = 5


@dataclass
class NamedFiles:
    """N files.

    Attributes:
        paths: N paths; none of those in `problems` is to be opened.
        problems: position → why it is no file that may be opened.
        remarks: what was not as the table says, in sentences.
    """

    paths: list[Path]
    problems: dict[int, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @classmethod
    def find(cls, root: Path, names: Sequence[str]) -> "NamedFiles":
        """Find every name below `root`; absolute ones where they say.

        One that is not there is looked for with slashes for backslashes, without the folders of another
        machine before it, and with the suffix of an image. Names without a folder, none of which is in `root`
        itself, are looked for in the folders of `root`. What was found so is told in `remarks`.
        """
        files = cls([])
        real_root, plain_root = Path(os.path.realpath(root)), os.path.normpath(root)
        elsewhere = _Elsewhere(root, names)
        endings = _Endings()
        deeper = _Deeper(root, names, endings)
        outward, with_suffix, in_folders = [], [], []
        for n, name in enumerate(names):
            problem = name_problem(name)
            path = root / (shown(name) if problem else name)
            if problem is None and (problem := file_problem(path)) == "no such file":
                path = elsewhere.here(name)
                problem = file_problem(path)
            if problem == "no such file":
                problem, found = endings.complete(path)
                if found is not None:
                    with_suffix.append(name)
                    path, problem = found, file_problem(found)
            if problem == "no such file":
                problem, below = deeper.find(name)
                if below is not None:
                    in_folders.append(name)
                    path, problem = below, file_problem(below)
            if problem == "no such file" and _is_absolute(name):
                problem += "; if it is a path of another machine, write it from the folder data.root"
            if problem is not None:
                files.problems[n] = problem
            elif Path(os.path.normpath(path)).is_relative_to(plain_root) and is_outside(path, real_root):
                outward.append(name)
            files.paths.append(path)
        files.remarks += elsewhere.remarks
        if with_suffix:
            files.remarks.append(f"Named without their suffix, and found with it: {_few(with_suffix)}.")
        if in_folders:
            files.remarks.append(f"Named without their folder, and found below {root}: {_few(in_folders)}.")
        if outward:
            files.remarks.append(
                f"WARNING: links lead out of {root}, {len(outward)} times; what they lead to is read: "
                f"{_few(outward)}."
            )
        return files


class _Elsewhere:
    """Names as another machine writes them: backslashes, and folders that are not here."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._root = root
        self._before: PurePosixPath | None = None
        usable = [name for name in names if name_problem(name) is None]
        missing = [name for name in usable if file_problem(root / name) == "no such file"]
        absolute = [name for name in usable if _is_absolute(name)]
        # Where some are here, the others are missing; nothing is to be put in their place.
        if absolute and set(absolute) <= set(missing):
            self._before = self._common([_posix(name) for name in absolute], least=1)
        elif missing and len(missing) == len(usable):
            self._before = self._common([_posix(name) for name in missing], least=0)
        self.remarks = []
        if self._before is not None:
            self.remarks.append(f"Paths of another machine: {self._before} is read as {root}.")
        if any("\\" in name and not _is_absolute(name) for name in missing):
            self.remarks.append("Files are named with \\, which is read as /.")

    def here(self, name: str) -> Path:
        """Where `name` would be on this machine."""
        path = _posix(name)
        if self._before is not None and path.is_relative_to(self._before):
            return self._root / path.relative_to(self._before)
        return self._root / path

    def _common(self, paths: Sequence[PurePosixPath], least: int) -> PurePosixPath | None:
        """What all of them begin with and must lose, so that the first one that can be found is found here.

        At least so many words are lost; None where none is or nothing can be found. One beginning for all,
        since the last words of a path alone may be those of another image.
        """
        folders = [path.parent.parts for path in paths]
        pairs = zip(min(folders), max(folders), strict=False)
        shared = [a for a, b in takewhile(lambda pair: pair[0] == pair[1], pairs)]
        endings = _Endings()
        for path in paths[:100]:
            for n in range(least, len(shared) + 1):
                before = PurePosixPath(*shared[:n])
                here = self._root / path.relative_to(before)
                if file_problem(here) is None or endings.complete(here)[1] is not None:
                    return before if n else None
        return None


class _Deeper:
    """Names without a folder, of files in folders of `root`, as the tables of many challenges have them."""

    def __init__(self, root: Path, names: Sequence[str], endings: "_Endings") -> None:
        self._root = root
        bare = [name for name in names if name_problem(name) is None and _posix(name).name == name]
        # Where some are here, the others are missing; nothing is to be put in their place.
        self._apply = bool(bare) and not any(
            file_problem(root / name) is None or endings.complete(root / name)[1] is not None for name in bare
        )
        self._found: dict[str, list[Path]] | None = None

    def find(self, name: str) -> tuple[str | None, Path | None]:
        """(None, the one image called so, with or without its suffix), or (why there is none, None)."""
        if not self._apply or _posix(name).name != name:
            return "no such file", None
        if self._found is None:
            self._found = {}
            for path in Tree(self._root).below(self._root).images:
                for called in {path.name, path.stem}:
                    self._found.setdefault(called, []).append(path)
        found = self._found.get(name, [])
        if len(found) == 1:
            return None, found[0]
        if found:
            where = " and ".join(shown(path.relative_to(self._root).as_posix()) for path in found[:_SHOWN])
            return f"no such file; {where} are called so: name the folder with data.root", None
        return "no such file", None


class _Endings:
    """Which images a folder holds, by their names without suffix."""

    def __init__(self) -> None:
        self._folders: dict[Path, dict[str, list[str]]] = {}

    def complete(self, path: Path) -> tuple[str | None, Path | None]:
        """(None, the one image called so but for its suffix), or (why there is none, None)."""
        if path.parent not in self._folders:
            known: dict[str, list[str]] = {}
            try:
                for file in sorted(path.parent.iterdir()):
                    if file.suffix.lower() in SUFFIXES:
                        known.setdefault(file.stem, []).append(file.name)
            except OSError:
                pass  # no such folder: no such file
            self._folders[path.parent] = known
        found = self._folders[path.parent].get(path.name, [])
        if len(found) == 1:
            return None, path.with_name(found[0])
        if found:
            return f"no such file; {' and '.join(found)} are there: write the suffix", None
        return "no such file", None


def _posix(name: str) -> PurePosixPath:
    return PurePosixPath(name.replace("\\", "/"))


def _is_absolute(name: str) -> bool:
    return posixpath.isabs(name) or ntpath.isabs(name) or bool(ntpath.splitdrive(name)[0])


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(shown, names[:_SHOWN])) + more
