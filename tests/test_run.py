"""A run's directory: one process at a time, computed once, whole files or none."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lvlm_va._version import __version__
from lvlm_va.errors import RunError
from lvlm_va.run.directory import FORMAT, RunDirectory, fingerprint
from patience import PATIENCE

CONFIG = {"project": "p"}


def worker(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Another process that runs `code`; its folder is sys.argv[1]."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def counted(
    run: RunDirectory, inputs: str, calls: list[str], name: str = "s", content: str = "x"
) -> tuple[Any, bool]:
    """A stage that writes and reads one text file and records that it was computed."""

    def compute() -> str:
        calls.append(inputs)
        return content

    def load() -> str:
        text = run.file(f"{name}.txt").read_text()
        if text == "damaged":
            raise ValueError(text)
        return text

    return run.stage(name, inputs, compute, lambda text: run.write(f"{name}.txt", text.encode()), load)


def test_a_stage_is_computed_only_when_its_inputs_change(tmp_path: Path) -> None:
    calls: list[str] = []
    for _ in range(2):
        with RunDirectory.open(tmp_path, CONFIG) as run:
            counted(run, "a", calls)
            assert counted(run, "a", calls) == ("x", False)
    assert calls == ["a"]
    with RunDirectory.open(tmp_path, CONFIG) as run:
        assert counted(run, "b", calls, content="y") == ("y", True)
        assert counted(run, "b", calls) == ("y", False)
        assert counted(run, "a", calls, content="z") == ("z", True), "only the latest is kept"
    assert calls == ["a", "b", "a"]


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_damaged_artefact_is_computed_again(tmp_path: Path, damage: str) -> None:
    calls: list[str] = []
    with RunDirectory.open(tmp_path, CONFIG) as run:
        counted(run, "a", calls)
    if damage == "missing":
        (tmp_path / "s.txt").unlink()
    else:
        (tmp_path / "s.txt").write_text("damaged")
    with RunDirectory.open(tmp_path, CONFIG) as run:
        assert counted(run, "a", calls) == ("x", True)
        assert counted(run, "a", calls) == ("x", False)


def test_a_stage_that_fails_is_not_recorded(tmp_path: Path) -> None:
    calls: list[str] = []
    with RunDirectory.open(tmp_path, CONFIG) as run:
        counted(run, "a", calls)

        def fail() -> str:
            raise RuntimeError

        with pytest.raises(RuntimeError):
            run.stage("s", "b", fail, lambda _: None, lambda: "")
        assert run.stages["s"].fingerprint == "a"
        assert counted(run, "a", calls) == ("x", False)


def test_the_log_says_what_was_done(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, CONFIG) as run:
        run.stage("one", "f1", lambda: time.sleep(0.02), lambda _: None, lambda: None, lambda _: {"n": 3})
        run.stage("two", "f2", lambda: None, lambda _: None, lambda: None)
        run.stage("one", "f3", lambda: None, lambda _: None, lambda: None)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["format"] == FORMAT
    assert record["lvlm_va"] == __version__
    assert list(record["stages"]) == ["two", "one"], "in the order in which they were done last"
    read = RunDirectory.read(tmp_path)
    assert read.config == CONFIG
    assert read.stages["one"].fingerprint == "f3"
    assert read.stages["two"].summary == {}
    assert read.machine["lvlm_va"] == __version__


def test_seconds_and_summary(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, CONFIG) as run:
        run.stage("one", "f1", lambda: time.sleep(0.05), lambda _: None, lambda: None, lambda _: {"n": 3})
        record = run.stages["one"]
    assert record.seconds >= 0.05
    assert record.summary == {"n": 3}
    assert record.peak_gib is None or 0 < record.peak_gib < 100


def test_fingerprints_change_with_every_part() -> None:
    parts: list[tuple[Any, ...]] = [
        (),
        ("a",),
        ("a", "b"),
        ("b", "a"),
        (["a"], "b"),
        ({"a": 1},),
        ({"a": 2},),
        (1,),
        ("1",),
    ]
    assert len({fingerprint(*part) for part in parts}) == len(parts)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert len(fingerprint()) == 24


HOLD = """
import sys
from pathlib import Path
from lvlm_va.run.directory import RunDirectory
with RunDirectory.open(Path(sys.argv[1]), {"project": "other"}) as run:
    print("held", flush=True)
    sys.stdin.readline() if len(sys.argv) < 3 else __import__("time").sleep(60)
