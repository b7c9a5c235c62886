"""Mistakes in what images come in: tables, folders, and the image files themselves."""

import io
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.bad_inputs import Case, project

__all__ = ["cases"]


def cases() -> Iterator[Case]:
    """Every case of this file."""
    yield from _tables()
    yield from _folders()
    yield from _images()


Rows = list[list[str]]


def _tables() -> Iterator[Case]:
    def table(
        change: Callable[[Rows], Any] = lambda _: None,
        bytes_of: Callable[[str], bytes] = str.encode,
        name: str = "m.csv",
        **settings: Any,
    ) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            files = sorted((folder / "images").glob("*/*.png"))
            rows = [["file", "label"], *([f.relative_to(folder).as_posix(), f.parent.name] for f in files)]
            rows = change(rows) or rows
            text = "\n".join(",".join(row) for row in rows) + "\n"
            (folder / name).write_bytes(bytes_of(text))
            project(folder, data__name="manifest", data__path=name, **settings)

        return make

    def cell(row: int, column: int, text: str, rows: Rows) -> None:
        rows[row][column] = text

    def column(name: str, texts: list[str], rows: Rows) -> None:
        for n, row in enumerate(rows):
            row.append(name if n == 0 else texts[(n - 1) % len(texts)])

    at = r"m\.csv, line 3"
    for text in ("", "nan", "NA", "NULL", "  "):
        yield Case("tables", f"a label is {text!r}", at, table(partial(cell, 2, 1, text)))
    yield Case("tables", "a file is empty", at, table(partial(cell, 2, 0, "")))
    yield Case(
        "tables", "a file is listed twice", r"bolt/0\.png", table(partial(cell, 2, 0, "images/bolt/0.png"))
    )
    for text, names in {
        "images/bolt/gone.png": "gone",
        "images": "set aside.*images|images: a folder",
        "images/bolt/0\x00.png": "0",
        "../../../etc/passwd": "passwd",
        "/dev/zero": "zero",
        "x" * 5000: "xxx",
        "http://127.0.0.1/a.png": "127",
        "images\\bolt\\gone.png": "gone",
    }.items():
        codes = (0, 2)
        yield Case("tables", f"a file is {text[:40]!r}", names, table(partial(cell, 2, 0, text)), codes=codes)
    yield Case("tables", "a row too short", at, table(lambda rows: rows[2].pop() and None))
    yield Case("tables", "a row too long", at, table(lambda rows: rows[2].append("x")))
    yield Case("tables", "no header", "no column|file", table(lambda rows: rows[1:]))
    yield Case("tables", "only a header", "label|row|class|no images|needs two", table(lambda rows: rows[:1]))
    yield Case("tables", "empty", "is empty", table(bytes_of=lambda _: b""))
    yield Case("tables", "blank lines alone", "is empty", table(bytes_of=lambda _: b"\n\n\n"))
    yield Case(
        "tables",
        "one class",
        "two classes",
        table(lambda rows: [*rows[:1], *(r for r in rows if r[1] == "bolt")]),
    )
    yield Case("tables", "a label column misspelt", "lable|label", table(partial(cell, 0, 1, "lable")))
    yield Case("tables", "a file column misspelt", "flie|file", table(partial(cell, 0, 0, "flie")))
    yield Case("tables", "two columns of one name", "label", table(partial(column, "label", ["a", "b"])))
    for name, value in {
        "an unknown part": "trian",
        "a part that is unclear": "dev",
        "an empty part": "",
        "a part by number": "0",
    }.items():
        yield Case("tables", name, "split", table(partial(column, "split", [value])))
    yield Case("tables", "no training part", "training|train", table(partial(column, "split", ["test"])))
    yield Case("tables", "UTF-16", "UTF-8|column", table(bytes_of=lambda text: text.encode("utf-16")))
    yield Case(
        "tables",
        "a label in Latin-1",
        "UTF-8",
        table(partial(cell, 2, 1, "Schräube"), lambda t: t.encode("latin-1")),
    )
    yield Case("tables", "an open quote", r"m\.csv", table(partial(cell, 2, 0, '"images/bolt/0.png')))
    yield Case("tables", "an image in its place", r"m\.csv", table(bytes_of=lambda _: _png()))
    yield Case(
        "tables",
        "a label of 5000 letters",
        "needs|class|xxx",
        table(partial(cell, 2, 1, "x" * 5000)),
        codes=(0, 2),
    )
    yield Case("tables", "a label with an escape", "label|x1b", table(partial(cell, 2, 1, "\x1b]0;x\x07")))
    yield Case(
        "tables", "no such table", r"gone\.csv", partial(_set, data__name="manifest", data__path="gone.csv")
    )
    yield Case("tables", "a folder in its place", "images", partial(_set, data__name="manifest"))
    yield Case("tables", "no parquet", r"m\.parquet", table(name="m.parquet"))
    yield Case(
        "tables", "cut parquet", r"m\.parquet", table(bytes_of=lambda _: b"PAR1\0\0PAR1", name="m.parquet")
    )
    yield Case(
        "tables",
        "a mask that is not there",
        "gone",
        table(partial(column, "mask", ["gone.png"])),
        codes=(0, 2),
    )
    yield Case(
        "tables", "an image as its own mask", "mask", table(partial(column, "mask", ["m.csv"])), codes=(0, 2)
    )
    for name, settings, names in (
        ("a group column that is not there", {"data__groups": ["hospital"]}, "hospital"),
        ("a column purpose misspelt", {"data__columns": {"flie": "file"}}, "flie"),
        ("a named column that is not there", {"data__columns": {"label": "klass"}}, "klass"),
        ("several columns for files", {"data__columns": {"file": ["file", "label"]}}, "file"),
        ("one column in a list", {"data__columns": {"label": ["label"]}}, "label"),
        ("labels that are no 0 and 1", {"data__columns": {"label": ["file", "label"]}}, "line 2"),
        ("no label column", {"data__columns": {"label": None}}, "label"),
        ("a class that is not listed", {"data__classes": ["bolt", "screw"]}, "nut"),
        ("a class named twice", {"data__classes": ["bolt", "bolt"]}, "bolt"),
        ("one class named", {"data__classes": ["bolt"]}, "two classes|nut"),
        ("a class without images", {"data__classes": ["bolt", "nut", "screw"]}, "screw"),
        ("a root that is not there", {"data__root": "gone"}, "gone|no such file"),
        ("more held out than there is", {"data__test": 100}, "100|held out"),
        ("all held out", {"data__test": 0.99}, "held out"),
        (
            "parts said of no column",
            {"data__splits": {"0": "somewhere"}, "data__columns": {"split": "label"}},
            "split",
        ),
    ):
        yield Case("tables", name, names, table(**settings))


