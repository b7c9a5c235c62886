"""Tables as they are met: labels that are missing or numbers, Excel's first line, paths of other machines."""

import csv
import io
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lvlm_va
from lvlm_va.config.loading import parse_config
from lvlm_va.data.listing import label_classes, whole_number
from lvlm_va.data.manifest import read_table
from lvlm_va.errors import ConfigError, DataError
from lvlm_va.project.init import init_project
from lvlm_va.project.inputs import load_splits
from parts import CLASSES, SIDE, class_folders

WHOLE: dict[str, Any] = {"size": SIDE, "validation": 0, "test": 0}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVLM_VA_CACHE", str(tmp_path_factory.mktemp("cache")))


def files(root: Path, per_class: int = 4) -> list[str]:
    """Names of images, those of bolts first."""
    class_folders(root, per_class)
    return [file.relative_to(root).as_posix() for file in sorted(root.glob("*/*.png"))]


def table(path: Path, rows: list[tuple[str, ...]], header: str = "file,label") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def classes_of(labels: list[str], classes: list[str] | None = None) -> tuple[tuple[str, ...], list[int]]:
    return label_classes([(label, f"row {n}") for n, label in enumerate(labels)], classes, where="here")


@pytest.mark.parametrize("missing", ["", "  ", "nan", "NaN", "NA", "N/A", "null", "NULL", "<NA>", "None"])
def test_a_missing_label_is_refused_and_its_line_named(tmp_path: Path, missing: str) -> None:
    names = files(tmp_path)
    rows = [(name, name.split("/")[0]) for name in names]
    rows[2] = (names[2], missing)
    path = table(tmp_path / "m.csv", rows)
    with pytest.raises(DataError, match="line 4: has no label"):
        lvlm_va.read_manifest(path, **WHOLE)
    with pytest.raises(DataError, match="line 4: has no label"):
        init_project(tmp_path / "p", data=path)
    assert not (tmp_path / "p").exists()


def test_a_class_may_be_called_so_where_it_is_named(tmp_path: Path) -> None:
    assert classes_of(["NA", "b"], ["b", "NA"]) == (("b", "NA"), [1, 0])
    assert classes_of(["none", "mild"])[0] == ("mild", "none")
    class_folders(tmp_path, 2)
    (tmp_path / "nut").rename(tmp_path / "None")
    assert lvlm_va.read_folder(tmp_path, **WHOLE).class_names == ("None", "bolt")


@given(st.lists(st.integers(-(10**20), 10**20), min_size=2, max_size=9, unique=True), st.randoms())
def test_numbers_are_in_the_order_of_their_values(numbers: list[int], shuffler: random.Random) -> None:
    labels = [str(number) for number in numbers for _ in range(2)]
    shuffler.shuffle(labels)
    names, found = classes_of(labels)
    assert names == tuple(map(str, sorted(numbers)))
    assert [names[k] for k in found] == labels
    # As pandas writes them where one is missing, in whatever order: the same classes.
    points = [shuffler.choice([label, f"{label}.0", f"{label}."]) for label in labels]
    assert classes_of(points) == (names, found)


@given(st.lists(st.decimals(-100, 100, places=2), min_size=2, max_size=9, unique=True))
def test_so_are_those_with_decimals(numbers: list[Decimal]) -> None:
    names, _ = classes_of([str(abs(n)) if n == 0 else str(n) for n in numbers])
    assert [Decimal(name) for name in names] == sorted(numbers)


@given(st.lists(st.text(st.characters(codec="ascii"), min_size=1), min_size=2, unique=True), st.randoms())
def test_permuted_rows_give_the_same_classes(labels: list[str], shuffler: random.Random) -> None:
    try:
        names, _ = classes_of(labels)
    except DataError:
        names = ()
    shuffler.shuffle(labels)
    try:
        assert classes_of(labels)[0] == names
    except DataError:
        assert names == ()


def test_labels_that_are_numbers_and_classes_that_are() -> None:
    assert classes_of(["-1", "1"])[0] == ("-1", "1")
    assert classes_of(["0.0", "1.0"], ["bolt", "nut"]) == (("bolt", "nut"), [0, 1])
    assert classes_of(["0", "1"], ["1.0", "0.0"]) == (("1.0", "0.0"), [1, 0])
    assert [whole_number(t) for t in ("-0.0", "2.00", "2.50", "1.0.0", "v1.0")] == [
        "0", "2", "2.50", "1.0.0", "v1.0",
    ]  # fmt: skip
    with pytest.raises(DataError, match="row 0: label '0' is no class"):
        classes_of(["0", "1", "2"], ["1", "2"])  # 0 would be the first of them, and 1 too
    with pytest.raises(DataError, match=r"'01' and '1' are one number|'1' and '01' are one number"):
        classes_of(["01", "1"])


