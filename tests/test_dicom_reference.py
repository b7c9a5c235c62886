"""Real DICOM files, those that come with pydicom, against pydicom's own pipeline from values to display."""

import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

from lvlm_va.data.reading import read_image
from lvlm_va.data.remarks import remarks
from lvlm_va.errors import DataError

# CT, MR, ultrasound, dose, secondary capture; uncompressed in both orders, RLE, JPEG, JPEG-LS, JPEG 2000.
FILES = {
    "CT_small.dcm": None,
    "693_J2KI.dcm": None,
    "J2K_pixelrep_mismatch.dcm": None,
    "JPEG2000.dcm": None,
    "MR_small.dcm": None,
    "MR_small_RLE.dcm": None,
    "MR_small_bigendian.dcm": None,
    "MR_small_jpeg_ls_lossless.dcm": None,
    "liver_1frame.dcm": None,
    "rtdose.dcm": 7,
    "rtdose_1frame.dcm": None,
    "examples_palette.dcm": None,
    "examples_rgb_color.dcm": None,
    "examples_ybr_color.dcm": 3,
    "SC_rgb_rle_16bit.dcm": None,
    "SC_rgb_rle_2frame.dcm": 1,
    "SC_ybr_full_422_uncompressed.dcm": None,
}
"""File → which of its frames."""


def path_of(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"this pydicom comes without {name}")
    return Path(str(path))


def reference(record: Dataset, frame: int | None) -> np.ndarray:
    """(H, W) or (H, W, 3) in [0, 1]."""
    stored = pixel_array(record, index=frame or 0)
    if record.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(stored, record)
        return colours / 255 if colours.max() < 256 else (colours >> 8) / 255
    if record.SamplesPerPixel == 3:
        return stored / (2.0**record.BitsStored - 1)
    values = apply_modality_lut(stored, record)
    shown = np.asarray(apply_voi_lut(values, record, index=0), dtype=np.float64)
    if "WindowCenter" in record:
        signed, bits = record.PixelRepresentation, record.BitsStored
        ends = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1], float)
        ends = ends * float(record.get("RescaleSlope", 1)) + float(record.get("RescaleIntercept", 0))
    else:
        padding = record.get("PixelPaddingValue")
        inside = shown if padding is None else shown[stored != padding]
        ends = np.array([inside.min(), inside.max()])
        if padding is not None:
            shown = np.where(stored == padding, ends[0], shown)
    shown = (shown - ends[0]) / (ends[1] - ends[0])
    return 1 - shown if record.PhotometricInterpretation == "MONOCHROME1" else shown


@pytest.mark.parametrize("name", FILES)
def test_real_files_are_shown_as_pydicom_shows_them(name: str) -> None:
    path, frame = path_of(name), FILES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's remarks on its own files
        expected = reference(pydicom.dcmread(path), frame)
    with remarks():
        read = read_image(path, frame=frame)
    if read.dtype == np.uint8:
        np.testing.assert_allclose(read / 255, expected, atol=0.51 / 255)
    else:
        np.testing.assert_allclose(read, expected, atol=1e-5)
    assert read.max() > read.min()


def test_every_file_that_comes_with_pydicom_is_read_or_told() -> None:
    """Plans, reports and waveforms are no images; damaged and truncated files say so."""
    folder = path_of("CT_small.dcm").parent
    read: list[str] = []
    told: dict[str, str] = {}
    for path in sorted(folder.glob("*.dcm")):
        if path.stat().st_size > 400_000:
            continue
        with remarks():
            try:
                read_image(path, frame=0)
                read.append(path.name)
            except DataError as error:
                told[path.name] = str(error)
    assert len(read) > 40
    assert {"rtplan.dcm", "test-SR.dcm", "MR_truncated.dcm"} <= told.keys()
    assert not [text for text in told.values() if "\n" in text or "object has no attribute" in text]
