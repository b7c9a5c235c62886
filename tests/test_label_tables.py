"""Several labels an image: in tables, folders and torch data sets, and through the whole product."""

import html
import re
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import yaml
from torch.utils.data import TensorDataset

import drawn_labels
import lvlm_va
from lvlm_va.config.loading import parse_config
from lvlm_va.data.imageset import groups_of
from lvlm_va.data.label_lists import is_list_column
from lvlm_va.data.own import load_folder
from lvlm_va.data.torch_dataset import from_torch
from lvlm_va.errors import ConfigError, DataError, RunError
from lvlm_va.io.console import QuietConsole
from lvlm_va.project.init import init_project
from lvlm_va.project.project import Project
from lvlm_va.project.tracking import _metrics
from lvlm_va.report.summary import summary_table
from lvlm_va.study.build import build_study
from test_manifest_tables import WHOLE, files, table

UNKNOWN = -1.0


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVLM_VA_CACHE", str(tmp_path_factory.mktemp("cache")))


MARKS = [("1", "0"), ("1.0", "1"), ("0", "0"), ("-1", "1.0"), ("", "0"), ("0", "1"), ("0", ""), ("1", "0")]
READ = [[1, 0], [1, 1], [0, 0], [UNKNOWN, 1], [UNKNOWN, 0], [0, 1], [0, UNKNOWN], [1, 0]]


def test_a_column_for_each_label(tmp_path: Path) -> None:
    names = files(tmp_path, 4)
    rows = [(f, *m, str(n % 2)) for n, (f, m) in enumerate(zip(names, MARKS, strict=True))]
    path = table(tmp_path / "m.csv", rows, "file,A,B,tube")
    lines: list[str] = []
    columns = {"label": ["A", "B"]}
    splits = lvlm_va.read_manifest(path, columns=columns, groups=["tube"], log=lines.append, **WHOLE)
    assert splits.several_labels
    assert splits.class_names == ("A", "B")
    assert splits.train.labels.tolist() == READ
    assert not splits.set_aside
    assert any("16 labels 1 uncertain (-1) and 2 empty" in line for line in lines)
    assert any(
        "5 of 8 rows have not exactly one label" in line and "data.labels: one" in line for line in lines
    )
    groups = groups_of(splits.train)
    assert groups is not None
    assert groups.names[groups.of[0, 0]] == "A, tube=0"
    assert groups.names[groups.of[2, 1]] == "no B, tube=0"
    assert groups.of[3, 0] == -1
    one = lvlm_va.read_manifest(path, columns=columns, labels="one", **WHOLE)
    assert one.train.labels.tolist() == [0, 1, 0]  # the others are set aside
    turned = lvlm_va.read_manifest(path, columns=columns, classes=["B", "A"], **WHOLE)
    assert turned.train.labels.flip(1).tolist() == READ


@pytest.mark.parametrize(
    ("rows", "options", "told"),
    [
        ([("1", "1"), ("0", "x"), ("1", "0")], {}, "line 3: B is 'x'"),
        ([("1", "1"), ("1", "0"), ("1", "")], {}, "known not to have the label 'A'.*0 in its column"),
        ([("1", "0"), ("0", "0"), ("0", "")], {}, "no usable training image has the label 'B'"),
        ([("1", "1"), ("0", "0"), ("1", "0")], {"classes": ["A", "C"]}, "name the same"),
    ],
)
def test_columns_that_cannot_be_labels(
    tmp_path: Path, rows: list[tuple[str, str]], options: dict[str, Any], told: str
) -> None:
    path = table(
        tmp_path / "m.csv", [(f, *m) for f, m in zip(files(tmp_path), rows, strict=False)], "file,A,B"
    )
    with pytest.raises(DataError, match=told):
        lvlm_va.read_manifest(path, columns={"label": ["A", "B"]}, labels="several", **WHOLE, **options)


def test_a_few_mistakes_do_not_make_several_labels(tmp_path: Path) -> None:
    names = files(tmp_path, 10)
    rows = [(f, str(int(n < 10)), str(int(n >= 10 or n == 0))) for n, f in enumerate(names)]
    path = table(tmp_path / "m.csv", rows, "file,A,B")
    splits = lvlm_va.read_manifest(path, columns={"label": ["A", "B"]}, **WHOLE)
    assert splits.train.labels.shape == (19,)
    assert list(splits.set_aside) == [names[0]]
    several = lvlm_va.read_manifest(path, columns={"label": ["A", "B"]}, labels="several", **WHOLE)
    assert several.train.labels.sum(0).tolist() == [10, 11]


