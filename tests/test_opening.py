"""What is opened, as what, and what is not: pipes, devices, links, other formats, images too large."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import lvlm_va
from lvlm_va.data import opening
from lvlm_va.data.reading import FORMATS, SUFFIXES, is_image, read_image
from lvlm_va.errors import DataError
from parts import class_folders
from test_reading import GREY, RAMP, RGB, saved

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pipes and links as Unix has them")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVLM_VA_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("suffix", sorted(SUFFIXES - {".dcm", ".dicom", ".ima"}))
def test_every_suffix_is_read(tmp_path: Path, suffix: str) -> None:
    name = next(name for name, suffixes in FORMATS.items() if suffix in suffixes)
    path = tmp_path / f"a{suffix.upper()}"
    if suffix == ".pfm":
        Image.fromarray((GREY / 255).astype(np.float32)).save(path, name)
        np.testing.assert_allclose(read_image(path), GREY / 255, atol=1e-6)
        return
    Image.fromarray(GREY > 100 if suffix == ".pbm" else GREY if suffix == ".pgm" else RGB).save(path, name)
    assert is_image(path)
    assert read_image(path).shape[:2] == GREY.shape


def test_files_are_told_apart_by_content(tmp_path: Path) -> None:
    for name in ("a.jpg", "b", "c.txt", "d.bmp"):
        saved(tmp_path / name, RGB, format="PNG")
        np.testing.assert_array_equal(read_image(tmp_path / name), RGB)


@pytest.mark.parametrize("levels", [255, 4095, 65535])
def test_portable_grey_maps_are_scaled_by_their_own_range(tmp_path: Path, levels: int) -> None:
    """Whatever `bits` says of other files."""
    stored = (RAMP.astype(np.uint32) * levels // 239).astype(">u2" if levels > 255 else np.uint8)
    (tmp_path / "a.pgm").write_bytes(b"P5 20 12 %d\n" % levels + stored.tobytes())
    read = read_image(tmp_path / "a.pgm", bits=12)
    read = read / 255 if read.dtype == np.uint8 else read
    np.testing.assert_allclose(read, stored / levels, atol=1e-4)


def test_tiff_files_that_say_how_many_bits_they_use(tmp_path: Path) -> None:
    twelve = (RAMP * 17).astype(np.uint16)
    packed = bytearray()
    for a, b in twelve.reshape(-1, 2).tolist():
        packed += bytes((a >> 4, (a & 15) << 4 | b >> 8, b & 255))
    tags = [
        (256, 3, 1, 20),
        (257, 3, 1, 12),
        (258, 3, 1, 12),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 3, 1, 12),
        (279, 4, 1, len(packed)),
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    start = struct.pack("<2sHI", b"II", 42, 8 + len(packed))
    (tmp_path / "a.tif").write_bytes(start + bytes(packed) + directory + bytes(4))
    np.testing.assert_allclose(read_image(tmp_path / "a.tif"), twelve / 4095, atol=1e-6)


def png(path: Path, width: int, height: int, depth: int, kind: int, rows: bytes, extra: bytes = b"") -> Path:
    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + (chunk(b"tRNS", extra) if extra else b"")
    path.write_bytes(content + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


def test_deep_colour_of_which_the_upper_bits_are_unused_is_refused(tmp_path: Path) -> None:
    pixels = (np.arange(36).reshape(3, 12) * 1000).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    path = png(tmp_path / "a.png", 4, 3, 16, 2, rows)
    np.testing.assert_array_equal(read_image(path).ravel(), pixels.ravel() >> 8)
    with pytest.raises(DataError, match="the lower 12 are in use; save it with 8 bits"):
        read_image(path, bits=12)


def test_a_transparent_level_is_over_white_also_in_16_bits(tmp_path: Path) -> None:
    pixels = (np.arange(12).reshape(3, 4) * 5000).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    read = read_image(png(tmp_path / "a.png", 4, 3, 16, 0, rows, struct.pack(">H", 10000)))
    np.testing.assert_allclose(read, np.where(pixels == 10000, 1, pixels / 65535), atol=1e-6)


def test_floating_point_tiff_with_white_as_least(tmp_path: Path) -> None:
    levels = (RAMP / 239).astype(np.float64)
    tifffile.imwrite(tmp_path / "a.tif", levels, photometric="miniswhite")
    np.testing.assert_allclose(read_image(tmp_path / "a.tif"), 1 - levels, atol=1e-6)
    with tifffile.TiffWriter(tmp_path / "b.tif") as tiff:
        tiff.write(levels)
        tiff.write(levels[:5])
    with pytest.raises(DataError, match="holds 2 images"):
        read_image(tmp_path / "b.tif")


@pytest.mark.parametrize("suffix", [".png", ".eps", ".jpg", ".tif"])
def test_no_image_starts_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """Pillow hands EPS to Ghostscript, whatever the file is called."""
    (tmp_path / "bin").mkdir()
    for program in ("gs", "gswin64c", "djpeg", "file"):
        fake = tmp_path / "bin" / program
        fake.write_text(f"#!/bin/sh\necho run >> {tmp_path}/started\necho 10.0\n")
        fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    path = tmp_path / f"a{suffix}"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match=r"not an image in a format|cannot be decoded"):
        read_image(path)
    assert not (tmp_path / "started").exists()


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's path may have 108 bytes
        server.bind("socket.png")
        os.chdir(here)
        for name, told in (
            ("pipe", "a named pipe, not a file"),
            ("folder", "a folder, not a file"),
            ("device", "a device, not a file"),
            ("socket", "a socket, not a file"),
            ("gone", r"a symbolic link to .*nothing, where there is nothing"),
            ("loop", "cannot be opened .*symbolic links"),
            ("zero\0", "cannot be opened"),
        ):
            with pytest.raises(DataError, match=told):
                read_image(tmp_path / f"{name}.png")


def test_a_pipe_that_takes_the_place_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking and opening: refused then, too, and never waited for."""
    path = tmp_path / "a.png"
    os.mkfifo(path)
    looks = iter([lambda _: None, opening._refuse_others])
    monkeypatch.setattr(opening, "_refuse_others", lambda mode: next(looks)(mode))
    with pytest.raises(DataError, match="a named pipe"):
        read_image(path)


