"""Pictures in class folders: ROOT/CLASS/*, or ROOT/train/CLASS/*, ROOT/val/CLASS/*, ROOT/test/CLASS/*."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Unpack

from lvlm_va.data.assemble import assemble
from lvlm_va.data.files import picture_reader, stamps
from lvlm_va.data.listing import TRAIN, Listing, Options, Preparation, Record, label_classes, split_name
from lvlm_va.data.reading import is_picture
from lvlm_va.data.splits import Splits
from lvlm_va.errors import DataError

__all__ = ["class_folders", "read_folder"]

_PARTS = frozenset({"val", "valid", "validation", "test"})


def read_folder(
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    log: Callable[[str], None] = lambda _: None,
    **options: Unpack[Options],
) -> Splits:
    """Pictures in class folders.

    Below `path` are either folders called train (or training), val (or valid, validation) and test, with
    the class folders in them, or the class folders themselves. Class folders may have folders in them. What
    is missing of validation and test is held out of the training pictures, class by class.

    Args:
        path: the folder.
        classes: the class folders in the order of the model's outputs; by name when not given.
        log: told, a sentence at a time, what was held out, set aside or found suspicious.
        options: see `Preparation`.

    Raises:
        DataError: if there is no such folder, fewer than two classes, or a class without training pictures.
    """
    root = Path(path)
    preparation = Preparation(**options)
    parts = _parts(root, log)
    found = [(split, folder) for split, part in parts.items() for folder in class_folders(part)]
    trained = {folder.name for split, folder in found if split in (None, TRAIN)}
    places = [(folder.name, str(folder)) for _, folder in found]
    known = sorted(trained) if classes is None else list(classes)
    names, labels = label_classes(places, known if known else None, where=str(root))

    records: list[Record] = []
    files: list[Path] = []
    set_aside: dict[str, str] = {}
    for (split, folder), label in zip(found, labels, strict=True):
        for file in _files(folder):
            name = file.relative_to(root).as_posix()
            if is_picture(file):
                records.append(Record(name, len(files), label, split))
                files.append(file)
            else:
                set_aside[name] = "no picture by its name"
    return assemble(
        Listing(
            name=root.resolve().name,
            source=f"the folder {root}",
            class_names=names,
            records=records,
            names=stamps(files, preparation.bits),
            read=picture_reader(files, preparation.bits, preparation.max_pixels),
            set_aside=set_aside,
        ),
        preparation,
        log=log,
    )


def class_folders(part: Path) -> list[Path]:
    """The folders below `part` that are not hidden, by name."""
    return sorted(child for child in part.iterdir() if child.is_dir() and not child.name.startswith("."))


def _parts(root: Path, log: Callable[[str], None]) -> dict[str | None, Path]:
    """Split → folder that holds the class folders; the split is None where `root` does itself."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder of pictures")
    parts: dict[str | None, Path] = {}
    others = []
    for folder in class_folders(root):
        try:
            split = split_name(folder.name)
        except DataError:
            others.append(folder.name)
            continue
        if split in parts:
            raise DataError(f"{root}: {parts[split].name} and {folder.name} both name the {split} part")
        parts[split] = folder
    if TRAIN not in parts:
        if lonely := [folder.name for folder in parts.values() if folder.name.lower() in _PARTS]:
            raise DataError(f"{root}: there is {' and '.join(lonely)}, but no train beside it")
        return {None: root}
    if others:
        log(f"Beside train and its like, not read: {', '.join(others)}.")
    return parts


def _files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        if not file.is_dir() and not any(part.startswith(".") for part in file.relative_to(folder).parts):
            yield file