@pytest.mark.parametrize("separator", ["|", ";", " | "])
def test_lists_in_one_column(tmp_path: Path, separator: str) -> None:
    cells = [separator.join(c) for c in (["Mass"], ["Mass", "Edema"], [], ["Edema"], ["No Finding"])]
    names = files(tmp_path)[: len(cells)]
    path = table(tmp_path / "m.csv", list(zip(names, cells, strict=True)))
    splits = lvlm_va.read_manifest(path, **WHOLE)
    assert splits.class_names == ("Edema", "Mass")
    assert splits.train.labels.tolist() == [[0, 1], [1, 1], [0, 0], [1, 0], [0, 0]]
    with pytest.raises(DataError, match="label 'Mass' is no class; did you mean 'Mas'"):
        lvlm_va.read_manifest(path, classes=["Mas", "Edema"], labels="several", **WHOLE)


@pytest.mark.parametrize(
    ("cells", "classes", "lists"),
    [
        (["a", "b", "a"], None, False),
        (["a|b", "c|d", "a|b"], None, False),  # the names of two classes
        (["a;b", "c", "c;a"], None, True),
        (["left;sound", "right;sound"], ["left;sound", "right;sound"], False),
    ],
)
def test_which_columns_are_lists(cells: list[str], classes: list[str] | None, lists: bool) -> None:
    assert is_list_column(cells, classes) == lists


def test_what_is_held_out_has_every_label(tmp_path: Path) -> None:
    names = files(tmp_path, 20)
    rows = [
        (f, str(int(n % 10 == 0)), str(n % 2)) for n, f in enumerate(names)
    ]  # of four images one is drawn
    path = table(tmp_path / "m.csv", rows, "file,rare,common")
    for seed in range(5):
        splits = lvlm_va.read_manifest(
            path, columns={"label": ["rare", "common"]}, size=16, validation=0.25, test=0.25, seed=seed
        )
        assert splits.validation is not None
        for part in (splits.train, splits.validation, splits.tests["test"]):
            assert bool(((part.labels == 1).any(0) & (part.labels == 0).any(0)).all())


def test_folders_and_hugging_face_have_one_class(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="in class folders an image has one class"):
        load_folder(parse_config({"data": {"path": str(tmp_path), "labels": "several"}}).data, print)
    rows = {"image": [np.zeros((4, 4), np.uint8)] * 2, "label": [[0], [0, 1]]}
    with pytest.raises(DataError, match=r"several labels.*lvlm_va\.from_torch"):
        lvlm_va.from_huggingface(datasets.Dataset.from_dict(rows))


def test_a_torch_data_set_of_label_vectors() -> None:
    images = drawn_labels.drawn(30, seed=0, betrayed=True)
    labels = images.labels.clone()
    labels[4, 1] = torch.nan
    lines: list[str] = []
    splits = from_torch(
        TensorDataset(images.pixels, labels),
        classes=["bar", "post"],
        validation=0.2,
        test=0.2,
        log=lines.append,
    )
    assert splits.several_labels
    every = torch.cat([splits.train.labels, splits.validation.labels, splits.tests["test"].labels])  # type: ignore[union-attr]
    assert every.shape == (30, 2)
    assert torch.equal((every == 1).sum(0), (labels == 1).sum(0))
    assert any("1 labels are unknown" in line for line in lines)
    hot = torch.eye(3)[torch.arange(30) % 3]
    splits = from_torch(TensorDataset(images.pixels, hot), validation=0, test=0, log=lines.append)
    assert splits.train.labels.tolist() == (torch.arange(30) % 3).tolist()
    assert "exactly one number is 1" in lines[-1]
    with pytest.raises(DataError, match="but 3 names"):
        from_torch(TensorDataset(images.pixels, labels), classes=["a", "b", "c"])
    with pytest.raises(DataError, match="a vector of floats"):
        from_torch(TensorDataset(images.pixels, labels + 0.5))


class Said(QuietConsole):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def drawn_table(root: Path) -> Path:
    """The drawn set as files and a table, with a few labels of the post unknown."""
    rows: list[tuple[str, ...]] = []
    parts = drawn_labels.splits()
    assert parts.validation is not None
    for split, images in (("train", parts.train), ("val", parts.validation), ("test", parts.tests["test"])):
        stuck = images.spurious_masks(torch.arange(len(images))).flatten(1).any(1)  # type: ignore[union-attr]
        for n, name in enumerate(drawn_labels.files(root, images)):  # type: ignore[arg-type]
            bar, post = (str(int(v)) for v in images.labels[n])
            if split == "train" and n % 17 == 0:
                post = "-1" if n % 2 else ""
            rows.append((f"{name}.png", bar, post, str(int(stuck[n])), split, f"{name}-mask.png"))
    return table(root / "drawn.csv", rows, "file,bar,post,sticker,split,mask")


