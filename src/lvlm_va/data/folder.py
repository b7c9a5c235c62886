"""Images in class folders: ROOT/CLASS/*, or ROOT/train/CLASS/*, ROOT/val/CLASS/*, ROOT/test/CLASS/*."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Unpack

from lvlm_va.data.assemble import assemble
from lvlm_va.data.files import image_reader, stamps
from lvlm_va.data.listing import (
    TRAIN,
    VALIDATION,
    Listing,
    Options,
    Preparation,
    Record,
    label_classes,
    names_a_part,
    parts_in,
    split_name,
)
from lvlm_va.data.names import name_problem, shown
from lvlm_va.data.splits import Splits
from lvlm_va.data.tree import Tree
from lvlm_va.errors import DataError

__all__ = ["read_folder"]

_SHOWN = 5
_PLAIN = frozenset({"train", "training", "val", "valid", "validation"})  # split names that need no word


def read_folder(
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    log: Callable[[str], None] = lambda _: None,
    **options: Unpack[Options],
) -> Splits:
    """Images in class folders.

    Below `path` are either folders called train, val and test (or training_set, dev, test_images and the
    like), with the class folders in them, or the class folders themselves. Class folders may have folders in
    them. What is missing of validation and test is held out of the training images, class by class.

    Nothing is passed over in silence: what a system or a network drive put there, folders without images,
    loose images and links that lead out of `path` are told. What is no file, cannot be opened or has a name
    that is not text is set aside.

    Args:
        path: the folder.
        classes: the class folders in the order of the model's outputs; by name when not given. A folder
            named here is a class, even if it is called test.
        log: told, a sentence at a time, what was held out, set aside or found suspicious.
        options: see `Preparation`.

    Raises:
        DataError: if there is no such folder, fewer than two classes, a class without training images, or
            it is not clear which folders are classes and which are parts.
    """
    root = Path(path)
    preparation = Preparation(**options)
    if (problem := name_problem(str(root))) is not None:
        raise DataError(f"{shown(root)}: {problem}")
    if not os.path.isdir(root):  # noqa: PTH112 -- False where it is no name
        raise DataError(f"{root}: no such folder of images")
    tree = Tree(root)
    remarks: list[str] = []

    def remark(sentence: str) -> None:
        remarks.append(sentence)
        log(sentence)

    parts = _parts(tree, frozenset(classes or ()), remark)
    found = [
        (split, folder)
        for split, part in parts.items()
        for folder in _class_folders(tree, part, frozenset(classes or ()), remark)
    ]
    if not found:
        raise DataError(" ".join([f"{root}: a classifier needs two classes; found none.", *remarks]))
    _check_depth(tree, [folder for _, folder in found], remark)
    trained = {folder.name for split, folder in found if split in (None, TRAIN)}
    places = [(folder.name, str(folder)) for _, folder in found]
    known = sorted(trained) if classes is None else classes
    names, labels = label_classes(places, known, where=str(root), may_be_missing=False)

    records: list[Record] = []
    files: list[Path] = []
    set_aside: dict[str, str] = {}
    for part in parts.values():
        set_aside |= tree.look(part).lost
    for (split, folder), label in zip(found, labels, strict=True):
        level = tree.below(folder)
        for file in level.images:
            records.append(Record(file.relative_to(root).as_posix(), len(files), label, split))
            files.append(file)
        set_aside |= level.lost | level.others
    for split in parts.keys() - {record.split for record in records} - {TRAIN, None}:
        lost = ", ".join(f"{name}: {reason}" for name, reason in list(set_aside.items())[:_SHOWN])
        raise DataError(f"{root}: no usable image in the part {split} ({lost})")
    for sentence in _tree_remarks(tree):
        remark(sentence)
    return assemble(
        Listing(
            name=root.resolve().name,
            source=f"the folder {root}",
            class_names=names,
            records=records,
            names=stamps(files, *preparation.reading),
            read=image_reader(
                files,
                preparation.bits,
                preparation.max_pixels,
                frame=preparation.frame,
                side=preparation.side,
            ),
            set_aside=set_aside,
            remarks=remarks,
        ),
        preparation,
        log=log,
    )


def _parts(tree: Tree, classes: frozenset[str], remark: Callable[[str], None]) -> dict[str | None, Path]:
    """Split → folder that holds the class folders; the split is None where the root does itself."""
    root = tree.root
    top = tree.look(root)
    if root in tree.unreadable:
        raise DataError(f"{root}: {tree.unreadable[root]}")
    candidates = [folder for folder in top.folders if folder.name not in classes]
    named = {folder: split for folder in candidates if (split := _split_or_none(folder.name))}
    for folder in named:
        tree.look(folder)
        if folder in tree.unreadable:
            raise DataError(f"{folder}: {tree.unreadable[folder]}")
    if not _holding_classes(tree, named, TRAIN):
        named = _by_longer_names(tree, candidates) or named
    parts: dict[str | None, Path] = {}
    if _holding_classes(tree, named, TRAIN):
        for folder, split in named.items():
            if not _has_class_folders(tree, folder):
                continue
            if split in parts:
                raise DataError(f"{root}: {parts[split].name} and {folder.name} both name the {split} part")
            parts[split] = folder
        if others := [folder for folder in top.folders if folder not in parts.values()]:
            remark(f"Beside train and its like, not read: {', '.join(_counted(tree, f) for f in others)}.")
            if unclear := [f.name for f in others if f not in named and names_a_part(f.name)]:
                remark(
                    f"WARNING: {' and '.join(unclear)} may be a part; if so, call it train, validation or "
                    "test."
                )
        for folder, split in named.items():
            if folder not in parts.values() and tree.look(folder).images:
                remark(
                    f"WARNING: {folder.name} holds images, but no class folders, so nothing says what they "
                    f"show: the {split} part is not taken from them."
                )
        if read := [
            f"{folder.name} as {split}"
            for split, folder in parts.items()
            if folder.name.lower() not in _PLAIN and folder.name.lower() != split
        ]:
            remark(f"Read by their names: {', '.join(read)}.")
        return parts
    return {None: _without_parts(tree, candidates, remark)}


def _without_parts(tree: Tree, candidates: Sequence[Path], remark: Callable[[str], None]) -> Path:
    """The root, which holds the class folders itself; a part is never taken for a class in silence."""
    root = tree.root
    filled = [folder for folder in candidates if _has_images(tree, folder)]
    parts = [folder for folder in filled if names_a_part(folder.name)]
    kinds = [parts_in(folder.name) for folder in filled]
    if not parts and all(kinds) and len(set().union(*kinds)) > 1:  # seg_train and seg_test, nothing else
        parts = filled
    if not parts:
        return root
    others = [folder.name for folder in filled if folder not in parts]
    told = " and ".join(folder.name for folder in parts)
    only_train = len(parts) == 1 and _split_or_none(parts[0].name) == TRAIN
    if only_train and others:
        remark(f"WARNING: {told} holds images, not class folders, so it is read as a class.")
        return root
    classes = "If that is a class, name the classes: data.classes"
    if any(TRAIN in parts_in(folder.name) for folder in parts):
        raise DataError(
            f"{root}: {told} hold images, but no class folders, so nothing says what they show; make a "
            f"folder for each class in them. {classes}"
        )
    raise DataError(
        f"{root}: there is {told}, but no train beside it"
        + (f"; move the class folders {', '.join(others[:_SHOWN])} into train" if others else "")
        + f". {classes}"
    )


def _by_longer_names(tree: Tree, candidates: Iterable[Path]) -> dict[Path, str]:
    """Folder → split for names such as seg_train and seg_test, where one without the other is none."""
    spoken = {
        folder: next(iter(kinds))
        for folder in candidates
        if len(kinds := parts_in(folder.name) & {TRAIN, VALIDATION, "test"}) == 1
        and _has_class_folders(tree, folder)
    }
    if TRAIN not in spoken.values() or len(set(spoken.values())) < 2:
        return {}
    tests = [folder for folder, kind in spoken.items() if kind == "test"]
    return spoken if len(tests) < 2 else spoken | {folder: f"test {folder.name}" for folder in tests}


def _class_folders(
    tree: Tree, part: Path, classes: frozenset[str], remark: Callable[[str], None]
) -> list[Path]:
    """The folders in `part` that hold images or should; others, and images beside them, are told."""
    level = tree.look(part)
    for name in level.nameless:
        raise DataError(f"{tree.root}: {name}: {level.lost[name]}; a class needs a name that is text")
    folders, empty = [], []
    for folder in level.folders:
        if folder.name in classes or _has_images(tree, folder):
            folders.append(folder)
        else:
            empty.append(_counted(tree, folder))
    if empty:
        remark(f"Left out, since there is no image in it: {', '.join(empty)}.")
    if level.images:
        few = _few([file.name for file in level.images])
        where = "beside the class folders" if folders else "without class folders"
        remark(f"WARNING: {part} holds {len(level.images)} images {where}, not read: {few}.")
    return folders


def _check_depth(tree: Tree, found: Sequence[Path], remark: Callable[[str], None]) -> None:
    """Is what was taken for a class a whole data set, or a class with the parts in it?"""
    if found and len({folder.name for folder in found}) == 1:
        deeper = found[0]
        while len(inside := [f for f in tree.look(deeper).folders if _has_images(tree, f)]) == 1:
            deeper = inside[0]
        if inside:
            raise DataError(
                f"{tree.root}: a classifier needs two classes; found {found[0].name}; are they in {deeper}?"
            )
    for folder in found:
        spoken: dict[str, list[str]] = {}
        for child in tree.look(folder).folders:
            if names_a_part(child.name) and _has_images(tree, child):
                spoken.setdefault(_split_or_none(child.name) or "", []).append(child.name)
        told = " and ".join(name for names in spoken.values() for name in names)
        if len(spoken) > 1:
            raise DataError(
                f"{folder}: holds {told}. If it is the data set, name it in data.path; if it is a class, the "
                "parts go above the classes (train/CLASS, test/CLASS), or they would all be trained on"
            )
        if spoken:
            remark(f"WARNING: {folder} has a folder {told} in it; what it holds is of class {folder.name}.")


def _tree_remarks(tree: Tree) -> list[str]:
    remarks = []
    if tree.left_out:
        names = [f"{name} ({n} times)" if n > 1 else name for name, n in tree.left_out.most_common()]
        remarks.append(f"Left out, by names that systems give or that begin with . or @: {_few(names)}.")
    if tree.outward:
        remarks.append(
            f"WARNING: links lead out of {tree.root}, {len(tree.outward)} times; what they lead to is read: "
            f"{_few(tree.outward)}."
        )
    return remarks


def _split_or_none(name: str) -> str | None:
    try:
        return split_name(name)
    except DataError:
        return None


def _holding_classes(tree: Tree, named: dict[Path, str], split: str) -> bool:
    return any(kind == split and _has_class_folders(tree, folder) for folder, kind in named.items())


def _has_class_folders(tree: Tree, folder: Path) -> bool:
    level = tree.look(folder)
    return bool(level.nameless) or any(_has_images(tree, child) for child in level.folders)


def _has_images(tree: Tree, folder: Path) -> bool:
    """Also those that cannot be used: a class does not vanish with them."""
    level = tree.below(folder)
    return bool(level.images or level.lost)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _counted(tree: Tree, folder: Path) -> str:
    """E.g. "dev (20 images)"."""
    level = tree.below(folder)
    counts = {"images": len(level.images), "other files": len(level.others)}
    told = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
    return f"{folder.name} ({told})" if told else folder.name
