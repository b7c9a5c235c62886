"""The user's own images: class folders, manifests, Hugging Face data sets, and what is wrong with them."""

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import lvlm_va
from lvlm_va.data import decoded as decoded_module
from lvlm_va.data.decoded import decode
from lvlm_va.data.held_out import stratified
from lvlm_va.data.imageset import ImageSet, groups_of
from lvlm_va.data.manifest import read_table
from lvlm_va.data.splits import Splits
from lvlm_va.errors import ConfigError, DataError
from lvlm_va.project.fingerprints import set_fingerprint
from parts import CLASSES, SIDE, class_folders, part

OWN = {"size": SIDE}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVLM_VA_CACHE", str(tmp_path_factory.mktemp("cache")))


def everything(splits: Splits) -> dict[str, ImageSet]:
    parts = {"train": splits.train} | dict(splits.tests)
    return parts | ({} if splits.validation is None else {"validation": splits.validation})


def content(images: ImageSet) -> dict[str, tuple[str, bytes]]:
    """Id → (class, pixels)."""
    pixels = images.images(torch.arange(len(images))).mul(255).round().to(torch.uint8)
    names = [images.class_names[k] for k in images.labels.tolist()]
    return {i: (name, x.numpy().tobytes()) for i, name, x in zip(images.ids, names, pixels, strict=True)}


def write_manifest(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def manifest_rows(root: Path, per_class: int, **columns: Any) -> list[dict[str, Any]]:
    """Images below `root`, and one row for each; column values may be functions of the row's number."""
    class_folders(root, per_class)
    files = sorted(root.rglob("*.png"))
    rows = [{"file": f.relative_to(root).as_posix(), "label": f.parent.name} for f in files]
    for n, row in enumerate(rows):
        row |= {name: value(n) if callable(value) else value for name, value in columns.items()}
    return rows


def test_class_folders_alone(tmp_path: Path) -> None:
    said: list[str] = []
    splits = lvlm_va.read_folder(class_folders(tmp_path / "d", 20), **OWN, log=said.append)
    assert splits.class_names == CLASSES
    sizes = {name: Counter(p.labels.tolist()) for name, p in everything(splits).items()}
    assert sizes == {"train": {0: 13, 1: 13}, "validation": {0: 3, 1: 3}, "test": {0: 4, 1: 4}}
    assert len(said) == 2, said  # both parts were held out
    assert all("held out" in line for line in said)
    read = {k: v for images in everything(splits).values() for k, v in content(images).items()}
    assert len(read) == 40, "every image is in one part only"
    for name in CLASSES:
        for seed in range(20):
            assert read[f"{name}/{seed:03d}.png"] == (name, part(name, seed).tobytes())
    assert splits.train.spurious_masks(torch.tensor([0])) is None
    assert groups_of(splits.train) is None
    assert isinstance(splits.train, ImageSet)


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "validation", "test"), ("train", "valid", "test-b")]
)
def test_split_folders(tmp_path: Path, names: tuple[str, str, str]) -> None:
    for n, name in enumerate(names):
        class_folders(tmp_path / name, 3 + n, first=10 * n)
    (tmp_path / "notes").mkdir()
    (tmp_path / names[0] / "bolt" / "deep").mkdir()
    (tmp_path / names[0] / "bolt" / "001.png").rename(tmp_path / names[0] / "bolt" / "deep" / "001.png")
    (tmp_path / names[0] / "bolt" / ".hidden.png").write_text("x")
    said: list[str] = []
    splits = lvlm_va.read_folder(tmp_path, **OWN, log=said.append)
    assert {k: len(v) for k, v in everything(splits).items()} == {"train": 6, "validation": 8, names[2]: 10}
    assert said == [
        "Beside train and its like, not read: notes.",
        "Left out, by names that systems give or that begin with . or @: .hidden.png.",
    ]
    assert f"{names[0]}/bolt/deep/001.png" in splits.train.ids


