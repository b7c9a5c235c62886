"""One picture from a DICOM file, as a viewer would show it (DICOM PS3.3, C.7.6.3, C.11.1, C.11.2)."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvlm_va.errors import DataError

__all__ = ["read_dicom"]

_GREY = ("MONOCHROME1", "MONOCHROME2")


def read_dicom(path: Path) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Decode a file with a single frame.

    The stored values are rescaled (slope and intercept), then the first window (centre and width) is mapped
    to [0, 1]; without a window, the picture's own lowest to highest value is. MONOCHROME1, in which the
    highest value is black, is inverted. Colour is converted to RGB.

    Returns:
        (H, W) float32 in [0, 1], or (H, W, 3) uint8 for colour.

    Raises:
        DataError: if it holds several frames, no picture, or the reader is not installed.
    """
    pixels = _pydicom().pixels
    record = _pydicom().dcmread(path, force=False)
    if "PixelData" not in record:
        raise DataError("a DICOM file without a picture")
    if int(record.get("NumberOfFrames") or 1) > 1:
        raise DataError(f"a DICOM file with {int(record.NumberOfFrames)} frames; save the one that is meant")
    kind = str(record.PhotometricInterpretation)
    stored = pixels.pixel_array(record)  # YBR comes out as RGB
    if kind == "PALETTE COLOR":
        stored = pixels.apply_color_lut(stored, record)
    if stored.ndim == 3:
        depth = 8 * stored.dtype.itemsize
        return np.asarray(stored >> (depth - 8), dtype=np.uint8)
    if kind not in _GREY:
        raise DataError(f"a DICOM file of the unknown kind {kind}")
    shown = _window(np.asarray(pixels.apply_modality_lut(stored, record), dtype=np.float64), record)
    return (1 - shown if kind == "MONOCHROME1" else shown).astype(np.float32)


def _window(values: NDArray[np.float64], record: Any) -> NDArray[np.float64]:
    """(H, W) rescaled values to [0, 1]: C.11.2.1.2 for LINEAR, C.11.2.1.3 for the other two functions."""
    centre, width = _first(record.get("WindowCenter")), _first(record.get("WindowWidth"))
    if centre is None or width is None:
        lowest, highest = values.min(), values.max()
        return (values - lowest) / (highest - lowest) if highest > lowest else np.zeros_like(values)
    function = record.get("VOILUTFunction") or "LINEAR"
    if function == "SIGMOID":
        shown: NDArray[np.float64] = 1 / (1 + np.exp(-4 * (values - centre) / width))
        return shown
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width <= 0:  # a step: what is above the centre is white
        return (values > centre).astype(np.float64)
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _first(value: Any) -> float | None:
    """A DICOM number that may be absent, empty, or several, of which the first is the standard view."""
    if value is None or value == "":
        return None
    try:
        return float(value)
    except TypeError:
        return float(value[0])


def _pydicom() -> Any:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError:
        raise DataError("needs the reader for DICOM files: pip install 'lvlm-va[medical]'") from None
    return pydicom