def test_init_names_the_labels(tmp_path: Path) -> None:
    names = files(tmp_path, 4)
    rows = [(f, *m, str(n % 2)) for n, (f, m) in enumerate(zip(names, MARKS, strict=True))]
    path = table(tmp_path / "m.csv", rows, "file,A,B,tube")
    console = Said()
    init_project(
        tmp_path / "p",
        data=path,
        settings=["data.groups=[tube]", "data.validation=0", "data.test=0"],
        console=console,
    )
    written = yaml.safe_load((tmp_path / "p" / "project.yaml").read_text(encoding="utf-8"))
    assert written["data"]["columns"] == {"label": ["A", "B"]}
    assert written["explain"]["num_images"] == 5  # those that have a label
    assert any("A, B as label; an image may have several of them" in line for line in console.lines)
    specifications = yaml.safe_load((tmp_path / "p" / "specifications.yaml").read_text(encoding="utf-8"))
    assert set(specifications["classes"]) == {"A", "B"}


@pytest.mark.slow
def test_from_init_through_align_to_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The accuracy of the bar rises where the sticker does not tell it, and every page says what it is of."""
    monkeypatch.chdir(tmp_path)
    data = drawn_table(tmp_path / "drawn")
    init_project(tmp_path / "p", data=data, settings=["data.groups=[sticker]", "data.size=12"])
    (tmp_path / "p" / "specifications.yaml").write_text(yaml.safe_dump(drawn_labels.SPECIFICATIONS))
    project = Project.from_yaml(
        tmp_path / "p" / "project.yaml",
        drawn_labels.SETTINGS | {"align.choose_by": "verdicts"},
        critic="builtin",
    )
    outcomes = {finding.subject: finding.outcome for finding in project.check()}
    assert "problem" not in outcomes.values()
    run = project.align()
    metrics = run.metrics
    assert metrics.data.several_labels
    assert "(sigmoid)" in metrics.model.head
    before, after = metrics.models["original"], metrics.models["aligned"]
    assert not metrics.lam.original_stays
    for group in ("bar, sticker=0", "no bar, sticker=1"):
        gain = after.groups["test"].accuracy[group] - before.groups["test"].accuracy[group]
        assert gain > 0.3, group
    for measure in ("accuracy_by_label", "auroc", "average_precision"):
        was, now = (getattr(model, measure)["test"] for model in (before, after))
        assert set(was) == {"bar", "post"}
        assert now["bar"] > was["bar"] + 0.2
    assert after.accuracy["test"] == pytest.approx(sum(after.accuracy_by_label["test"].values()) / 2)  # type: ignore[arg-type]
    assert after.validation.verdicts is not None
    assert set(after.validation.verdicts.as_is) <= {"bar", "post", "no bar", "no post"}
    assert before.sensitivity is None
    assert sum(metrics.selection.per_class) == 60

    page = html.unescape(run.report.read_text(encoding="utf-8"))
    for said in (
        "bar (AUROC)",
        "mean over labels (AP)",
        "no bar, sticker=1",
        "Several labels",
        "label explained",
    ):
        assert said in page
    assert "mean over labels of AUROC" in summary_table(metrics)
    logged = dict(_metrics(metrics))
    assert logged["aligned/auroc/test/bar"] == after.auroc["test"]["bar"]
    assert logged["aligned/auroc/test"] == pytest.approx(sum(after.auroc["test"].values()) / 2)  # type: ignore[arg-type]
    with pytest.raises(RunError, match="several labels, and the study asks"):
        build_study([run.path], tmp_path / "study")

    images = project.inputs.splits.tests["test"].images(torch.arange(8))
    card = lvlm_va.export(run.path, out=tmp_path / "out").card.read_text(encoding="utf-8")
    assert "a sigmoid makes each the probability of its label" in card
    assert "- multi-label" in card
    monkeypatch.chdir(tmp_path / "out")
    (snippet,) = re.findall(r"^```python\n(.*?)^```", card, re.MULTILINE | re.DOTALL)
    loaded: dict[str, Any] = {"images": images}
    exec(snippet.replace("torch.zeros(1, 1, 12, 12)", "images"), loaded)
    torch.testing.assert_close(loaded["logits"], run.model(images), atol=1e-6, rtol=0)
    monkeypatch.chdir(tmp_path)

    # Another label alone, and a label that is none.
    post = Project.from_yaml(
        tmp_path / "p" / "project.yaml",
        drawn_labels.SETTINGS | {"explain.label": "post"},
        critic="ground-truth",
    ).diagnose()
    assert post.findings.selection.per_class == (0, 60)
    wrong = Project.from_yaml(
        tmp_path / "p" / "project.yaml", {"explain.label": "pots"}, critic="ground-truth"
    )
    with pytest.raises(ConfigError, match="did you mean 'post'"):
        wrong.diagnose()
    assert any("did you mean 'post'" in finding.text for finding in wrong.check())