def test_what_is_missing_is_held_out(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", 10)
    class_folders(tmp_path / "test", 5, first=50)
    splits = lvlm_va.read_folder(tmp_path, validation=4, **OWN)
    assert {k: len(v) for k, v in everything(splits).items()} == {"train": 16, "validation": 4, "test": 10}
    none = lvlm_va.read_folder(tmp_path, validation=0, **OWN)
    assert none.validation is None
    more = lvlm_va.read_folder(tmp_path, validation=6, seed=1, **OWN)
    assert not set(more.validation.ids) >= set(splits.validation.ids), "another seed, another draw"
    assert lvlm_va.read_folder(tmp_path, validation=4, **OWN).validation.ids == splits.validation.ids


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 200)), min_size=6, max_size=80),
    st.floats(0, 0.5),
    st.integers(0, 3),
)
def test_held_out_images(rows: list[tuple[int, int]], share: float, seed: int) -> None:
    rows = [(k % 3, -k - 1) for k in range(9)] + rows  # three of each class, all different
    labels, same = [label for label, _ in rows], [str(image) for _, image in rows]
    count = round(share * len(rows))
    try:
        chosen = stratified(labels, same, count, (seed, 0))
    except DataError:
        assert share > 0.2, "refused only where a class would be used up"
        return
    assert chosen == sorted(set(chosen))
    kept = set(range(len(rows))) - set(chosen)
    assert not {same[i] for i in chosen} & {same[i] for i in kept}, "the same image is on one side only"
    assert {labels[i] for i in kept} == set(labels)
    assert len(chosen) >= count
    if len(set(same)) == len(same):
        assert len(chosen) == count
        for k in set(labels):
            share_of_class = count * labels.count(k) / len(labels)
            assert abs(sum(labels[i] == k for i in chosen) - share_of_class) < 1


def test_manifest(tmp_path: Path) -> None:
    split = ["train", "train", "train", "val", "TEST", "test-b"]
    rows = manifest_rows(
        tmp_path / "d",
        6,
        split=lambda n: split[n % 6],
        tag=lambda n: n % 2,
        site="a",
        id=lambda n: f"p{n // 2}",
    )
    path = write_manifest(tmp_path / "d" / "m.csv", rows)
    splits = lvlm_va.read_manifest(path, groups=["tag", "site"], **OWN)
    assert {k: len(v) for k, v in everything(splits).items()} == {
        "train": 6, "validation": 2, "test": 2, "test-b": 2,
    }  # fmt: skip
    found = groups_of(splits.train)
    assert found is not None
    of = [found.names[g] for g in found.of.tolist()]
    by_file = {row["file"]: row for row in rows}
    expected = [f"{by_file[i]['label']}, tag={by_file[i]['tag']}, site=a" for i in splits.train.ids]
    assert of == expected
    test = groups_of(splits.tests["test-b"])
    assert test is not None
    assert test.names == found.names, "the same groups in every part"
    for images in everything(splits).values():
        for name, (label, pixels) in content(images).items():
            assert label == by_file[name]["label"]
            assert pixels == part(label, int(Path(name).stem)).tobytes()


def test_manifests_say_the_same_in_csv_and_parquet(tmp_path: Path) -> None:
    rows = manifest_rows(
        tmp_path, 6, fold=lambda n: ["train", "valid", "test"][n % 3], grade=lambda n: n // 6
    )
    columns = {"split": "fold", "label": "grade", "file": "path", "id": "name"}
    for n, row in enumerate(rows):
        row |= {"path": row.pop("file"), "name": f"n{n}"}
    import datasets  # it takes seconds

    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "m.parquet")
    write_manifest(tmp_path / "m.csv", rows, delimiter=";")
    root = tmp_path / "elsewhere"
    root.mkdir()
    write_manifest(root / "m.tsv", rows, delimiter="\t")
    options: dict[str, Any] = {"columns": columns, "classes": ["bolt", "nut"], **OWN}
    made = [
        lvlm_va.read_manifest(tmp_path / "m.csv", **options),
        lvlm_va.read_manifest(tmp_path / "m.parquet", **options),
        lvlm_va.read_manifest(root / "m.tsv", root=tmp_path, **options),
    ]
    for splits in made:
        assert splits.class_names == ("bolt", "nut")
        assert "n3" in splits.train.ids
        for name, images in everything(splits).items():
            assert content(images) == content(everything(made[0])[name])


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=8)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=6), st.sampled_from(",;\t"))
def test_any_table_comes_back(
    tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]], by: str
) -> None:
    path = tmp_path_factory.mktemp("t") / "m.csv"
    rows = [{"file": "f" + a, "label": b, "k": c} for a, b, c in cells]
    header, read, lines = read_table(write_manifest(path, rows, by))
    assert (header, read, lines) == (["file", "label", "k"], rows, list(range(2, len(rows) + 2)))


