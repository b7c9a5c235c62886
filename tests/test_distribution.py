"""The wheel, in an environment of its own, is the whole program."""

import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import parts
from lvlm_va import __version__
from patience import output_of

ROOT = Path(__file__).parents[1]


def call(*command: str | Path, cwd: Path) -> str:
    """Standard output; PYTHONPATH and the user's site do not count."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(cwd), "PYTHONNOUSERSITE": "1", "COLUMNS": "100"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source archive, as `make dist` builds them."""
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bin/ of a clean environment with the wheel; the dependencies are seen where they are."""
    home = tmp_path_factory.mktemp("clean")
    venv.create(home, with_pip=False)
    (wheel,) = built.glob("*.whl")
    python = home / "bin/python"
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    output_of((*command, wheel))
    (own,) = home.glob("lib/python*/site-packages")
    # Paths in a .pth file are looked at last, and .pth files in them (our editable install) not at all.
    seen = [path for path in sys.path if path.endswith("site-packages") or Path(path, "rapidocr").is_dir()]
    (own / "dependencies.pth").write_text("\n".join([sysconfig.get_path("purelib"), *seen]) + "\n", "utf-8")
    return home / "bin"


def test_the_wheel_has_the_package_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"lvlm_va"}
    source = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src/lvlm_va").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert source <= set(names)


def test_the_source_archive_can_be_tested(built):
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"pyproject.toml", "Makefile", "README.md", "LICENSE", "CHANGELOG.md", "mkdocs.yml"} <= names
    assert {"src/lvlm_va/__init__.py", "tests/test_distribution.py", "requirements/run.txt"} <= names
    assert {"examples/own_model.py", "experiments/__main__.py", "results/bench.json"} <= names


@pytest.mark.slow
def test_the_command_line_runs_there(installed, tmp_path):
    program = installed / "lvlm-va"
    where = call(installed / "python", "-c", "import lvlm_va; print(lvlm_va.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    assert call(program, "--version", cwd=tmp_path).strip() == f"lvlm-va {__version__}"
    assert "align" in call(program, "--help", cwd=tmp_path)

    parts.class_folders(tmp_path / "images/train", 12, sticker_on="nut")
    parts.class_folders(tmp_path / "images/test", 4, first=200)
    call(program, "init", "parts", "--data", "images", "--model", "mlp", cwd=tmp_path)
    settings = (
        *("--set", "explain.num_images=8", "--set", "explain.baselines=4", "--set", "align.lambda=0.03"),
        *("--set", "align.epochs=1", "--set", "model.epochs=2", "--set", "data.size=16"),
    )
    call(program, "train", "parts/project.yaml", *settings, cwd=tmp_path)
    specifications = tmp_path / "parts/specifications.yaml"
    specifications.write_text("classes: {bolt: A bright bar., nut: A ring with a dark hole.}\n", "utf-8")
    said = call(program, "align", "parts/project.yaml", *settings, cwd=tmp_path)
    report = tmp_path / said.strip().rpartition("Report: ")[2]
    assert "<html" in report.read_text("utf-8")[:200]
