"""Nothing leaves this machine unasked, and files are written where the user expects them only."""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from parts import class_folders

ROOT = Path(__file__).parents[1]
WORKER = Path(__file__).with_name("guarded_worker.py")
WORDS = {
    "bolt": {"description": "A filled bright block.", "spurious": ["a bright square in the corner"]},
    "nut": {"description": "A bright ring with a dark hole.", "spurious": ["a bright square in the corner"]},
}


def alone() -> list[str]:
    """How to start a process without a network, where this is permitted."""
    wrapped = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") and subprocess.run([*wrapped, "true"], capture_output=True).returncode == 0:
        return wrapped
    return []


def environment(home: Path) -> dict[str, str]:
    """A new user's: nothing is turned off there."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT / 'tests'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "HOME": str(home / "home"),
        "TMPDIR": str(home / "tmp"),
        "LVLM_VA_CACHE": str(home / "cache"),
    }


def guarded(home: Path, commands: list[list[str]]) -> dict[str, Any]:
    for name in ("home", "tmp", "work", "cache"):
        (home / name).mkdir(exist_ok=True)
    notes = home / "notes.json"
    done = subprocess.run(
        [*alone(), sys.executable, str(WORKER), str(notes), json.dumps(commands)],
        cwd=home / "work",
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
    )
    assert notes.is_file(), done.stderr
    return json.loads(notes.read_text()) | {"said": done.stderr}


def ten_digits(folder: Path) -> None:
    """A cache that is filled, with few digits: blocks of noise, 40 and 10."""
    random, folder = np.random.default_rng(0), folder / "mnist"
    folder.mkdir(parents=True)
    for split, n in (("train", 40), ("t10k", 10)):
        images = np.zeros((n, 28, 28), np.uint8)
        images[:, 8:20, 8:20] = random.integers(0, 256, (n, 12, 12))
        for kind, array in (("images-idx3", images), ("labels-idx1", np.arange(n, dtype=np.uint8) % 10)):
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (folder / f"{split}-{kind}-ubyte").write_bytes(header + array.tobytes())


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """`align` of images large enough to be read for letters, `export` as ONNX, and `demo`."""
    pytest.importorskip("onnxscript")
    home = tmp_path_factory.mktemp("user")
    work = home / "work"
    class_folders(work / "images" / "train", 6, sticker_on="nut")
    class_folders(work / "images" / "test", 3, first=50)
    (work / "words.yaml").write_text(yaml.safe_dump({"classes": WORDS}))
    project = {
        "project": "parts",
        "specifications": "words.yaml",
        "data": {"name": "folder", "path": "images", "size": 112},
        "model": {"name": "mlp", "epochs": 1},
        "explain": {"num_images": 4, "baselines": 2, "n_init": 1},
        "critique": {"critic": "builtin"},
        "align": {"lambda": [0.1], "epochs": 1},
        "evaluate": {"num_images": 4},
    }
    (work / "project.yaml").write_text(yaml.safe_dump(project))
    ten_digits(home / "cache")
    small = {
        "data.validation": 10,
        "model.epochs": 1,
        "explain.num_images": 4,
        "explain.baselines": 2,
        "explain.n_init": 1,
        "align.lambda": [0.1],
        "align.epochs": 1,
        "evaluate.num_images": 4,
    }
    settings = [word for key, value in small.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    commands = [
        ["align", "project.yaml", "--run", "run"],
        ["export", "run", "--format", "onnx"],
        ["demo", "--critic", "builtin", "--run", "demo", *settings],
    ]
    return home, guarded(home, commands)


def test_no_socket_is_opened(session: tuple[Path, dict[str, Any]]) -> None:
    home, found = session
    assert found["codes"] == [0, 0, 0], found["said"]
    assert (home / "work" / "run" / "report.html").is_file()
    assert found["sockets"] == []


def test_native_code_looks_nothing_up(session: tuple[Path, dict[str, Any]]) -> None:
    _, found = session
    if found["no_routes"] is None:
        pytest.skip("a network namespace is not permitted here (unshare --net)")
    assert found["no_routes"] == 0


def test_files_are_written_in_the_run_the_cache_and_the_working_folder(
    session: tuple[Path, dict[str, Any]],
) -> None:
    home, found = session
    assert list((home / "home").rglob("*")) == []
    assert list((home / "tmp").rglob("*")) == []
    allowed = [home / name for name in ("work", "cache", "tmp")]  # what was in tmp is gone again
    elsewhere = [
        path
        for path in map(Path, found["written"])
        if not any(path.is_relative_to(folder) for folder in allowed) and path.parts[1] not in ("dev", "proc")
    ]
    assert elsewhere == []


def test_the_guard_sees_a_look_up(tmp_path: Path) -> None:
    found = guarded(tmp_path, [["look-up", "telemetry.example.com"]])
    assert any("telemetry.example.com" in line for line in found["sockets"])
    assert found["no_routes"] is None or found["no_routes"] > 0


def python(code: str, home: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    (home / "home").mkdir()
    (home / "tmp").mkdir()
    return subprocess.run(
        [*alone(), sys.executable, "-P", "-c", code],
        cwd=home,
        env=environment(home) | changes,
        capture_output=True,
        text=True,
        check=False,
    )


def test_onnxruntime_makes_no_device_id_whatever_the_environment_says(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    done = python("import lvlm_va, onnxruntime", tmp_path, ORT_DISABLE_TELEMETRY="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert list((tmp_path / "home").rglob("*")) == []


def test_it_is_said_when_onnxruntime_was_there_first(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    done = python("import onnxruntime, lvlm_va", tmp_path)
    assert done.returncode == 0
    assert "RuntimeWarning: onnxruntime was imported before lvlm_va" in done.stderr
    (tmp_path / "b").mkdir()
    done = python("import onnxruntime, lvlm_va", tmp_path / "b", ORT_DISABLE_TELEMETRY="1")
    assert (done.returncode, done.stderr) == (0, "")


SHOWN = "import os, lvlm_va; print(*(os.environ.get(k) for k in ('MPLCONFIGDIR', 'MATPLOTLIBRC')))"


def test_a_users_own_settings_of_matplotlib_stay(tmp_path: Path) -> None:
    assert python(SHOWN, tmp_path, MPLCONFIGDIR="/mine").stdout == "/mine None\n"
    style = tmp_path / "config" / "matplotlib" / "matplotlibrc"
    style.parent.mkdir(parents=True)
    style.touch()
    (tmp_path / "b").mkdir()
    shown = python(SHOWN, tmp_path / "b", XDG_CONFIG_HOME=str(tmp_path / "config")).stdout
    assert shown == f"{tmp_path / 'b' / 'cache' / 'matplotlib'} {style}\n"


def test_a_user_without_a_home_can_import(tmp_path: Path) -> None:
    done = python("import os; os.path.expanduser = lambda p: p; import lvlm_va", tmp_path, LVLM_VA_CACHE="")
    assert (done.returncode, done.stderr) == (0, "")