def test_masks(tmp_path: Path) -> None:
    rows = manifest_rows(tmp_path, 6, split=lambda n: ["train", "val", "test"][n % 3], mask="")
    for n, row in enumerate(rows[::2]):
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        mask[n : n + 4, :5] = [1, 255][n % 2]  # 0 and 1, or 0 and 255
        Image.fromarray(mask).save(tmp_path / f"mask{n}.png")
        row["mask"] = f"mask{n}.png"
    wrong = tmp_path / "mask5.png"
    Image.new("L", (3, 4)).save(wrong)
    splits = lvlm_va.read_manifest(write_manifest(tmp_path / "m.csv", rows), **OWN)
    assert splits.set_aside == {rows[10]["file"]: "its mask is 3×4 pixels, the image 16×16"}
    number = {row["file"]: n for n, row in enumerate(rows)}
    for images in everything(splits).values():
        truth = images.spurious_masks(torch.arange(len(images)))
        assert truth is not None
        assert truth.dtype == torch.bool
        for name, mask in zip(images.ids, truth, strict=True):
            expected = torch.zeros(SIDE, SIDE, dtype=torch.bool)
            if number[name] % 2 == 0:
                expected[number[name] // 2 : number[name] // 2 + 4, :5] = True
            assert torch.equal(mask, expected)


def test_bad_images_are_named_and_set_aside(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", 8)
    class_folders(tmp_path / "test", 3, first=20)
    bolt = tmp_path / "train" / "bolt"
    whole = (bolt / "000.png").read_bytes()
    (bolt / "000.png").write_bytes(whole[: len(whole) // 2])
    (bolt / "001.png").write_text("not an image")
    (bolt / "notes.txt").write_text("nothing")
    said: list[str] = []
    splits = lvlm_va.read_folder(tmp_path, validation=2, **OWN, log=said.append)
    assert set(splits.set_aside) == {f"train/bolt/{n}" for n in ("000.png", "001.png", "notes.txt")}
    assert "cannot be decoded" in splits.set_aside["train/bolt/000.png"]
    assert splits.set_aside["train/bolt/001.png"] == "not an image in a format that can be read"
    assert len(splits.train) + len(splits.validation) == 14
    (warning,) = [line for line in said if line.startswith("WARNING")]
    assert all(name in warning for name in splits.set_aside)
    (bolt / "000.png").write_bytes(whole)
    assert "train/bolt/000.png" not in lvlm_va.read_folder(tmp_path, **OWN).set_aside, "it was mended"


def test_every_image_counts_in_the_fingerprint_of_a_set(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", 70)
    read = {"validation": 0, "test": 0, **OWN}
    before = set_fingerprint(lvlm_va.read_folder(tmp_path, **read).train)
    assert set_fingerprint(lvlm_va.read_folder(tmp_path, **read).train) == before
    Image.fromarray(part("bolt", 99)).save(tmp_path / "train" / "bolt" / "001.png")  # not one of the sample
    assert set_fingerprint(lvlm_va.read_folder(tmp_path, **read).train) != before


def test_leaks_are_found_by_what_the_images_show(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", 8)
    class_folders(tmp_path / "test", 4, first=5)  # 5, 6, 7 of both classes are in both
    (tmp_path / "test" / "bolt" / "005.png").unlink()
    (tmp_path / "test" / "nut" / "005.png").unlink()
    Image.fromarray(part("nut", 5)).save(tmp_path / "test" / "nut" / "other.bmp")  # another file, same image
    said: list[str] = []
    splits = lvlm_va.read_folder(tmp_path, validation=0, **OWN, log=said.append)
    (leak,) = splits.leaks
    assert (leak.parts, leak.count) == (("train", "test"), 5)
    assert ("train/nut/005.png", "test/nut/other.bmp") in leak.examples
    assert ("train/bolt/007.png", "test/bolt/007.png") in leak.examples
    assert any("WARNING" in line and "5 images of test are also in train" in line for line in said)


def test_test_sets_may_share_images(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", 4)
    class_folders(tmp_path / "test", 4, first=5)
    class_folders(tmp_path / "test-easy", 2, first=5)
    said: list[str] = []
    splits = lvlm_va.read_folder(tmp_path, validation=0, **OWN, log=said.append)
    assert len(splits.tests) == 2
    assert splits.leaks == []
    assert not any("WARNING" in line for line in said)


def test_what_is_held_out_does_not_leak(tmp_path: Path) -> None:
    class_folders(tmp_path, 10)
    for name in CLASSES:
        for file in sorted((tmp_path / name).iterdir()):
            Image.open(file).save(file.with_name(f"copy-{file.name}"))
    said: list[str] = []
    splits = lvlm_va.read_folder(tmp_path, **OWN, log=said.append)
    assert splits.leaks == []
    assert len(splits.tests["test"]) == 8
    Image.fromarray(part("bolt", 3)).save(tmp_path / "nut" / "lie.png")
    lvlm_va.read_folder(tmp_path, **OWN, validation=0, test=0, log=said.append)
    assert "the same image in two classes, 1 times: bolt/003.png (bolt) = nut/lie.png (nut)" in said[-1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: [row.pop("label") for row in rows], "no column 'label'; did you mean 'labels'"),
        (lambda rows: rows[3].update(label="nutt"), "line 5: label 'nutt' is no class; did you mean 'nut'"),
        (lambda rows: rows[3].update(label="2"), "line 5: label '2' is no class"),
        (lambda rows: rows[2].update(split="trian"), "line 4: unknown split 'trian'; did you mean 'train'"),
        (lambda rows: rows[2].update(split=""), "line 4: unknown split ''"),
        (lambda rows: rows[2].update(file=rows[0]["file"]), "line 4: .*is listed already .line 2"),
        (lambda rows: rows[2].update(file=""), "line 4: names no file"),
        (lambda rows: [r.update(label="bolt") for r in rows], "no usable training image of class 'nut'"),
        (lambda rows: [r.update(file="x" + r["file"]) for r in rows], "'nut'.*set aside.*no such file"),
        (lambda rows: [r.update(split="test") for r in rows], "no usable training image"),
    ],
)  # fmt: skip
def test_manifests_that_cannot_be_used(tmp_path: Path, change: Any, told: str) -> None:
    rows = manifest_rows(tmp_path, 3, split="train", labels="x")
    change(rows)
    with pytest.raises(DataError, match=told):
        lvlm_va.read_manifest(write_manifest(tmp_path / "m.csv", rows), classes=CLASSES, **OWN)


def test_manifests_that_are_none(tmp_path: Path) -> None:
    def refused(told: str, text: bytes, name: str = "m.csv", **options: Any) -> None:
        (tmp_path / name).write_bytes(text)
        with pytest.raises((DataError, ConfigError), match=told):
            lvlm_va.read_manifest(tmp_path / name, **OWN | options)

    refused("is empty; its first line names the columns", b"")
    refused("line 3: the header has 2 cells, this row 1", b"file,label\na.png,x\nb.png\n")
    refused("line 2: the header has 2 cells, this row 3", b"file,label\na.png,x,y\n")
    refused("not a table of UTF-8", b"file,label\n\xff\xfe,x\n")
    refused("not a Parquet file", b"file,label\n", "m.parquet")
    refused("needs two classes; found none", b"file,label\n")
    refused("needs two classes; found x", b"file,label\na.png,x\n")
    refused("no column 'hospital'; did you mean 'hopsital'", b"file,label,hopsital\n", groups=["hospital"])
    refused("unknown column 'flie' in columns; did you mean 'file'", b"file,label\n", columns={"flie": "f"})
    refused("two columns have the same name", b"file,label,a,a\n")
    refused("a share below 1 or a whole number", b"file,label\n", validation=1.5)
    with pytest.raises(DataError, match="no such manifest"):
        lvlm_va.read_manifest(tmp_path / "none.csv")


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    def refused(told: str, root: Path, **options: Any) -> None:
        with pytest.raises(DataError, match=told):
            lvlm_va.read_folder(root, **OWN, **options)

    refused("no such folder", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    refused("needs two classes; found none", tmp_path / "empty")
    class_folders(tmp_path / "a" / "test", 2)
    refused("there is test, but no train", tmp_path / "a")
    class_folders(tmp_path / "b" / "train", 4)
    class_folders(tmp_path / "b" / "val", 1, first=9)
    (tmp_path / "b" / "val" / "nut").rename(tmp_path / "b" / "val" / "nuts")
    refused("label 'nuts' is no class; did you mean 'nut'", tmp_path / "b")
    class_folders(tmp_path / "c", 2)
    (tmp_path / "c" / "screw").mkdir()
    (tmp_path / "c" / "screw" / "a.png").write_text("no image")
    refused("no usable training image of class 'screw'", tmp_path / "c")
    class_folders(tmp_path / "d", 2)
    refused("label 'nut' is no class", tmp_path / "d", classes=["bolt", "screw"])
    refused("leaves none of some class|hold out fewer", tmp_path / "d", test=0.9)


def test_mixed_images_and_channels(tmp_path: Path) -> None:
    class_folders(tmp_path, 6)
    assert lvlm_va.read_folder(tmp_path, **OWN).train.images(torch.tensor([0])).shape == (1, 1, SIDE, SIDE)
    Image.new("RGB", (40, 20), (200, 0, 0)).save(tmp_path / "bolt" / "red.jpg")
    splits = lvlm_va.read_folder(tmp_path, size=8, validation=0, test=0)
    assert splits.train.images(torch.arange(13)).shape == (13, 3, 8, 8)
    red = splits.train.images(torch.tensor([list(splits.train.ids).index("bolt/red.jpg")]))[0]
    assert red[0].min() > 0.75
    assert red[1:].max() < 0.05
    grey = lvlm_va.read_folder(tmp_path, size=8, channels="grey", validation=0, test=0)
    assert grey.train.images(torch.tensor([0])).shape == (1, 1, 8, 8)


def test_images_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def image(row: int) -> np.ndarray:
        read.append(row)
        if row == 3:
            raise DataError("damaged")
        return np.full((4, 4), row, dtype=np.uint8)

    def again(names: list[object], **options: Any) -> Any:
        read.clear()
        return decode(names, image, **{"size": 4, "resize": "crop", "channels": "auto"} | options)

    monkeypatch.setattr(decoded_module, "_CHUNK", 7)
    first = again(list(range(20)))
    assert sorted(read) == list(range(20))
    second = again(list(range(20)))
    assert read == [3], "only what could not be read is tried again"
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert [int(first.pixels[n].max()) for n in range(20)] == [0, 1, 2, 0, *range(4, 20)]
    assert (first.problems, second.problems) == ({3: "damaged"}, {3: "damaged"})
    assert list(second.digests) == list(first.digests)
    assert not first.pixels.flags.writeable
    again([*range(19), "changed"])
    assert len(read) == 20, "one image changed"
    again(list(range(20)), size=5)
    assert len(read) == 20, "another preprocessing"
    for file in decoded_module.cache_directory().rglob("pixels.u8"):
        file.write_bytes(file.read_bytes()[:-1])
    again(list(range(20)))
    assert len(read) == 20, "a file cut short is not used"
    assert not list(decoded_module.cache_directory().rglob("*.part"))
    monkeypatch.setenv("LVLM_VA_CACHE", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="name another folder with LVLM_VA_CACHE"):
        again([0])


def test_huggingface(tmp_path: Path) -> None:
    import datasets

    def made(per_class: int, first: int) -> datasets.Dataset:
        rows = [(name, seed) for name in CLASSES for seed in range(first, first + per_class)]
        return datasets.Dataset.from_dict(
            {
                "image": [Image.fromarray(part(name, seed)) for name, seed in rows],
                "kind": [CLASSES.index(name) for name, _ in rows],
                "site": [seed % 2 for _, seed in rows],
            },
            features=datasets.Features(
                image=datasets.Image(),
                kind=datasets.ClassLabel(names=list(CLASSES)),
                site=datasets.Value("int64"),
            ),
        )

    data = datasets.DatasetDict(train=made(10, 0), validation=made(3, 20), test=made(2, 30))
    options: dict[str, Any] = {"image": "image", "label": "kind", **OWN}
    splits = lvlm_va.from_huggingface(data, groups=["site"], **options)
    assert {k: len(v) for k, v in everything(splits).items()} == {"train": 20, "validation": 6, "test": 4}
    assert splits.class_names == CLASSES
    assert content(splits.train)["train-13"] == ("nut", part("nut", 3).tobytes())
    found = groups_of(splits.train)
    assert found is not None
    assert found.names == ("bolt, site=0", "bolt, site=1", "nut, site=0", "nut, site=1")
    alone = lvlm_va.from_huggingface(made(10, 0), **options)
    assert {k: len(v) for k, v in everything(alone).items()} == {"train": 13, "validation": 3, "test": 4}
    with pytest.raises(DataError, match="no column 'images'; did you mean 'image'"):
        lvlm_va.from_huggingface(data, **options | {"image": "images"})
    with pytest.raises(DataError, match=r"not a datasets\.Dataset"):
        lvlm_va.from_huggingface([1, 2], **options)
