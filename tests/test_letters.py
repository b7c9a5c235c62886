"""The reader of letters stays offline and inside its wheel, whatever it was built to fetch."""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from lvlm_va.vision import letters


def written(text: str, *, side: int = 160, size: int = 30) -> NDArray[np.uint8]:
    """(side, side, 3) uint8: white letters on grey."""
    image = Image.new("RGB", (side, side), (60, 60, 60))
    ImageDraw.Draw(image).text((20, 50), text, fill=(255, 255, 255), font=ImageFont.load_default(size))
    return np.asarray(image)


@pytest.fixture
def fresh_engine():
    letters._engine.cache_clear()
    letters._READ.clear()
    yield
    letters._engine.cache_clear()


GUARDED = """
import sys
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from lvlm_va.vision.letters import read_letters

events = []

def hook(name, arguments):
    if name.startswith("socket."):
        events.append((name, repr(arguments)))
    if name == "open" and isinstance(arguments[1], str) and set("wax+") & set(arguments[1]):
        events.append((name, repr(arguments)))

sys.dont_write_bytecode = True
sys.addaudithook(hook)
image = Image.new("RGB", (160, 160), (60, 60, 60))
ImageDraw.Draw(image).text((20, 50), "R 42", fill=(255, 255, 255), font=ImageFont.load_default(30))
print([one.letters for one in read_letters(np.asarray(image))])
print(read_letters(np.zeros((160, 160, 3), np.uint8)))
print(events, "requests" in sys.modules, "urllib3" in sys.modules)
"""


def test_reading_opens_no_socket_and_writes_no_file():
    done = subprocess.run(
        [sys.executable, "-c", GUARDED],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"ORT_DISABLE_TELEMETRY": "1"},
    )
    assert done.returncode == 0, done.stderr
    letters_read, nothing, events = done.stdout.splitlines()
    assert letters_read in ("['R42']", "['R 42']")
    assert nothing == "()"
    assert events == "[] False False"


def test_what_the_engine_could_fetch_with_is_given_back(fresh_engine, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("rapidocr")]:
        monkeypatch.delitem(sys.modules, name)  # another test may have imported it as it is
    requests = importlib.import_module("requests")
    letters._engine()
    assert sys.modules["requests"] is requests
    assert callable(requests.get)
    fetching = importlib.import_module("rapidocr.utils.download_file")
    assert not hasattr(fetching.requests, "get")


def test_a_line_read_alone_does_not_change_how_images_are_read(fresh_engine):
    """The engine remembers what it was last asked to do."""
    image = written("ABC 7")
    before = letters._read_lines(image)
    letter, confidence = letters._read_line(image[45:95, 10:130])
    assert (letter.replace(" ", ""), confidence > 0.8) == ("ABC7", True)
    after = letters._read_lines(image)
    assert [(text, sure) for _, text, sure in before] == [(text, sure) for _, text, sure in after]
    for (corners, _, _), (again, _, _) in zip(before, after, strict=True):
        np.testing.assert_array_equal(corners, again)


def test_every_reading_keeps_its_own_confidence(fresh_engine, monkeypatch):
    """Empty lines are dropped with their confidences, not before them."""
    engine = letters._engine()
    really = engine.run_ocr_steps

    def with_an_empty_line(image, record):
        detected, classified, read, crops = really(image, record)
        read.txts, read.scores = ("", "R7"), (0.1, 0.95)
        detected.boxes = np.repeat(detected.boxes[:1], 2, axis=0)
        return detected, classified, read, crops

    monkeypatch.setattr(engine, "run_ocr_steps", with_an_empty_line)
    assert [(t, s) for _, t, s in letters._read_lines(written("R7"))] == [("", 0.1), ("R7", 0.95)]
