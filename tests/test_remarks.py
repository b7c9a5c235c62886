"""Warnings of the decoders' libraries: told with the image's name, never printed without it."""

import logging
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lvlm_va
from lvlm_va.data.remarks import remarks
from parts import class_folders
from test_reading import GREY, RGB, dicom, saved

BROKEN_EXIF = b"II*\0\xff\xff\xff\x7f"


def test_each_thread_keeps_its_own_and_all_is_as_before_afterwards() -> None:
    before = (list(warnings.filters), warnings.showwarning, list(logging.getLogger("PIL").handlers))
    inside = threading.Barrier(4)
    heard: dict[int, list[str]] = {}

    def reads(n: int) -> None:
        with remarks() as said:
            inside.wait()  # all at once, so that they leave in another order than they came
            for _ in range(3):
                warnings.warn(f"image\n{n}", UserWarning, stacklevel=1)
                logging.getLogger("tifffile").warning("page %d", n)
            heard[n] = said

    threads = [threading.Thread(target=reads, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == {n: [f"image {n}", f"page {n}"] for n in range(4)}
    after = (list(warnings.filters), warnings.showwarning, list(logging.getLogger("PIL").handlers))
    assert after == before
    with pytest.warns(UserWarning, match="afterwards"):
        warnings.warn("afterwards", UserWarning, stacklevel=1)


def test_remarks_are_bounded_and_nest() -> None:
    with remarks() as outer:
        with remarks() as inner:
            warnings.warn("x" * 10_000, UserWarning, stacklevel=1)
        warnings.warn("outer", UserWarning, stacklevel=1)
    assert outer == ["outer"]
    assert len(inner[0]) < 300


def odd_images(root: Path) -> None:
    class_folders(root, 8)
    for n in range(3):
        saved(root / "nut" / f"exif{n}.jpg", RGB, exif=b"Exif\0\0" + BROKEN_EXIF)
    few = Image.fromarray(GREY // 64).convert("P")
    few.save(root / "bolt" / "palette.png", transparency=b"\0\x80\xff")
    dicom(root / "bolt" / "window.dcm", np.ascontiguousarray(GREY), WindowCenter=4, WindowWidth=0)


def test_what_decoders_remark_is_told_with_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, as a user runs it; the second time from the cache."""
    odd_images(tmp_path / "d")
    monkeypatch.setenv("LVLM_VA_CACHE", str(tmp_path / "cache"))
    code = f"import lvlm_va; lvlm_va.read_folder({str(tmp_path / 'd')!r}, size=8, log=print)"
    for _ in range(2):
        ran = subprocess.run(
            [sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True
        )
        assert "site-packages" not in ran.stdout + ran.stderr
        assert "UserWarning" not in ran.stderr
        [line] = [line for line in ran.stdout.splitlines() if "with remarks" in line]
        assert "4 images were read, with remarks" in line
        assert "bolt/window.dcm: its window has the width 0, which cannot be" in line
        for n in range(3):
            assert line.count(f"nut/exif{n}.jpg: ") == 1


def test_a_filter_that_makes_errors_of_warnings_loses_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd_images(tmp_path / "d")
    monkeypatch.setenv("LVLM_VA_CACHE", str(tmp_path / "cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        splits = lvlm_va.read_folder(tmp_path / "d", size=8)
    assert splits.set_aside == {}
