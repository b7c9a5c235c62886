"""Folders as they are met: a NAS's thumbnails, links, pipes, names that are no text, parts called anyhow."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import lvlm_va
from lvlm_va.config.loading import parse_config
from lvlm_va.data.listing import TRAIN, VALIDATION, names_a_part, split_name
from lvlm_va.data.names import name_problem, shown
from lvlm_va.data.splits import Splits
from lvlm_va.data.tree import Tree
from lvlm_va.errors import ConfigError, DataError
from lvlm_va.project.check import check_project
from lvlm_va.project.init import init_project
from parts import CLASSES, SIDE, class_folders, part
from patience import PATIENCE

WHOLE: dict[str, Any] = {"size": SIDE, "validation": 0, "test": 0}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVLM_VA_CACHE", str(tmp_path_factory.mktemp("cache")))


def sizes(splits: Splits) -> dict[str, int]:
    parts = {"train": splits.train} | dict(splits.tests)
    parts |= {} if splits.validation is None else {"validation": splits.validation}
    return {name: len(images) for name, images in parts.items()}


def told(splits: Splits) -> str:
    return "\n".join(splits.remarks)


def image(path: Path, seed: int = 77) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(part("bolt", seed)).save(path, format="PNG")


def test_what_systems_put_there_is_left_out_and_said(tmp_path: Path) -> None:
    class_folders(tmp_path, 5)
    for n, name in enumerate(
        ("@eaDir", "@Recycle", ".snapshot", "__MACOSX", "lost+found", "$RECYCLE.BIN", "__pycache__")
    ):
        image(tmp_path / name / "a.png", n)
        image(tmp_path / "nut" / name / "000.png" / "SYNOPHOTO_THUMB_M.png", n)
    image(tmp_path / "System Volume Information" / "b.png")
    image(tmp_path / "bolt" / "._000.png")
    (tmp_path / "bolt" / "Thumbs.db").touch()
    splits = lvlm_va.read_folder(tmp_path, **WHOLE)
    assert splits.class_names == CLASSES
    assert sizes(splits) == {"train": 10}
    assert not splits.set_aside
    (said,) = splits.remarks
    assert "@eaDir (2 times)" in said
    assert "and 5 more" in said


def test_folders_without_images_are_left_out_and_said(tmp_path: Path) -> None:
    class_folders(tmp_path, 5)
    (tmp_path / "void").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    (tmp_path / "train").mkdir()
    splits = lvlm_va.read_folder(tmp_path, **WHOLE)
    assert splits.class_names == CLASSES
    assert "no image in it: notes (1 other files), train, void." in told(splits)
    with pytest.raises(DataError, match="no usable training image of class 'void'"):
        lvlm_va.read_folder(tmp_path, classes=[*CLASSES, "void"], **WHOLE)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("training_set", "test_set"), {"train": 6, "test_set": 4}),
        (("Training", "Testing"), {"train": 6, "testing": 4}),
        (("TrainImages", "valid images"), {"train": 6, "validation": 4}),
        (("01_train", "02_val"), {"train": 6, "validation": 4}),
        (("trainset", "testset"), {"train": 6, "testset": 4}),
        (("seg_train", "seg_test"), {"train": 6, "test": 4}),
        (("task3_Training_Input", "task3_Validation_Input"), {"train": 6, "validation": 4}),
    ],
)
def test_parts_by_whatever_name(tmp_path: Path, names: tuple[str, str], expected: dict[str, int]) -> None:
    class_folders(tmp_path / names[0], 3)
    class_folders(tmp_path / names[1], 2, first=20)
    splits = lvlm_va.read_folder(tmp_path, **WHOLE)
    assert splits.class_names == CLASSES
    assert sizes(splits) == expected
    assert f"{names[0]} as train" in told(splits) or names[0] == "Training"


def _only(name: str) -> Callable[[Path], None]:
    return lambda root: class_folders(root / name, 3) and None


def _beside(name: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        class_folders(root, 3)
        for seed in range(3):
            image(root / name / f"{seed}.png", seed)

    return make


def _loose(*names: str) -> Callable[[Path], None]:
    return lambda root: [image(root / name / "a.png", n) for n, name in enumerate(names)] and None


def _within(*names: str) -> Callable[[Path], None]:
    return lambda root: (
        [class_folders(root / "bolt" / name, 2) for name in names] + [image(root / "nut" / "a.png")] and None
    )


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (_only("test_set"), "there is test_set, but no train"),
        (_only("eval"), "there is eval, but no train"),
        (_beside("test"), "there is test, but no train beside it; move the class folders bolt, nut into"),
        (_beside("test-b"), "there is test-b, but no train"),
        (_beside("dev"), "there is dev, but no train"),
        (_beside("validation_images"), "there is validation_images, but no train"),
        (_loose("train", "test"), "test and train hold images, but no class folders"),
        (_loose("seg_train", "seg_val"), "seg_train and seg_val hold images, but no class folders"),
        (_only("dataset"), "needs two classes; found dataset; are they in .*dataset[?]"),
        (_only("a/b"), "found a; are they in .*a/b[?]"),
        (_only("dataset/train"), "are they in .*dataset/train[?]"),
        (_within("train", "test"), "bolt: holds test and train. If it is the data set"),
        (_loose("."), "found none. WARNING: .* holds 1 images without class folders"),
    ],
)
def test_a_part_is_never_taken_for_a_class(
    tmp_path: Path, make: Callable[[Path], None], expected: str
) -> None:
    make(tmp_path / "set")
    with pytest.raises(DataError, match=expected):
        lvlm_va.read_folder(tmp_path / "set", **WHOLE)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    class_folders(tmp_path, 3)
    for seed in range(3):
        image(tmp_path / "train" / f"{seed}.png", 30 + seed)
    splits = lvlm_va.read_folder(tmp_path, **WHOLE)
    assert splits.class_names == (*CLASSES, "train")
    assert "train holds images, not class folders, so it is read as a class" in told(splits)
    for seed in range(3):
        image(tmp_path / "test" / f"{seed}.png", 40 + seed)
    with pytest.raises(DataError, match="test and train hold images"):
        lvlm_va.read_folder(tmp_path, **WHOLE)
    four = lvlm_va.read_folder(tmp_path, classes=["train", "test", *CLASSES], **WHOLE)
    assert four.class_names == ("train", "test", *CLASSES)


def test_what_is_not_read_is_a_warning_of_check(tmp_path: Path) -> None:
    class_folders(tmp_path / "d" / "train", 10)
    class_folders(tmp_path / "d" / "dev", 2, first=30)
    for seed in range(7):
        image(tmp_path / "d" / "test" / f"{seed}.png", 50 + seed)
    image(tmp_path / "d" / "train" / "stray.png", 60)
    (tmp_path / "d" / "train" / "nut" / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "words.yaml").write_text("classes: {bolt: A bolt., nut: A nut.}")
    data = {"name": "folder", "path": str(tmp_path / "d"), "size": SIDE}
    numbers = {"num_images": 4, "baselines": 4}
    config = parse_config(
        {"specifications": str(tmp_path / "words.yaml"), "data": data, "explain": numbers, "device": "cpu"}
    )
    warnings = "\n".join(f.text for f in check_project(config) if f.outcome == "warning")
    for expected in (
        "not read: dev (4 images), test (7 images)",
        "dev may be a part",
        "test holds images, but no class folders",
        "holds 1 images beside the class folders, not read: stray.png",
        "train/nut/gone.png: a broken link: nowhere.png cannot be reached",
    ):
        assert expected in warnings


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_links_are_told_and_what_is_no_file_is_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class_folders(tmp_path / "d", 3)
    class_folders(tmp_path / "other", 2, first=40)
    bolt, nut = tmp_path / "d" / "bolt", tmp_path / "d" / "nut"
    (bolt / "within.png").symlink_to("000.png")
    (bolt / "out.png").symlink_to(tmp_path / "other" / "bolt" / "040.png")
    (nut / "linked").symlink_to(tmp_path / "other" / "nut", target_is_directory=True)
    (nut / "up").symlink_to("..", target_is_directory=True)
    (nut / "again").symlink_to("linked", target_is_directory=True)
    (nut / "self.png").symlink_to("self.png")
    (nut / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(nut / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(nut)  # names of sockets are short
        server.bind("socket.png")
        splits = lvlm_va.read_folder(tmp_path / "d", **WHOLE)
    reasons = dict(splits.set_aside)
    assert reasons.pop("nut/up") == "a link to a folder around it or read already"
    assert "a broken link: self.png" in reasons.pop("nut/self.png")
    assert reasons.pop("nut/zero.png") == "a device, not a file"
    assert reasons.pop("nut/pipe.png") == "a named pipe, not a file"
    assert reasons.pop("nut/socket.png") == "a socket, not a file"
    assert len(reasons) == 1, "one of two links to one folder"
    assert len(splits.train) == 3 + 1 + 1 + 3 + 2
    assert f"links lead out of {tmp_path / 'd'}, 3 times" in told(splits)
    assert "bolt/out.png" in told(splits)


def test_folders_that_may_not_be_opened_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(tmp_path / "train", 3)
    class_folders(tmp_path / "test", 2, first=9)
    scandir, locked = os.scandir, [tmp_path / "train" / "nut"]

    def guarded(path: Any) -> Any:  # the rights of folders do not bind root, who may run this
        if Path(path) in locked:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(DataError, match=r"class 'nut'.*train/nut: the folder cannot be opened .Permission"):
        lvlm_va.read_folder(tmp_path, **WHOLE)
    for folder in ("test", "train", "."):
        locked[:] = [tmp_path / folder]
        with pytest.raises(DataError, match=r"the folder cannot be opened .Permission denied"):
            lvlm_va.read_folder(tmp_path, **WHOLE)


def test_a_part_that_cannot_be_used_is_not_replaced(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", 10)
    for name in CLASSES:
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "a.png").write_text("no image")
    with pytest.raises(DataError, match="no usable image in the part test"):
        lvlm_va.read_folder(tmp_path, size=SIDE)
    for name in CLASSES:
        (tmp_path / "test" / name / "a.png").unlink()
        (tmp_path / "test" / name / "a.png").symlink_to("gone")
    with pytest.raises(DataError, match=r"no usable image in the part test .test/bolt/a.png: a broken link"):
        lvlm_va.read_folder(tmp_path, size=SIDE)


def _foreign(folder: Path, name: bytes) -> Path:
    try:
        path = folder / os.fsdecode(name)
        path.touch()
    except OSError:
        pytest.skip("this file system takes no such name")
    return path


def test_names_that_are_no_text_are_set_aside_and_named(tmp_path: Path) -> None:
    class_folders(tmp_path / "d", 5)
    for n, name in enumerate((b"Schr\xe4ube.png", b"a\nb\x1b]0;x\x07.png")):
        (tmp_path / "d" / "bolt" / f"00{n}.png").rename(_foreign(tmp_path / "d" / "bolt", name))
    splits = lvlm_va.read_folder(tmp_path / "d", **WHOLE)
    assert splits.set_aside == {
        r"bolt/Schr\xe4ube.png": "its name is not UTF-8 text; rename it",
        r"bolt/a\nb\x1b]0;x\x07.png": "its name holds a control character; rename it",
    }
    assert len(splits.train) == 8
    assert all(word.isprintable() for word in (*splits.train.ids, *splits.set_aside))
    assert init_project(tmp_path / "p", data=tmp_path / "d")
    (tmp_path / "d" / "nut").rename(tmp_path / "d" / os.fsdecode(b"N\xfcsse"))
    for _ in range(2):  # the first failure does not stand in the way of the second
        with pytest.raises(DataError, match=r"N\\xfcsse: its name is not UTF-8 text"):
            init_project(tmp_path / "q", data=tmp_path / "d")
        assert not (tmp_path / "q").exists()
    with pytest.raises(DataError, match=r"N\\xfcsse: its name is not UTF-8 text"):
        init_project(tmp_path / "q", data=tmp_path / "d" / os.fsdecode(b"N\xfcsse"))


def test_init_writes_both_files_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Path.open
    failing: list[BaseException] = [OSError(28, "No space left on device"), KeyboardInterrupt()]

    def full(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "specifications.yaml":
            raise failing[0]
        return before(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        init_project(tmp_path)
    assert not list(tmp_path.iterdir())
    del failing[0]
    with pytest.raises(KeyboardInterrupt):
        init_project(tmp_path)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(Path, "open", before)
    assert len(init_project(tmp_path)) == 2


def test_deep_and_folded_trees_are_read_once(tmp_path: Path) -> None:
    """20 folders, each linked to twice: 2^20 ways lead to the last."""
    class_folders(tmp_path, 1)
    deep = tmp_path / "nut"
    for n in range(20):
        following = tmp_path / "bolt" / f"d{n}"
        image(following / f"{n}.png", 100 + n)
        (deep / "a").symlink_to(following, target_is_directory=True)
        (deep / "b").symlink_to(following, target_is_directory=True)
        deep = following
    assert len(Tree(tmp_path).below(tmp_path / "nut").images) == 21
    assert len(Tree(tmp_path).below(tmp_path / "bolt").images) == 21


@given(st.text())
def test_a_name_is_shown_as_one_line_that_can_be_written(name: str) -> None:
    text = shown(name)
    text.encode()
    assert name_problem(text) is None
    if name_problem(name) is None:
        assert text == name


@given(st.binary().map(os.fsdecode))
def test_so_is_every_name_of_a_file(name: str) -> None:
    shown(name).encode()
    assert name_problem(shown(name)) is None


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        *((name, TRAIN) for name in ("train", "Training", "TRAINING_SET", "train data", "trn", "1_train")),
        *((name, VALIDATION) for name in ("val", "Valid", "validation", "val-images", "ValidationSet")),
        *((name, name.lower()) for name in ("test", "Test", "test_set", "testing", "test-b")),
        *((name, None) for name in ("dev", "eval", "train_val", "train2", "trainee", "valve", "", "0", "é")),
    ],
)  # fmt: skip
def test_split_names(said: str, meant: str | None) -> None:
    if meant is None:
        with pytest.raises(DataError, match="unknown split"):
            split_name(said)
    else:
        assert split_name(said) == meant


@pytest.mark.parametrize("name", ["testis", "freight train", "valve", "trainers", "device", "set", "images"])
def test_names_of_classes_are_no_names_of_parts(name: str) -> None:
    assert not names_a_part(name)


def test_a_pipe_in_a_manifest_does_not_hold_the_command_up(tmp_path: Path) -> None:
    class_folders(tmp_path, 6)
    os.mkfifo(tmp_path / "pipe.png")
    lines = [f"{f.relative_to(tmp_path)},{f.parent.name}" for f in sorted(tmp_path.glob("*/*.png"))]
    (tmp_path / "m.csv").write_text("\n".join(["file,label,mask", *[f"{line}," for line in lines[:-1]],
                                               f"{lines[-1]},pipe.png", "pipe.png,nut,"]))  # fmt: skip
    code = "import sys, lvlm_va; print(dict(lvlm_va.read_manifest(sys.argv[1], size=16).set_aside))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.csv")],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert "'pipe.png': 'a named pipe, not a file'" in done.stdout, done.stderr
    assert "'nut/005.png': 'its mask: pipe.png: a named pipe, not a file'" in done.stdout
