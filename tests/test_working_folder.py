"""`python -m lvlm_va` takes nothing from the working folder but the model that the project names."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lvlm_va._version import __version__
from lvlm_va.models.factory import make_model

ROOT = Path(__file__).parents[1]
NAMES = ("json", "yaml", "typing", "torch", "numpy", "typer", "signal", "secrets", "matplotlib", "PIL", "pip")


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    environment |= {
        "PYTHONPATH": str(ROOT / "src"),
        "OMP_NUM_THREADS": "1",
        "LVLM_VA_CACHE": str(folder / "c"),
    }
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-m", "lvlm_va", "critic", "check", "--dry-run"], "24 questions"),
        (["-mlvlm_va", "--version"], f"lvlm-va {__version__}"),
        (["-B", "-m", "lvlm_va.cli.main", "--version"], f"lvlm-va {__version__}"),
    ],
)
def test_nothing_is_imported_from_the_working_folder(tmp_path: Path, words: list[str], said: str) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('taken from the working folder: {name}')\n")
    done = run(tmp_path, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout


def test_the_path_of_a_program_that_imports_us_stays(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "__init__.py").write_text("import lvlm_va\n")
    (tmp_path / "other" / "__main__.py").write_text("import beside\n")
    (tmp_path / "beside.py").write_text("print('found')\n")
    assert run(tmp_path, "-m", "other").stdout == "found\n"


FACTORY = """
import json
from torch import nn
def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
"""
MAKE = """
from lvlm_va.models.factory import make_model
print(make_model('factory_of_mine:build', (1, 2, 2), 2))
"""


def test_a_factory_in_the_working_folder_is_found_and_nothing_beside_it_taken_for_another(
    tmp_path: Path,
) -> None:
    (tmp_path / "factory_of_mine.py").write_text(FACTORY)
    (tmp_path / "json.py").write_text("raise SystemExit('taken from the working folder')\n")
    done = run(tmp_path, "-P", "-c", MAKE)
    assert done.returncode == 0, done.stderr
    assert "Linear(in_features=4, out_features=2" in done.stdout
    # What is installed goes before the working folder.
    (tmp_path / "textwrap.py").write_text(FACTORY)
    done = run(tmp_path, "-P", "-c", MAKE.replace("factory_of_mine", "textwrap"))
    assert "textwrap has no 'build'" in done.stderr


def test_the_path_grows_only_for_a_module_that_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    with pytest.raises(Exception, match="no module named 'nowhere_to_be_found'"):
        make_model("nowhere_to_be_found:build", (1, 2, 2), 2)
    assert sys.path == before
