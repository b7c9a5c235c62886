"""How the command ends: real processes, signalled and broken, end with one sentence and an exit code."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import small
from lvlm_va.errors import DEFECT
from patience import PATIENCE, wait_until

HERE = Path(__file__).parent


@pytest.fixture
def project_file(tmp_path: Path) -> Path:
    document: dict[str, object] = {"project": "small", "run": "run", "specifications": "classes.yaml"}
    (tmp_path / "classes.yaml").write_text(yaml.safe_dump(small.SPECIFICATIONS))
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(document))
    return tmp_path / "project.yaml"


def start(project_file: Path, *arguments: str) -> "subprocess.Popen[str]":
    """The command in the project's folder."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=project_file.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENAI_API_KEY": "sk-secret-42", "PYTHONPATH": PATHS},
    )


PATHS = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])


def mishap(
    project_file: Path, what: str, where: str = "data", command: str = "align"
) -> "subprocess.Popen[str]":
    worker = str(HERE / "ending_worker.py")
    return start(project_file, worker, what, where, command, str(project_file))


def until_ready(project_file: Path, process: "subprocess.Popen[str]") -> None:
    wait_until(project_file.with_name("ready").exists, process)


@pytest.mark.parametrize(
    ("what", "number"),
    [
        ("stuck", signal.SIGTERM),
        ("stuck", signal.SIGINT),
        ("swallowing", signal.SIGTERM),
        ("exiting", signal.SIGINT),
    ],
)
def test_one_signal_ends_what_does_not_want_to_end(project_file: Path, what: str, number: int) -> None:
    process = mishap(project_file, what)
    until_ready(project_file, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert err.count("lvlm-va: stopped") == 1


def test_a_second_signal_ends_at_once(project_file: Path) -> None:
    process = mishap(project_file, "stuck")
    until_ready(project_file, process)
    while process.poll() is None:
        process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in out + err


@pytest.mark.parametrize("moment", [0.3, 0.8, 1.5, 3.0])
def test_ctrl_c_while_it_imports(project_file: Path, moment: float) -> None:
    """Begun when the first line of ours runs, as the installed command does; how far it is then, varies."""
    code = (
        "import os, signal, threading, time\n"
        f"later = lambda: (time.sleep({moment}), os.kill(os.getpid(), signal.SIGINT))\n"
        "threading.Thread(target=later, daemon=True).start()\n"
        "from lvlm_va.cli.main import main; main()"
    )
    process = start(project_file, "-c", code, "check", str(project_file))
    out, err = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in out + err
    assert process.returncode in (0, 1, 130), "or it had ended before"
    if process.returncode == 130:
        assert err.strip().splitlines()[-1].startswith("lvlm-va: stopped")


def test_importing_the_command_leaves_signals_alone(project_file: Path) -> None:
    code = (
        "import signal, sys\n"
        "before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)\n"
        "import lvlm_va.cli.main\n"
        "assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))\n"
        "assert 'torch' not in sys.modules"
    )
    process = start(project_file, "-c", code)
    assert process.communicate(timeout=PATIENCE) == ("", "")


def test_what_guards_the_imports_needs_hardly_any(project_file: Path) -> None:
    """Ctrl-C before the guard is in place is Python's own: nothing that takes long may come first."""
    code = (
        "import sys; before = set(sys.modules)\n"
        "import lvlm_va.io.ending\n"
        "print(*sorted(name for name in set(sys.modules) - before if not name.startswith('lvlm_va')))"
    )
    process = start(project_file, "-I", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}")
    out, err = process.communicate(timeout=PATIENCE)
    assert err == ""
    assert len(out.split()) <= 2, out


@pytest.mark.parametrize(("where", "folder"), [("data", "."), ("run", "run")])
def test_a_defect_is_told_in_a_sentence_and_kept_in_a_file(
    project_file: Path, where: str, folder: str
) -> None:
    process = mishap(project_file, "broken", where)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == DEFECT == 70
    assert "Traceback" not in out + err
    assert "\x1b" not in err
    assert "\nlvlm-va: all is well" not in err
    (trace,) = (project_file.parent / folder).glob("lvlm-va-defect-*.txt")
    last = err[err.index("lvlm-va: this is a mistake of lvlm-va, not yours (KeyError: ") :]
    assert str(trace) in last
    text = trace.read_text()
    assert "Traceback" in text
    assert "in broken" in text
    assert "sk-secret-42" not in text


def test_a_defect_where_nothing_can_be_written(project_file: Path) -> None:
    code = (
        "import os, pathlib, sys; sys.argv[1:] = ['broken', 'data', 'align', 'project.yaml']\n"
        "def full(*_, **__): raise OSError(28, 'No space left on device')\n"
        "pathlib.Path.write_text = full\n"
        "import ending_worker; ending_worker.main()"
    )
    process = start(project_file, "-c", code)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == DEFECT
    assert "Traceback" in err, "the trace is not lost"
    assert "no file can be written" in err


def test_a_model_that_ends_the_program_does_not_end_it_well(project_file: Path) -> None:
    process = mishap(project_file, "leaving", "run")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == DEFECT
    assert "code that the project runs (model.name) ended the program (SystemExit: 0)" in err
    assert list((project_file.parent / "run").glob("lvlm-va-defect-*.txt"))


def test_too_little_memory_is_nobodys_mistake(project_file: Path) -> None:
    process = mishap(project_file, "without_memory")
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "memory" in err
    assert not list(project_file.parent.glob("lvlm-va-defect-*.txt"))
