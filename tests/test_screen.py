"""Nothing from outside steers a terminal: not by a file's name, a server's text or an imported id."""

import io
import json
import os
import pty
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lvlm_va.errors import RunError
from lvlm_va.io.console import Console
from lvlm_va.io.screen import echo, printable, shown
from servers import chat_server, failure

COMMAND = [sys.executable, "-c", "from lvlm_va.cli.main import main; main()"]
TITLE = "\x1b]0;pwned\x07"
STEERING = [
    TITLE,
    "\x1b[2J\x1b[H",  # clears the screen
    "\x9b31m",  # the same in one byte
    "\u202egnp.exe",  # right to left
    "\u2066\u2069\u200e\u061c",
    "\r over",
    "\b\b\b",
    "\x7f\0\a\v\f",
    "\u2028\u0085",
    "\udcff",  # half a character: a file name that is not UTF-8
    "\U000e0041",  # a tag, invisible
]


@pytest.mark.parametrize("text", STEERING)
def test_what_steers_is_told_as_an_escape(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(f"a{text}b\n").replace("\n", "").isprintable()
    echo(f"a{text}b")
    echo(f"a{text}b", err=True)
    Console().note(f"a{text}b")
    with Console().stage(f"a{text}b"):
        pass
    out, err = capsys.readouterr()
    assert (out + err).replace("\n", "").isprintable()
    assert out.startswith("a")


@given(st.text())
def test_only_characters_with_a_shape_are_left(text: str) -> None:
    told = printable(text)
    assert not [c for c in told if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert printable(told) == told
    assert text != "".join(c for c in text if c.isprintable()) or told == text, "ordinary text stays"


@given(st.text(), st.integers(10, 200))
def test_a_name_is_one_short_line(text: str, most: int) -> None:
    line = shown(text, most)
    assert len(line) <= most
    assert "\n" not in line
    assert line == text or not text.isprintable() or len(text) > most


def test_an_id_of_megabytes_is_cut() -> None:
    assert len(shown("x" * 10_000_000)) <= 120


def test_names_with_colons_and_brackets_stay(capsys: pytest.CaptureFixture[str]) -> None:
    Console().note("C:bug: [red]x[/red]")
    assert capsys.readouterr().err == "C:bug: [red]x[/red]\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("bolt", "nut"):
        (tmp_path / "pics" / name).mkdir(parents=True)
        for n in range(12):
            image = Image.new("RGB", (12, 12), (20 * n, 80, 90 if name == "bolt" else 30))
            image.save(tmp_path / "pics" / name / f"{n}.png")
    (tmp_path / "pics" / "nut" / f"{TITLE}bad.png").write_bytes(b"junk")
    (tmp_path / "pics" / "nut" / "x\nlvlm-va: all is well\n.png").write_bytes(b"junk")
    (tmp_path / "spec.yaml").write_text("classes: {bolt: A bolt., nut: A nut.}")
    document = {
        "project": "k",
        "run": "run",
        "specifications": "spec.yaml",
        "data": {"name": "folder", "path": "pics", "size": 12},
        "model": {"epochs": 1},
        "explain": {"num_images": 3, "baselines": 2, "n_init": 1},
    }
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(document))
    return tmp_path / "p.yaml"


def on_a_terminal(*arguments: object, url: str = "") -> bytes:
    """What a terminal receives, from both streams."""
    ours, theirs = pty.openpty()
    given = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": url} if url else {}
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm"} | given,
    ):
        os.close(theirs)
        received = b""
        try:
            while block := os.read(ours, 1 << 16):
                received += block
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(ours)
    return received


@pytest.mark.slow
def test_a_terminal_gets_no_sequence_from_outside(project: Path) -> None:
    seen = on_a_terminal("check", project)
    assert b"pwned" in seen
    assert b"\x1b]0;" not in seen
    assert b"\nlvlm-va: all is well" not in seen

    def refuse(_: object) -> object:
        return failure(404, f"{TITLE} boom\nlvlm-va: all is well")

    ids = project.with_name("ids.jsonl")
    lines = [f"{TITLE}x", "a\nlvlm-va: all is well", "y" * 3_000_000]
    ids.write_text("".join(json.dumps({"custom_id": line}) + "\n" for line in lines))
    with chat_server(refuse) as server:  # type: ignore[arg-type]
        seen = on_a_terminal("critique", project, "--critic", "openai:m", url=server.url)
        seen += on_a_terminal("critique", project, "--critic", "openai:m", "--import", ids, url=server.url)
    assert b"pwned" in seen
    assert b"\x1b]0;" not in seen
    assert b"\nlvlm-va: all is well" not in seen
    assert len(seen) < 20_000


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8"])
def test_a_console_without_greek_letters(project: Path, encoding: str) -> None:
    done = subprocess.run(
        [*COMMAND, "check", str(project), "--set", "align.lambda=[0.1, 1]"],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONIOENCODING": encoding, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert "2 λ".encode(encoding, "replace") in done.stdout


def test_output_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(RunError, match="No space left"):
        echo("x")
    monkeypatch.setattr(sys, "stdout", None)  # closed by whoever started us
    echo("x")


def test_a_reader_who_leaves_does_not_stop_the_work(project: Path) -> None:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", '"$@" | true', "-", *COMMAND, "check", str(project)],
        capture_output=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"Traceback" not in done.stderr
    assert b"Broken" not in done.stderr
