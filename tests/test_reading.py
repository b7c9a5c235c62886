"""Files as they come from cameras, hospitals and microscopes: real ones, written here."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import tifffile
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from lvlm_va.data.reading import read_image
from lvlm_va.errors import DataError

RAMP = np.arange(12 * 20, dtype=np.uint16).reshape(12, 20)  # no symmetry: every orientation differs
GREY = RAMP.astype(np.uint8)
RGB = np.stack([GREY, 255 - GREY, np.full_like(GREY, 9)], axis=2)
DEEP = (RAMP * 257 + 11).astype(np.uint16)  # up to 61,434: bytes of both halves matter


def saved(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".PNG"])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_lossless_formats_give_the_pixels_back(tmp_path: Path, suffix: str, pixels: np.ndarray) -> None:
    read = read_image(saved(tmp_path / f"a{suffix}", pixels))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pixels)


def test_webp_and_jpeg(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(saved(tmp_path / "a.webp", RGB, lossless=True)), RGB)
    jpeg = read_image(saved(tmp_path / "a.jpg", GREY, quality=100))
    assert jpeg.shape == GREY.shape
    assert np.abs(jpeg.astype(int) - GREY).max() <= 4
    cmyk = Image.fromarray(RGB).convert("CMYK")
    cmyk.save(tmp_path / "b.jpg")
    assert read_image(tmp_path / "b.jpg").shape == RGB.shape


UPRIGHT = {  # orientation → what the camera stored of an upright image (EXIF 2.3, 4.6.4)
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(UPRIGHT[orientation](RGB))
    np.testing.assert_array_equal(read_image(saved(tmp_path / "a.png", stored, exif=exif)), RGB)
    upright = read_image(saved(tmp_path / "upright.jpg", RGB, quality=95, subsampling=0))
    turned = read_image(saved(tmp_path / "turned.jpg", stored, quality=95, subsampling=0, exif=exif))
    assert turned.shape == upright.shape
    assert np.abs(turned.astype(int) - upright).mean() < 4, "JPEG's blocks lie elsewhere, the image does not"


def test_transparency_is_over_white_and_palettes_are_looked_up(tmp_path: Path) -> None:
    alpha = np.full((12, 20, 1), 51, dtype=np.uint8)  # a fifth
    over = read_image(saved(tmp_path / "a.png", np.concatenate([RGB, alpha], axis=2)))
    expected = 0.2 * RGB + 0.8 * 255
    assert np.abs(over - expected).max() <= 1
    grey = read_image(saved(tmp_path / "b.png", np.stack([GREY, alpha[:, :, 0]], axis=2)))
    assert grey.ndim == 2
    assert np.abs(grey - (0.2 * GREY + 0.8 * 255)).max() <= 1
    few = Image.fromarray((GREY // 64) * 60).convert("P")
    few.putpalette([c for i in range(256) for c in (i, 0, 255 - i)])
    few.save(tmp_path / "c.png")
    np.testing.assert_array_equal(read_image(tmp_path / "c.png"), np.asarray(few.convert("RGB")))
    few.save(tmp_path / "d.png", transparency=0)
    assert (read_image(tmp_path / "d.png")[GREY // 64 == 0] == 255).all()
    Image.fromarray(GREY > 100).save(tmp_path / "e.png")
    np.testing.assert_array_equal(read_image(tmp_path / "e.png"), 255 * (GREY > 100))


@pytest.mark.parametrize("write", ["png", "tif", "tif-big-endian", "tif-32"])
def test_sixteen_bits_are_scaled_by_their_range(tmp_path: Path, write: str) -> None:
    path = tmp_path / ("a.png" if write == "png" else "a.tif")
    if write == "png":
        saved(path, DEEP)
    else:
        deep = DEEP.astype(np.uint32) if write == "tif-32" else DEEP
        tifffile.imwrite(path, deep, byteorder=">" if "big" in write else "<")
    read = read_image(path)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, DEEP / 65535, atol=1e-6)


def test_bits_in_use(tmp_path: Path) -> None:
    twelve = saved(tmp_path / "a.png", RAMP * 17)  # up to 4,063
    np.testing.assert_allclose(read_image(twelve, bits=12), RAMP * 17 / 4095, atol=1e-6)
    with pytest.raises(DataError, match=r"levels from 11 to 61434, outside 0\.\.4095 \(12 bits\)"):
        read_image(saved(tmp_path / "b.png", DEEP), bits=12)


def test_unusual_tiff(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, DEEP, photometric="miniswhite")
    np.testing.assert_allclose(read_image(path), 1 - DEEP / 65535, atol=1e-6)
    for kind in (np.float32, np.float64):
        tifffile.imwrite(path, (DEEP / 65535).astype(kind))
        np.testing.assert_allclose(read_image(path), DEEP / 65535, atol=1e-6)
    tifffile.imwrite(path, RAMP.astype(np.float64))
    with pytest.raises(DataError, match=r"levels from 0 to 239; scale them to 0\.\.1"):
        read_image(path)
    tifffile.imwrite(path, np.full((4, 4), np.nan, dtype=np.float32))
    with pytest.raises(DataError, match="levels from nan"):
        read_image(path)
    tifffile.imwrite(path, RAMP.astype(np.int16) - 5)
    with pytest.raises(DataError, match="levels from -5"):
        read_image(path)
    tifffile.imwrite(path, np.stack([DEEP] * 5), photometric="minisblack")
    with pytest.raises(DataError, match="holds 5 images"):
        read_image(path)


def test_what_is_no_image(tmp_path: Path) -> None:
    whole = saved(
        tmp_path / "whole.jpg", np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    )
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:1200])
    text = tmp_path / "text.png"
    text.write_text("not an image")
    empty = tmp_path / "empty.png"
    empty.touch()
    for path, told in (
        (cut, "cannot be decoded .*truncated"),
        (text, "not an image"),
        (empty, "not an image"),
        (tmp_path / "none.png", "no such file"),
        (tmp_path / "none.dcm", "no such file"),
    ):
        with pytest.raises(DataError, match=told):
            read_image(path)
    (tmp_path / "text.dcm").write_text("not an image")
    with pytest.raises(DataError, match="cannot be decoded"):
        read_image(tmp_path / "text.dcm")


def dicom(path: Path, stored: np.ndarray, kind: str = "MONOCHROME2", **tags: Any) -> Path:
    """A DICOM file with these pixels, (H, W) or (H, W, 3) or (frames, H, W)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    record = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    record.SOPClassUID, record.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    record.ContentDate = datetime.date(2020, 1, 1).strftime("%Y%m%d")
    colour = stored.ndim == 3 and stored.shape[2] == 3
    frames = 0 if colour or stored.ndim == 2 else stored.shape[0]
    record.Rows, record.Columns = stored.shape[1:] if frames else stored.shape[:2]
    record.SamplesPerPixel = 3 if colour else 1
    if colour:
        record.PlanarConfiguration = 0
    if frames:
        record.NumberOfFrames = frames
    record.PhotometricInterpretation = kind
    record.BitsAllocated = 8 * stored.dtype.itemsize
    record.BitsStored = record.BitsAllocated
    record.HighBit = record.BitsStored - 1
    record.PixelRepresentation = int(stored.dtype.kind == "i")
    record.PixelData = stored.tobytes()
    for name, value in tags.items():
        setattr(record, name, value)
    record.save_as(path, enforce_file_format=True)
    return path


