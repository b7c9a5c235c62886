"""The examples run as they stand, on images drawn here, and without a download."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import parts
from lvlm_va.run.verdict_table import read_verdicts

EXAMPLES = Path(__file__).parents[1] / "examples"
PROJECT = {
    "project": "parts",
    "specifications": "specifications.yaml",
    "data": {"name": "folder", "path": "images", "size": parts.SIDE},
    "model": {"name": "mlp", "epochs": 4, "batch": 16},
    "explain": {"num_images": 8, "baselines": 4},
    "align": {"lambda": 0.03, "epochs": 1},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """images/, specifications.yaml and project.yaml of bolts and nuts; a sticker betrays nuts in training."""
    parts.class_folders(tmp_path / "images/train", 40, sticker_on="nut")
    parts.class_folders(tmp_path / "images/val", 6, first=100)
    parts.class_folders(tmp_path / "images/test", 6, first=200)
    classes = {
        "bolt": {"description": "A bright bar.", "spurious": "a white sticker in a corner"},
        "nut": {"description": "A ring with a dark hole.", "spurious": "a white sticker in a corner"},
    }
    for name, content in (("specifications", {"classes": classes}), ("project", PROJECT)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return tmp_path


def run(folder: Path, name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def code_lines(name: str) -> int:
    """Lines that are neither blank nor of the module's docstring."""
    text = (EXAMPLES / name).read_text("utf-8")
    first = ast.parse(text).body[0]
    return sum(bool(line.strip()) for line in text.splitlines()[first.end_lineno :])


@pytest.mark.slow
def test_own_model(folder):
    assert code_lines("own_model.py") <= 15
    printed = run(folder, "own_model.py", "images", "specifications.yaml")
    report = re.search(r"report: (\S+)$", printed.strip())
    assert report is not None
    assert (folder / report[1]).is_file()
    assert "20 epochs" in printed


def test_own_critic(folder):
    assert code_lines("own_critic.py") <= 20
    assert "Verdicts of corners" in run(folder, "own_critic.py", "project.yaml")
    verdicts = read_verdicts(folder / "runs/parts/verdicts.csv")
    assert verdicts
    assert all(v.spurious is not None and v.reason.endswith("lies in the corner") for v in verdicts)
    assert any(v.spurious for v in verdicts)


def test_the_critic_of_the_example_imports_nothing():
    tree = ast.parse((EXAMPLES / "own_critic.py").read_text("utf-8"))
    assert [ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)] == [
        "import sys"
    ]


@pytest.mark.slow
def test_answers_by_file(folder):
    printed = run(folder, "answers_by_file.py", "project.yaml")
    assert "Verdicts of openai:gpt-4o" in printed
    verdicts = read_verdicts(folder / "runs/parts/verdicts.csv")
    assert {v.segment: v.spurious for v in verdicts} == {1: True, 2: False, 3: False}


@pytest.mark.slow
def test_the_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLES / "shortcut.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.get("outputs") for cell in notebook.cells), "commit it without outputs"
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    accuracy = re.search(r"test accuracy (\S+) → (\S+)", said)
    assert accuracy is not None, said
    assert float(accuracy[2]) > float(accuracy[1]) + 0.05
    assert (tmp_path / "runs/strokes/report.html").is_file()


def test_every_example_is_listed():
    listed = (EXAMPLES / "README.md").read_text("utf-8")
    for path in EXAMPLES.iterdir():
        assert path.name == "README.md" or f"({path.name})" in listed