def test_pipes_and_links_to_nothing_in_class_folders_are_told(tmp_path: Path) -> None:
    class_folders(tmp_path, 8)
    os.mkfifo(tmp_path / "nut" / "pipe.png")
    os.mkfifo(tmp_path / "nut" / "pipe")
    (tmp_path / "nut" / "gone.png").symlink_to(tmp_path / "nothing")
    splits = lvlm_va.read_folder(tmp_path, size=8)
    assert set(splits.set_aside) == {"nut/pipe.png", "nut/pipe", "nut/gone.png"}
    assert "named pipe" in splits.set_aside["nut/pipe.png"]
    assert "broken link" in splits.set_aside["nut/gone.png"]


def test_an_image_may_be_as_large_as_said(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", GREY)
    assert read_image(path, max_pixels=240).shape == (12, 20)
    with pytest.raises(DataError, match=r"20×12 = 240 pixels are more than data\.max_pixels = 239; name a"):
        read_image(path, max_pixels=239)
    tifffile.imwrite(tmp_path / "a.tif", GREY / 255)
    with pytest.raises(DataError, match=r"240 pixels are more"):
        read_image(tmp_path / "a.tif", max_pixels=239)


def test_more_than_pillows_own_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    path = saved(tmp_path / "a.png", GREY)
    with pytest.raises(DataError, match=r"240 pixels are more than data\.max_pixels = 200; name a larger"):
        read_image(path, max_pixels=200)
    np.testing.assert_array_equal(read_image(path, max_pixels=300), GREY)
    bomb = png(tmp_path / "bomb.png", 100_000, 100_000, 1, 0, b"")
    with pytest.raises(DataError, match=r"10,000,000,000 pixels are more than"):
        read_image(bomb)


EXIF = {  # name → EXIF block, whether an orientation can be read in it
    "empty": b"",
    "garbage": b"garbage that is no TIFF file",
    "cut": b"II*\0\x08\0\0\0\x05\0",
    "far": b"II*\0\xff\xff\xff\x7f",
    "type": b"II*\0\x08\0\0\0\x01\0\x12\x01\x63\0\x01\0\0\0\x06\0\0\0\0\0\0\0",
    "text": b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0six\0\0\0\0\0",
    "nine": b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0\0\0\0\0",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", EXIF)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_broken_exif_leaves_a_sound_image(tmp_path: Path, name: str, suffix: str) -> None:
    exif = EXIF[name] if suffix == ".png" else b"Exif\0\0" + EXIF[name]
    options = {"lossless": True} if suffix == ".webp" else {}
    with_exif = read_image(saved(tmp_path / f"a{suffix}", RGB, exif=exif, **options))
    without = read_image(saved(tmp_path / f"b{suffix}", RGB, **options))
    np.testing.assert_array_equal(with_exif, without)


def test_broken_metadata_beside_a_sound_orientation(tmp_path: Path) -> None:
    """Other tags are not read, so they cannot hinder."""
    exif = (
        b"II*\0\x08\0\0\0\x02\0"
        + bytes.fromhex("0f0163000100000006000000")
        + bytes.fromhex("120103000100000006000000")
    )
    stored = np.ascontiguousarray(np.rot90(RGB, 1))
    read = read_image(saved(tmp_path / "a.png", stored, exif=exif + bytes(4)))
    np.testing.assert_array_equal(read, RGB)


def test_a_process_with_a_pipe_among_its_images_ends(tmp_path: Path) -> None:
    class_folders(tmp_path / "d", 12)
    os.mkfifo(tmp_path / "d" / "nut" / "pipe.png")
    process = subprocess.Popen(
        [sys.executable, "-c", f"import lvlm_va; lvlm_va.read_folder({str(tmp_path / 'd')!r}, size=8)"]
    )
    timer = threading.Timer(120, process.send_signal, [signal.SIGKILL])
    timer.start()
    try:
        assert process.wait() == 0
    finally:
        timer.cancel()


def test_images_of_hugging_face_start_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "gs"
    fake.write_text(f"#!/bin/sh\necho run >> {tmp_path}/started\necho 10.0\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    class_folders(tmp_path / "d", 8)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    files = sorted((tmp_path / "d").rglob("*.png"))
    images = [{"bytes": None, "path": str(file)} for file in files[:-1]]
    images += [{"bytes": files[-1].read_bytes(), "path": None}, {"bytes": eps, "path": "x.png"}]
    labels = [file.parent.name for file in files] + ["nut"]
    made = datasets.Dataset.from_dict({"image": images, "label": labels})
    made = made.cast_column("image", datasets.Image())
    splits = lvlm_va.from_huggingface(made, size=8, validation=0, test=0)
    assert splits.set_aside == {"train-16": "not an image in a format that can be read"}
    assert not (tmp_path / "started").exists()