def test_dicom_without_a_window_is_shown_over_its_own_range(tmp_path: Path) -> None:
    expected = (RAMP - RAMP.min()) / np.ptp(RAMP)
    deep = 300 + 7 * RAMP
    np.testing.assert_allclose(read_image(dicom(tmp_path / "a.dcm", deep)), expected, atol=1e-6)
    inverted = read_image(dicom(tmp_path / "b.dcm", deep, "MONOCHROME1"))
    np.testing.assert_allclose(inverted, 1 - expected, atol=1e-6)
    assert (read_image(dicom(tmp_path / "c.dcm", np.full((4, 4), 7, dtype=np.uint16))) == 0).all()


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_dicom_window_is_the_standards(tmp_path: Path, function: str) -> None:
    """Against pydicom's own VOI function, which scales to the stored range instead of [0, 1]."""
    stored = (RAMP.astype(np.int32) * 20 - 1500).astype(np.int16)
    tags = {
        "RescaleSlope": 2,
        "RescaleIntercept": -1024,
        "WindowCenter": [300, 40],
        "WindowWidth": [1500, 80],
        "VOILUTFunction": function,
    }
    path = dicom(tmp_path / "a.dcm", stored, **tags)
    record = pydicom.dcmread(path)
    values = pydicom.pixels.apply_modality_lut(record.pixel_array, record)
    assert values.min() == 2 * stored.min() - 1024
    shown = pydicom.pixels.apply_voi_lut(values, record).astype(np.float64)
    lowest, highest = -(2**15) * 2 - 1024, (2**15 - 1) * 2 - 1024
    np.testing.assert_allclose(read_image(path), (shown - lowest) / (highest - lowest), atol=1e-5)


def test_dicom_in_colour(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(dicom(tmp_path / "a.dcm", RGB, "RGB")), RGB)
    ybr = np.array(Image.fromarray(RGB).convert("YCbCr"))
    read = read_image(dicom(tmp_path / "b.dcm", ybr, "YBR_FULL"))
    assert np.abs(read.astype(int) - RGB).max() <= 2


def test_dicom_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds 3 images"):
        read_image(dicom(tmp_path / "a.dcm", np.stack([GREY] * 3)))
    path = dicom(tmp_path / "b.dcm", GREY)
    record = pydicom.dcmread(path)
    del record.PixelData
    record.save_as(path)
    with pytest.raises(DataError, match="without an image"):
        read_image(path)


def test_a_missing_reader_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dicom(tmp_path / "a.dcm", GREY)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4)))
    for name in ("pydicom", "tifffile"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    for file in (path, tmp_path / "a.tif"):
        with pytest.raises(DataError, match=r"pip install 'lvlm-va\[medical\]'"):
            read_image(file)