"""


def test_one_process_at_a_time(tmp_path: Path) -> None:
    process = worker(HOLD, tmp_path, "until killed")
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(RunError, match="another process is working on this run"),
            RunDirectory.open(tmp_path, CONFIG),
        ):
            pass
        assert RunDirectory.read(tmp_path).config == {"project": "other"}, "looking is allowed"
    finally:
        process.kill()
        process.communicate()
    with RunDirectory.open(tmp_path, CONFIG) as run:
        assert run.config == CONFIG, "a killed process leaves no lock behind"


def test_what_another_process_did_meanwhile_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunDirectory.open(tmp_path, CONFIG):
        pass
    acquire = RunDirectory._acquire

    def acquire_after_the_other(self: RunDirectory) -> None:
        monkeypatch.setattr(RunDirectory, "_acquire", acquire)
        with RunDirectory.open(tmp_path, CONFIG) as other:
            counted(other, "a", [])
        acquire(self)

    monkeypatch.setattr(RunDirectory, "_acquire", acquire_after_the_other)
    with RunDirectory.open(tmp_path, CONFIG) as run:
        assert counted(run, "a", []) == ("x", False)


def written(tmp_path: Path, record: Any) -> Path:
    (tmp_path / "run.json").write_text(record if isinstance(record, str) else json.dumps(record))
    return tmp_path


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (
            {"format": FORMAT + 1, "lvlm_va": "9.9", "stages": {}},
            rf"version 9\.9 in format {FORMAT + 1}.*{__version__}",
        ),
        ({"format": FORMAT + 1, "lvlm_va": "9.9"}, r"version 9\.9"),
        ('{"format": 1, "sta', "run.json: cannot be read"),
        ("", "run.json: cannot be read"),
        ([1, 2], "not written by this program"),
        ({"name": "someone else's"}, "not written by this program"),
        ({"format": FORMAT, "stages": None}, "damaged"),
        ({"format": FORMAT}, "damaged"),
    ],
)
@pytest.mark.parametrize("config", [CONFIG, None])
def test_records_that_cannot_be_used(tmp_path: Path, record: Any, told: str, config: Any) -> None:
    written(tmp_path, record)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(RunError, match=told) as caught, RunDirectory.open(tmp_path, config):
        pass
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(RunError, match=told):
        RunDirectory.read(tmp_path)
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_folder_that_is_not_a_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with (
        pytest.raises(RunError, match=r"holds thesis\.tex and is not a run"),
        RunDirectory.open(tmp_path, CONFIG),
    ):
        pass
    with pytest.raises(RunError, match="no run here"):
        RunDirectory.read(tmp_path)
    with pytest.raises(RunError, match="no run here"), RunDirectory.open(tmp_path / "none"):
        pass
    assert not (tmp_path / "none").exists(), "looking makes nothing"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["thesis.tex"]
    with (
        pytest.raises(RunError, match="cannot be written"),
        RunDirectory.open(tmp_path / "thesis.tex", CONFIG),
    ):
        pass
    with pytest.raises(RunError, match="cannot be read"):
        RunDirectory.read(tmp_path / "thesis.tex")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    with RunDirectory.open(tmp_path, CONFIG) as run:
        counted(run, "a", calls)
        before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
        with monkeypatch.context() as patch:
            patch.setattr(
                os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left"))
            )
            with pytest.raises(RunError, match=r"the disk is full; free some space") as caught:
                counted(run, "b", calls, content="new")
        assert "s.txt" in str(caught.value)
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before
        assert counted(run, "a", calls) == ("x", False), "the old result is still there"
        assert counted(run, "b", calls, content="new") == ("new", True)


LIMITED = """
import resource, signal, sys
from pathlib import Path
from lvlm_va.errors import RunError
from lvlm_va.run.directory import RunDirectory
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with RunDirectory.open(Path(sys.argv[1]), {"project": "p"}) as run:
    run.write("big", b"old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        run.write("big", b"x" * 100_000)
    except RunError as error:
        print(error)
"""


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    out, err = worker(LIMITED, tmp_path).communicate(timeout=PATIENCE)
    assert "big: cannot be written (File too large)" in out, err
    assert (tmp_path / "big").read_bytes() == b"old"
    assert not list(tmp_path.glob(".*.part"))


WRITE = """
import json, os, signal, sys, time
from pathlib import Path
from lvlm_va.run.directory import RunDirectory
folder, big = Path(sys.argv[1]), Path(sys.argv[1], "big")
def written(): return big.stat().st_mtime_ns if big.exists() else 0
for attempt in range(5):
    before = written()
    if not (writer := os.fork()):
        with RunDirectory.open(folder, {"project": "p"}) as run:
            def save(n): run.write("big", bytes([n % 256]) * 3_000_000)
            for n in range(10**6):
                run.stage("s", str(n), lambda: n, save, lambda: n)
    while written() == before:
        assert os.waitpid(writer, os.WNOHANG) == (0, 0)
        time.sleep(0.001)
    time.sleep(0.02 + 0.013 * attempt)
    os.kill(writer, signal.SIGKILL)
    os.wait()
    content = big.read_bytes()
    print(len(content), len(set(content)), json.loads((folder / "run.json").read_text())["format"])
"""


def test_killed_while_it_writes(tmp_path: Path) -> None:
    """Five times: the file is whole and of one write's content, and the record can be read."""
    out, err = worker(WRITE, tmp_path).communicate(timeout=PATIENCE)
    assert out.splitlines() == [f"3000000 1 {FORMAT}"] * 5, err


KILLED = """
import os, signal, sys
from pathlib import Path
from lvlm_va.run.directory import RunDirectory
def fsync(_): os.kill(os.getpid(), signal.SIGKILL)
for name in sys.argv[2:]:
    if not os.fork():
        with RunDirectory.open(Path(sys.argv[1]), {}) as run:
            os.fsync = fsync
            run.write(name, b"half")
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_what_a_killed_process_was_writing_is_swept(tmp_path: Path) -> None:
    path = tmp_path / "run"
    killed = worker(KILLED, path, "verdicts.csv", "segments/a.png", "run.json")
    assert killed.communicate()[0].split() == [str(-signal.SIGKILL)] * 3
    # Not ours, and a run of its own, in which another process may be writing.
    kept = [path / ".notes.part", path / "x.0123abcd.part", path / "inner" / ".a.0123abcd.part"]
    with RunDirectory.open(path / "inner", {}):
        for file in kept:
            file.write_text("kept")
        assert list(path.rglob(".*.????????.part"))
        with RunDirectory.open(path):
            assert sorted(path.rglob("*.part")) == sorted(kept)