def _set(folder: Path, **changes: Any) -> None:
    project(folder, **changes)


def _folders() -> Iterator[Case]:
    def images(change: Callable[[Path], Any], **settings: Any) -> Callable[[Path], None]:
        def make(folder: Path) -> None:
            change(folder / "images")
            if settings:
                project(folder, **settings)

        return make

    def into(*names: str) -> Callable[[Path], None]:
        """The class folders, moved or copied into folders of these names."""

        def change(root: Path) -> None:
            (root.parent / "kept").mkdir()
            for name in ("bolt", "nut"):
                shutil.move(root / name, root.parent / "kept" / name)
            for name in names:
                shutil.copytree(root.parent / "kept", root / name, dirs_exist_ok=True)
            shutil.rmtree(root.parent / "kept")

        return change

    def emptied(name: str) -> Callable[[Path], None]:
        def change(root: Path) -> None:
            for file in (root / name).iterdir():
                file.unlink()

        return change

    def flat(root: Path) -> None:
        for file in list(root.glob("*/*")):
            file.rename(root / f"{file.parent.name}{file.name}")
        (root / "bolt").rmdir()
        (root / "nut").rmdir()

    def loose(root: Path) -> None:
        shutil.copy(root / "bolt" / "0.png", root / "loose.png")

    def loose_test(root: Path) -> None:
        into("train")(root)
        (root / "test").mkdir()
        shutil.copy(root / "train" / "bolt" / "0.png", root / "test" / "0.png")

    def other_classes(root: Path) -> None:
        into("train", "test")(root)
        (root / "test" / "bolt").rename(root / "test" / "bolts")

    def same(root: Path) -> None:
        shutil.copy(root / "bolt" / "0.png", root / "nut" / "copy.png")

    def renamed(name: bytes) -> Callable[[Path], None]:
        def change(root: Path) -> None:
            (root / "bolt" / "0.png").rename(root / "bolt" / os.fsdecode(name))

        return change

    made: dict[str, tuple[Callable[[Path], Any], str, tuple[int, ...]]] = {
        "one level too high": (into("set"), "are they in .*set", (2,)),
        "two levels too high": (into("a/b"), "are they in .*a/b", (2,)),
        "no class folders": (flat, "without class folders|two classes", (2,)),
        "one class folder": (lambda r: shutil.rmtree(r / "nut"), "two classes", (2,)),
        "no folder": (lambda r: shutil.rmtree(r), "no such folder", (2,)),
        "an empty folder": (lambda r: [shutil.rmtree(r / n) for n in ("bolt", "nut")], "two classes", (2,)),
        "a class without images": (emptied("nut"), "nut", (2,)),
        "images beside class folders": (loose, r"loose\.png", (0,)),
        "loose images as test": (loose_test, "test", (0, 2)),
        "a part that is unclear": (into("train", "dev"), "dev", (0, 2)),
        "two training parts": (into("train", "training"), "train", (2,)),
        "two parts of one image each": (into("train", "test"), "same images in two parts|leak", (0,)),
        "test alone": (into("test"), "train", (2,)),
        "parts within a class": (into("bolt/train", "bolt/test", "nut/train"), "bolt", (0, 2)),
        "another class in test": (other_classes, "bolts", (2,)),
        "one image in two classes": (same, "same image in two classes", (0,)),
        "a name that is not UTF-8": (renamed(b"Schr\xe4ube.png"), "UTF-8", (0,)),
        "a name that steers the terminal": (renamed(b"\x1b]0;x\x07.png"), "control character", (0,)),
        "a name with a line break": (renamed(b"a\nb.png"), "control character", (0,)),
        "a named pipe": (lambda r: os.mkfifo(r / "bolt" / "pipe.png"), "pipe", (0,)),
        "a link to nothing": (lambda r: (r / "bolt" / "gone.png").symlink_to("nothing"), r"gone\.png", (0,)),
        "a link in a circle": (lambda r: (r / "bolt" / "loop").symlink_to(r / "bolt"), "loop", (0,)),
        "a link to itself": (
            lambda r: (r / "bolt" / "self.png").symlink_to(r / "bolt" / "self.png"),
            "self",
            (0,),
        ),
        "a link out of the folder": (
            lambda r: (r / "bolt" / "null.png").symlink_to("/dev/null"),
            "null",
            (0,),
        ),
        "thumbnails of a NAS": (lambda r: shutil.copytree(r / "nut", r / "bolt" / "@eaDir"), "@eaDir", (0,)),
        "a folder of a Mac": (lambda r: shutil.copytree(r / "nut", r / "__MACOSX"), "__MACOSX", (0,)),
        "an empty folder beside classes": (lambda r: (r / "new").mkdir(), "new", (0,)),
        "texts among images": (lambda r: (r / "bolt" / "notes.txt").write_text("x"), r"notes\.txt", (0,)),
        "a video among images": (lambda r: (r / "bolt" / "film.mp4").write_bytes(b"x"), r"film\.mp4", (0,)),
    }
    for name, (change, names, codes) in made.items():
        yield Case("folders", name, names, images(change), codes=codes)
    for name, settings, names in (
        ("classes in another spelling", {"data__classes": ["Bolt", "Nut"]}, "bolt"),
        ("a class that has no folder", {"data__classes": ["bolt", "nut", "screw"]}, "screw"),
        ("columns of a folder", {"data__columns": {"file": "x"}}, "columns"),
        ("groups of a folder", {"data__groups": ["x"]}, "groups"),
        ("an unknown data set", {"data__name": "foldr"}, "foldr"),
        ("a data set of no module", {"data__name": "gone:load"}, "gone"),
        ("a data set of no function", {"data__name": "json:gone"}, "gone"),
        ("a data set that returns something else", {"data__name": "json:dumps"}, "json:dumps"),
        ("no path", {"data__path": None}, "path"),
        ("a file as path", {"data__path": "project.yaml"}, r"project\.yaml"),
        ("a path with a zero byte", {"data__path": "a\0b"}, "path|a"),
        ("a path of 5000 letters", {"data__path": "x" * 5000}, "xxx"),
    ):
        yield Case("folders", name, names, partial(_set, **settings))


