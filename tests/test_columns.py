"""Tables as challenges publish them: which columns `init` finds, labels over several columns, ids."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import lvlm_va
from lvlm_va.config.loading import load_config
from lvlm_va.data.columns import find_columns
from lvlm_va.data.one_hot import one_hot
from lvlm_va.errors import ConfigError, DataError
from lvlm_va.io.console import QuietConsole
from lvlm_va.project.init import init_project
from lvlm_va.project.inputs import load_splits
from parts import SIDE
from test_manifest_tables import WHOLE, files, table

N = 8  # images of each of the two classes


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVLM_VA_CACHE", str(tmp_path_factory.mktemp("cache")))


class Said(QuietConsole):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def flat(root: Path, *folders: str) -> list[str]:
    """N bolts, then N nuts, called ISIC_0000000.png and so on, spread over `folders`."""
    called = []
    for n, name in enumerate(files(root / "made", N)):
        folder = root / folders[n % len(folders)]
        folder.mkdir(parents=True, exist_ok=True)
        (root / "made" / name).rename(folder / f"ISIC_{n:07}.png")
        called.append(f"ISIC_{n:07}")
    for left in (root / "made").iterdir():
        left.rmdir()
    (root / "made").rmdir()
    return called


def kind(n: int) -> str:
    return "bolt" if n < N else "nut"


def ham(root: Path) -> tuple[Path, dict[str, Any]]:
    ids = flat(root, "HAM10000_images_part_1", "HAM10000_images_part_2")
    rows = [(f"HAM_{n // 2}", i, kind(n), "histo", str(n), "male", "back") for n, i in enumerate(ids)]
    header = "lesion_id,image_id,dx,dx_type,age,sex,localization"
    return table(root / "HAM10000_metadata.csv", rows, header), {
        "columns": {"file": "image_id", "label": "dx"}
    }


def isic(root: Path) -> tuple[Path, dict[str, Any]]:
    ids = flat(root, "ISIC2018_Task3_Training_Input")
    rows = [(i, str(float(n < N)), str(float(n >= N))) for n, i in enumerate(ids)]
    return table(root / "ISIC2018_Task3_Training_GroundTruth.csv", rows, "image,MEL,NV"), {
        "columns": {"file": "image", "label": ["MEL", "NV"]}
    }


def waterbirds(root: Path) -> tuple[Path, dict[str, Any]]:
    rows = [
        (str(n), f, str(int(n >= N)), str(n % 3), str(n % 2), "/f/x.jpg")
        for n, f in enumerate(files(root, N))
    ]
    header = "img_id,img_filename,y,split,place,place_filename"
    return table(root / "metadata.csv", rows, header), {
        "columns": {"file": "img_filename", "label": "y"},
        "splits": {"0": "train", "1": "validation", "2": "test"},
    }


def kaggle(root: Path) -> tuple[Path, dict[str, Any]]:
    rows = [(i, str(int(n >= N))) for n, i in enumerate(flat(root, "train_images"))]
    return table(root / "train.csv", rows, "id_code,diagnosis"), {
        "columns": {"file": "id_code", "label": "diagnosis"}
    }


def chexpert(root: Path) -> tuple[Path, dict[str, Any]]:
    rows = [
        (f"CheXpert-v1.0-small/{f}", "Male", "1.0" if n < N else "", "" if n < N else "1.0")
        for n, f in enumerate(files(root, N))
    ]
    return table(root / "train.csv", rows, "Path,Sex,No Finding,Pneumonia"), {
        "columns": {"file": "Path", "label": ["No Finding", "Pneumonia"]}
    }


def plain(root: Path) -> tuple[Path, dict[str, Any]]:
    rows = [(f, f.split("/")[0], "train") for f in files(root, N)]
    return table(root / "m.csv", rows, "file,label,split"), {}


def windows(root: Path) -> tuple[Path, dict[str, Any]]:
    rows = [(f"C:\\bilder\\{f}".replace("/", "\\"), f.split("/")[0]) for f in files(root, N)]
    path = root / "m.csv"
    path.write_text("sep=;\r\nDatei;Klasse\r\n" + "".join(f"{a};{b}\r\n" for a, b in rows), newline="")
    return path, {"columns": {"file": "Datei", "label": "Klasse"}}


@pytest.mark.parametrize("make", [ham, isic, waterbirds, kaggle, chexpert, plain, windows])
def test_init_finds_and_names_the_columns(tmp_path: Path, make: Any) -> None:
    path, expected = make(tmp_path / "set")
    console = Said()
    init_project(tmp_path / "p", data=path, settings=[f"data.size={SIDE}"], console=console)
    written = yaml.safe_load((tmp_path / "p" / "project.yaml").read_text(encoding="utf-8"))["data"]
    assert {key: written[key] for key in ("columns", "splits") if written[key]} == expected
    assert any(line.startswith(f"Columns of {path.name}: ") for line in console.lines)
    splits = load_splits(load_config(tmp_path / "p" / "project.yaml"))
    sizes = [len(splits.train), len(splits.validation or ()), *map(len, splits.tests.values())]
    assert sum(sizes) == 2 * N
    assert not splits.set_aside
    # The first N images of every table are of the first class.
    for part in (splits.train, *splits.tests.values()):
        for name, label in zip(part.ids, part.labels.tolist(), strict=True):
            digits = "".join(c for c in name if c.isdigit())
            first = int(digits) < N if "ISIC_" in name else "bolt" in name
            assert label == (0 if first else 1), name


@pytest.mark.parametrize(
    ("header", "rows", "told"),
    [
        ("a,b", [("x", "y"), ("z", "y")], "no column names files"),
        ("file,age", [("{0}", "1"), ("{1}", "2")], "not clear which column is the class"),
        ("file,label", [], "no row below"),
    ],
)
def test_what_is_not_clear_is_asked(tmp_path: Path, header: str, rows: list[Any], told: str) -> None:
    names = files(tmp_path, 2)
    path = table(tmp_path / "m.csv", [tuple(cell.format(*names) for cell in row) for row in rows], header)
    with pytest.raises(DataError, match=told):
        init_project(tmp_path / "p", data=path)
    assert not (tmp_path / "p").exists()


def test_what_is_said_is_not_looked_for(tmp_path: Path) -> None:
    path, _ = waterbirds(tmp_path)
    found = find_columns(path, root=None, given={"label": "place", "split": None})
    assert found.columns == {"file": "img_filename", "label": "place", "split": None}
    assert found.splits == {}
    rows = [(f, f.split("/")[0], str(n % 5)) for n, f in enumerate(files(tmp_path / "folds", N))]
    found = find_columns(table(tmp_path / "folds" / "m.csv", rows, "file,label,split"), root=None, given={})
    assert found.columns == {"split": None}  # five folds are no parts
    assert "left out" in found.told


def test_a_column_of_masks_is_told(tmp_path: Path) -> None:
    rows = [(f, str(n % 2), "") for n, f in enumerate(files(tmp_path, 4))]
    found = find_columns(table(tmp_path / "m.csv", rows, "file,label,mask"), root=None, given={})
    assert "mask as the ground truth of a planted feature" in found.told
    given = {"mask": None}  # of something else, say
    assert "mask as" not in find_columns(tmp_path / "m.csv", root=None, given=given).told


def test_rows_without_a_single_label_are_set_aside_and_told(tmp_path: Path) -> None:
    names = files(tmp_path, 4)
    marks = [("1", "0"), ("1.0", ""), ("1", "1"), ("", ""), ("0", "1"), ("-1", "1"), ("0", "1.0"), ("", "1")]
    path = table(tmp_path / "m.csv", [(f, *m) for f, m in zip(names, marks, strict=True)], "file,A,B")
    lines: list[str] = []
    splits = lvlm_va.read_manifest(
        path, columns={"label": ["B", "A"]}, labels="one", log=lines.append, **WHOLE
    )
    assert splits.class_names == ("B", "A")  # as named: the order of the model's outputs
    assert dict(zip(splits.train.ids, splits.train.labels.tolist(), strict=True)) == dict(
        zip([names[n] for n in (0, 1, 4, 6, 7)], [1, 1, 0, 0, 0], strict=True)
    )
    assert set(splits.set_aside) == {names[2], names[3], names[5]}
    assert "B and A are 1" in splits.set_aside[names[2]]
    assert "uncertain" in splits.set_aside[names[5]]
    assert any("set aside 3 files" in line for line in lines)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"label": ["A"]}, "at least two classes"),
        ({"label": ["A", "A"]}, "at least two classes"),
        ({"label": ["A", "C"]}, "no column 'C'"),
        ({"label": ["A", "file"]}, "line 2: file is"),
        ({"file": ["A", "B"]}, "only label may have several"),
        ({"label": None}, "cannot be left out"),
    ],
)
def test_label_columns_that_cannot_be(tmp_path: Path, columns: dict[str, Any], told: str) -> None:
    path = table(tmp_path / "m.csv", [(f, "1", "0") for f in files(tmp_path, 2)], "file,A,B")
    with pytest.raises((DataError, ConfigError), match=told):
        lvlm_va.read_manifest(path, columns=columns, **WHOLE)


@given(st.lists(st.integers(0, 2), min_size=1), st.sampled_from([("0", "1"), ("0.0", "1.0"), ("", "TRUE")]))
def test_one_hot_gives_the_labels_back(labels: list[int], cells: tuple[str, str]) -> None:
    rows = [{name: cells[k == label] for k, name in enumerate("ABC")} for label in labels]
    found, without = one_hot(rows, "ABC", [f"line {n}" for n in range(len(rows))])
    assert (found, without) == (["ABC"[label] for label in labels], {})


def test_two_files_of_one_name_are_not_chosen_between(tmp_path: Path) -> None:
    ids = flat(tmp_path, "a", "b")
    (tmp_path / "b" / f"{ids[0]}.png").write_bytes((tmp_path / "a" / f"{ids[0]}.png").read_bytes())
    path = table(tmp_path / "m.csv", [(i, kind(n)) for n, i in enumerate(ids)])
    splits = lvlm_va.read_manifest(path, **WHOLE)
    assert list(splits.set_aside) == [ids[0]]
    assert "name the folder with data.root" in splits.set_aside[ids[0]]
    # Where some are in the table's own folder, what is missing is missing.
    (tmp_path / "b" / f"{ids[1]}.png").rename(tmp_path / f"{ids[1]}.png")
    with pytest.raises(DataError, match="no such file"):
        lvlm_va.read_manifest(path, **WHOLE)


@pytest.mark.parametrize(("train", "validation"), [("train2017", "val2017"), ("TRAIN_2012", "valid_2012")])
def test_parts_with_their_year(tmp_path: Path, train: str, validation: str) -> None:
    files(tmp_path / train)
    files(tmp_path / validation)
    splits = lvlm_va.read_folder(tmp_path, **WHOLE)
    assert (len(splits.train), len(splits.validation or ())) == (8, 8)