def test_csv_and_parquet_give_the_same_classes(tmp_path: Path) -> None:
    names = files(tmp_path)
    rows = [{"file": name, "label": float(n % 2)} for n, name in enumerate(names)]
    import datasets  # it takes seconds

    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "m.parquet")
    table(tmp_path / "m.csv", [(row["file"], str(row["label"])) for row in rows])
    for name in ("m.csv", "m.parquet"):
        splits = lvlm_va.read_manifest(tmp_path / name, **WHOLE)
        assert splits.class_names == ("0", "1")
        assert splits.train.labels.tolist() == [0, 1] * 4


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)


@given(
    st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8),
    st.sampled_from(",;\t"),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "sep={}", '"sep={}"']),
    st.lists(st.integers(0, 8), max_size=4),
)
def test_any_table_with_the_lines_of_its_rows(
    tmp_path_factory: pytest.TempPathFactory,
    cells: list[tuple[str, str]],
    by: str,
    ending: str,
    first: str,
    blank: list[int],
) -> None:
    """Quoted separators in the header, line breaks in cells, blank lines, Excel's sep=."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=by, lineterminator=ending, quoting=csv.QUOTE_ALL)
    if first:
        text.write(first.format(by) + ending)
    writer.writerow(["file", "seen by a, b; c,,\td,;e"])
    lines = []
    for n, row in enumerate(cells):
        text.write(ending * blank.count(n))
        lines.append(_line(text.getvalue()))
        writer.writerow(row)
    path = tmp_path_factory.mktemp("t") / "m.csv"
    path.write_bytes(text.getvalue().encode())
    header, rows, at = read_table(path)
    assert header == ["file", "seen by a, b; c,,\td,;e"]
    assert [tuple(row.values()) for row in rows] == [(a.strip(), b.strip()) for a, b in cells]
    assert at == lines


def _line(before: str) -> int:
    """The number of the next line, as an editor counts."""
    return before.replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1


def test_the_line_of_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text('\n\nfile,label,note\na.png,bolt,"a\nb"\n\nb.png,,x\n')
    with pytest.raises(DataError, match="line 7: has no label"):
        lvlm_va.read_manifest(path)
    path.write_text('sep=;\nfile;label\na.png;bolt\nb.png;nut;"x\n')
    with pytest.raises(DataError, match="line 4: not a table"):
        lvlm_va.read_manifest(path)
    for empty in ("", "\n\n", "sep=,\n", "sep=,\n\n"):
        path.write_text(empty)
        with pytest.raises(DataError, match="is empty; its first line names the columns"):
            lvlm_va.read_manifest(path)


@pytest.mark.parametrize("name", ["a\0b.png", "a\x1b[2J.png", "a\u2028b.png"])
def test_names_that_cannot_be_kept_are_set_aside(tmp_path: Path, name: str) -> None:
    rows = [(file, file.split("/")[0]) for file in files(tmp_path)]
    splits = lvlm_va.read_manifest(table(tmp_path / "m.csv", [*rows, (name, "nut")]), **WHOLE)
    ((shown, reason),) = splits.set_aside.items()
    assert reason == "its name holds a control character; rename it"
    assert shown.isprintable()
    with pytest.raises(DataError, match=r"label 'n\\x00ut': its name holds a control character"):
        lvlm_va.read_manifest(table(tmp_path / "m.csv", [*rows, ("a.png", "n\0ut")]), **WHOLE)


def test_splits_by_number(tmp_path: Path) -> None:
    names = files(tmp_path, 6)
    rows = [(name, str(n // 6), f"{n % 3}{'.0' * (n % 2)}") for n, name in enumerate(names)]
    path = table(tmp_path / "m.csv", rows, "img_filename,y,split")
    columns: dict[str, str | None] = {"file": "img_filename", "label": "y"}
    with pytest.raises(DataError, match=r"(?s)line 2: unknown split '0'.*data.splits: .*split: null"):
        lvlm_va.read_manifest(path, columns=columns)
    meant = {"0": "train", "1": "val", "2": "test"}
    splits = lvlm_va.read_manifest(path, columns=columns, splits=meant, **WHOLE)
    assert (len(splits.train), len(splits.validation or []), len(splits.tests["test"])) == (4, 4, 4)
    assert len(lvlm_va.read_manifest(path, columns=columns | {"split": None}, **WHOLE).train) == 12
    data = {"name": "manifest", "path": str(path), "size": SIDE, "columns": columns}
    config = parse_config({"data": data | {"splits": {0: "train", 1: "val", 2: "test"}}})
    assert len(load_splits(config).train) == 4
    assert len(load_splits(parse_config({"data": data | {"columns": columns | {"split": None}}})).train) == 8
    with pytest.raises(ConfigError, match="label: cannot be left out"):
        lvlm_va.read_manifest(path, columns={"file": "img_filename", "label": None})


def test_names_without_suffix(tmp_path: Path) -> None:
    rows = [(name.removesuffix(".png"), name.split("/")[0]) for name in files(tmp_path)]
    path = table(tmp_path / "m.csv", rows, "image_id,dx")
    with pytest.raises(DataError, match=r"no column 'file'.*Say which it is: data.columns: .file: NAME"):
        lvlm_va.read_manifest(path, **WHOLE)
    setting = "data.columns={file: image_id, label: dx}"
    written = init_project(tmp_path / "p", data=path, settings=[setting])
    assert "columns: {file: image_id, label: dx}" in written[0].read_text()
    with pytest.raises(ConfigError, match="init takes what data is read by"):
        init_project(tmp_path / "q", data=path, settings=["model.name=mlp"])
    columns = {"file": "image_id", "label": "dx"}
    splits = lvlm_va.read_manifest(path, columns=columns, **WHOLE)
    assert len(splits.train) == 8
    assert splits.train.ids[0] == "bolt/000"
    assert "Named without their suffix, and found with it: bolt/000" in splits.remarks[0]
    (tmp_path / "bolt" / "000.jpg").touch()
    splits = lvlm_va.read_manifest(path, columns=columns, **WHOLE)
    assert splits.set_aside == {"bolt/000": "no such file; 000.jpg and 000.png are there: write the suffix"}


@pytest.mark.parametrize(
    ("before", "slash", "said"),
    [
        ("", "\\", "named with \\"),
        ("C:\\study\\data\\", "\\", "Paths of another machine: C:/study/data is read as"),
        ("\\\\server\\share\\", "\\", "Paths of another machine: "),
        ("/home/someone/study/", "/", "Paths of another machine: /home/someone/study is read as"),
    ],
)
def test_paths_of_another_machine(tmp_path: Path, before: str, slash: str, said: str) -> None:
    names = files(tmp_path)
    rows = [(before + name.replace("/", slash), name.split("/")[0]) for name in names]
    splits = lvlm_va.read_manifest(table(tmp_path / "m.csv", rows), **WHOLE)
    assert len(splits.train) == 8
    assert [name.replace("\\", "/").endswith(f) for name, f in zip(splits.train.ids, names, strict=True)]
    assert said in "\n".join(splits.remarks)
    elsewhere = tmp_path / "tables"
    elsewhere.mkdir()
    again = lvlm_va.read_manifest(table(elsewhere / "m.csv", rows), root=tmp_path, **WHOLE)
    assert len(again.train) == 8


def test_a_missing_file_is_not_replaced_by_another_of_its_name(tmp_path: Path) -> None:
    names = files(tmp_path)
    rows = [(str(tmp_path / name), name.split("/")[0]) for name in names]
    (tmp_path / "nut" / "000.png").unlink()
    splits = lvlm_va.read_manifest(table(tmp_path / "m.csv", rows), root=tmp_path / "bolt", **WHOLE)
    assert list(splits.set_aside) == [str(tmp_path / "nut" / "000.png")]
    assert "write it from the folder data.root" in next(iter(splits.set_aside.values()))
    rows = [(f"/elsewhere/{name}", name.split("/")[0]) for name in names]
    with pytest.raises(DataError, match=r"no usable training image.*write it from the folder data\.root"):
        # Below bolt only the last names are there, and they would be bolts all of them.
        lvlm_va.read_manifest(table(tmp_path / "m.csv", rows), root=tmp_path / "bolt", **WHOLE)


def test_links_out_of_the_folder_are_told(tmp_path: Path) -> None:
    names = files(tmp_path / "d")
    files(tmp_path / "other")
    (tmp_path / "d" / "nut" / "000.png").unlink()
    (tmp_path / "d" / "nut" / "000.png").symlink_to(tmp_path / "other" / "nut" / "000.png")
    (tmp_path / "d" / "nut" / "001.png").unlink()
    (tmp_path / "d" / "nut" / "001.png").symlink_to("gone.png")
    path = table(tmp_path / "d" / "m.csv", [(name, name.split("/")[0]) for name in names])
    splits = lvlm_va.read_manifest(path, **WHOLE)
    assert "links lead out of" in splits.remarks[0]
    assert "nut/000.png" in splits.remarks[0]
    assert "a broken link: gone.png" in splits.set_aside["nut/001.png"]
    assert splits.class_names == CLASSES