def _png(size: tuple[int, int] = (12, 12), mode: str = "RGB", **options: Any) -> bytes:
    return _saved(Image.new(mode, size), "PNG", **options)


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is so large."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", head)
        + _chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + _chunk(b"IEND", b"")
    )


def _dicom(**tags: Any) -> bytes:
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = tags.pop("syntax", ExplicitVRLittleEndian)
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3"
    record = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    pixels = np.arange(144, dtype=np.uint16)
    whole: dict[str, Any] = {
        "SOPClassUID": SecondaryCaptureImageStorage,
        "SOPInstanceUID": "1.2.3",
        "Rows": 12,
        "Columns": 12,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "PixelData": pixels.tobytes(),
    }
    for name, value in (whole | tags).items():
        if value is not None:
            setattr(record, name, value)
    file = io.BytesIO()
    pydicom.dcmwrite(file, record, enforce_file_format=True)
    return file.getvalue()


def _images() -> Iterator[Case]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8))
    whole = {form: _saved(noise, form) for form in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "JPEG2000")}
    suffix = {"JPEG": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}
    contents: dict[str, bytes] = {}
    for form, content in whole.items():
        end = suffix.get(form, form.lower())
        for share in (0.01, 0.1, 0.5):
            contents[f"{form} cut at {share:.0%}.{end}"] = content[: max(4, int(share * len(content)))]
        contents[f"{form} without its beginning.{end}"] = content[16:]
    contents |= {
        "empty.png": b"",
        "a text.png": b"not an image",
        "HTML of a failed download.jpg": b"<!DOCTYPE html><html><body>404</body></html>",
        "a pointer of Git LFS.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "zeros.png": bytes(4096),
        "EPS by another name.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
        "PDF.png": b"%PDF-1.7\n",
        "SVG.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "a zip.png": b"PK\x03\x04" + bytes(60),
        "4 gigapixels claimed.png": _claims(65_000, 65_000),
        "20000 by 10000 pixels.png": _claims(20_000, 10_000),
        "no width.png": _claims(0, 12),
        "a PNG with a bad checksum.png": whole["PNG"][:60] + b"\0\0\0\0" + whole["PNG"][64:],
        "three frames.gif": _saved(
            noise, "GIF", save_all=True, append_images=[noise.rotate(9), noise.rotate(5)]
        ),
        "three pages.tif": _saved(noise, "TIFF", save_all=True, append_images=[noise, noise]),
        "floats beyond 1.tif": _saved(Image.fromarray(np.full((9, 9), 7.0, np.float32)), "TIFF"),
        "floats that are no numbers.tif": _saved(
            Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF"
        ),
        "negative whole numbers.tif": _saved(Image.fromarray(np.full((9, 9), -7, np.int32)), "TIFF"),
        "a text.dcm": b"not an image",
        "PNG by another name.dcm": whole["PNG"],
        "DICOM cut off.dcm": _dicom()[:300],
        "DICOM cut in the pixels.dcm": _dicom()[:-40],
        "DICOM without pixels.dcm": _dicom(PixelData=None),
        "DICOM without rows.dcm": _dicom(Rows=None),
        "DICOM without its kind.dcm": _dicom(PhotometricInterpretation=None),
        "DICOM of an unknown kind.dcm": _dicom(PhotometricInterpretation="CMYK"),
        "DICOM without bits.dcm": _dicom(BitsAllocated=None),
        "DICOM of 0 bits stored.dcm": _dicom(BitsStored=0),
        "DICOM of 3 frames.dcm": _dicom(NumberOfFrames=3, PixelData=bytes(864)),
        "DICOM of -1 frames.dcm": _dicom(NumberOfFrames=-1),
        "DICOM larger than its pixels.dcm": _dicom(Rows=60_000, Columns=60_000),
        "DICOM of no rows.dcm": _dicom(Rows=0),
        "DICOM without the bits' meaning.dcm": _dicom(PixelRepresentation=None),
        "DICOM of palette without palette.dcm": _dicom(PhotometricInterpretation="PALETTE COLOR"),
        "DICOM of colour in one sample.dcm": _dicom(PhotometricInterpretation="RGB"),
        "DICOM that is padding alone.dcm": _dicom(PixelPaddingValue=0, PixelPaddingRangeLimit=65535),
        "DICOM with an unknown function.dcm": _dicom(WindowCenter=9, WindowWidth=9, VOILUTFunction="CURVE"),
    }
    for name, content in contents.items():
        file, _, end = name.rpartition(".")
        yield Case(
            "images",
            f"{file} (.{end})",
            r"new\." + end,
            partial(_put, content, f"images/bolt/new.{end}"),
            codes=(0,),
        )


def _put(content: bytes, name: str, folder: Path) -> None:
    (folder / name).write_bytes(content)
