"""What lies in a folder of images, found out without opening a file."""

import os
import stat
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

from lvlm_va.data.names import name_problem, shown
from lvlm_va.data.reading import is_image

__all__ = ["Level", "Tree", "file_problem", "is_outside"]

# Made by systems and archivers beside one's own files; compared in lower case.
_SYSTEM = frozenset(
    {
        "__macosx",
        "__pycache__",
        "lost+found",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "#recycle",
        "#snapshot",
        "~snapshot",
        "network trash folder",
        "temporary items",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
    }
)
_NO_IMAGE = "no image by its name"


@dataclass
class Level:
    """One folder.

    Attributes:
        folders: the folders in it, by name.
        images: the files that are images by their names.
        others: name → reason, for files that are none.
        lost: name → reason, for what may be images but cannot be used.
        nameless: folders whose names cannot be used, as they are shown; in `lost` too.
    """

    folders: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    nameless: list[str] = field(default_factory=list)


class Tree:
    """The folder `root` of images; every folder below it is looked at once.

    Attributes:
        left_out: name → how often, of what the system or a network drive put there.
        outward: names of links that lead out of `root`.
        unreadable: folder → why it cannot be opened.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.left_out: Counter[str] = Counter()
        self.outward: list[str] = []
        self.unreadable: dict[Path, str] = {}
        self._real = Path(os.path.realpath(root))
        self._levels: dict[Path, Level] = {}
        self._below: dict[Path, Level] = {}

    def name(self, path: Path) -> str:
        """`path` from `root`, fit to be shown."""
        return shown(path.relative_to(self.root).as_posix())

    def look(self, folder: Path) -> Level:
        """What lies directly in `folder`."""
        if folder not in self._levels:
            self._levels[folder] = self._look(folder)
        return self._levels[folder]

    def below(self, folder: Path) -> Level:
        """What lies in `folder` and in the folders in it, links to folders included."""
        if folder not in self._below:
            self._below[folder] = self._walk(folder)
        return self._below[folder]

    def _look(self, folder: Path) -> Level:
        level = Level()
        try:
            with os.scandir(folder) as entries:
                names = sorted(entry.name for entry in entries)
        except OSError as error:
            self.unreadable[folder] = f"the folder cannot be opened ({error.strerror or error})"
            level.lost[self.name(folder)] = self.unreadable[folder]
            return level
        for name in names:
            path = folder / name
            if name.startswith((".", "@")) or name.lower() in _SYSTEM:
                self.left_out[shown(name)] += 1
                continue
            is_folder = os.path.isdir(path)  # noqa: PTH112 -- False where it may not be looked at
            problem = name_problem(name) or (None if is_folder else file_problem(path))
            if problem is not None:
                level.lost[self.name(path)] = problem
                if is_folder:
                    level.nameless.append(self.name(path))
                continue
            if path.is_symlink() and is_outside(path, self._real):
                self.outward.append(self.name(path))
            if is_folder:
                level.folders.append(path)
            elif is_image(path):
                level.images.append(path)
            else:
                level.others[self.name(path)] = _NO_IMAGE
        return level

    def _walk(self, top: Path) -> Level:
        found = Level()
        real_top = Path(os.path.realpath(top))
        seen: set[tuple[int, int]] = set()
        # Links last, so that a folder is read by its own name where it has one here, and once at all.
        own, linked = [top], deque[Path]()
        while own or linked:
            folder = own.pop() if own else linked.popleft()
            try:
                status = folder.stat()
            except OSError as error:
                found.lost[self.name(folder)] = f"the folder cannot be opened ({error.strerror or error})"
                continue
            around = folder is not top and real_top.is_relative_to(os.path.realpath(folder))
            if around or (status.st_dev, status.st_ino) in seen:
                found.lost[self.name(folder)] = "a link to a folder around it or read already"
                continue
            seen.add((status.st_dev, status.st_ino))
            level = self.look(folder)
            found.images += level.images
            found.others |= level.others
            found.lost |= level.lost
            for child in level.folders:
                (linked if child.is_symlink() else own).append(child)
        found.images.sort()
        return found


def file_problem(path: Path) -> str | None:
    """Why `path` is no file that may be opened, found out without opening it; None where it is one.

    A named pipe would be waited for without end, and reading a device may do anything.
    """
    try:
        mode = path.stat().st_mode
    except ValueError:  # NUL, or text that is no name here
        return "no such file"
    except OSError as error:
        if os.path.islink(path):  # noqa: PTH114 -- False where the name is too long, too
            return f"a broken link: {shown(path.readlink())} cannot be reached ({error.strerror or error})"
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return "no such file"
        return f"cannot be looked at ({error.strerror or error})"
    if stat.S_ISREG(mode):
        return None
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket"}
    return f"a {kinds.get(stat.S_IFMT(mode), 'device')}, not a file"


def is_outside(path: Path, real_root: Path) -> bool:
    """Does `path`, its links followed, lie outside of `real_root`?"""
    return not Path(os.path.realpath(path)).is_relative_to(real_root)
