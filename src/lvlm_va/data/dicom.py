"""One image from a DICOM file, as a viewer would show it (DICOM PS3.3, C.7.6.3, C.11.1, C.11.2)."""

import io
import math
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lvlm_va.data.dicom_tables import palette_colours, table_of
from lvlm_va.data.frames import frame_of
from lvlm_va.errors import DataError

__all__ = ["begins_like_dicom", "read_dicom"]

_GREY = ("MONOCHROME1", "MONOCHROME2")
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_NEEDED = ("Rows", "Columns", "PhotometricInterpretation", "SamplesPerPixel", "BitsAllocated")
_GDCM_FOUND_NONE = "'NoneType' object has no attribute 'encode'"
_ITEM = b"\xfe\xff\x00\xe0"  # begins compressed pixels
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_PIECE = 1 << 20
_MAX_INFLATED = 1 << 29
_SHARED = ("PixelValueTransformationSequence", "FrameVOILUTSequence")  # of enhanced files
_JPEG = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")  # baseline and extended


def begins_like_dicom(file: BinaryIO) -> bool:
    """DICM after 128 bytes, or, without them, an element of group 2 or 8; `file` is at its start again."""
    head = file.read(132)
    file.seek(0)
    if head[128:] == b"DICM":
        return True
    group, element = head[:2], head[3:4]  # elements below 0100: the first of a file have the lowest numbers
    kind, length = head[4:6], int.from_bytes(head[4:8], "little")
    plausible = (kind.isalpha() and kind.isupper()) or (len(head) > 8 and length <= len(head))
    return group in (b"\x02\0", b"\x08\0") and element == b"\0" and plausible


def read_dicom(
    file: BinaryIO, *, check: Callable[[int, int], None], frame: int | None = None
) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Decode a file with a single frame, or one of its frames.

    The stored values are rescaled (slope and intercept, or a table), then the first window (centre and
    width) is mapped to [0, 1]; without a window, the first VOI table is, and without one, the image's own
    lowest to highest value. MONOCHROME1, in which the highest value is black, is inverted. Padding
    (PixelPaddingValue and its like) is no part of the image: it does not count for the range, and is
    black. Colour is converted to RGB.

    Args:
        file: open for reading, at its start.
        check: told width and height before pixels are decoded.
        frame: which one, from 0; needed where there are several.

    Returns:
        (H, W) float32 in [0, 1], or (H, W, 3) uint8 for colour.

    Raises:
        DataError: if it holds several frames, no image, one that cannot be shown rightly, or the reader is
            not installed.
    """
    record = _record(file)
    if not any(name in record for name in _PIXELS):
        raise DataError("a DICOM file without an image")
    if lacking := [name for name in _NEEDED if record.get(name) is None]:
        raise DataError(f"a DICOM file that does not say its {', '.join(lacking)}")
    frame = frame_of(max(int(record.get("NumberOfFrames") or 1), 1), frame)
    _take_groups(record, frame)
    check(int(record.Columns), int(record.Rows))
    kind = str(record.PhotometricInterpretation)
    if kind in _GREY and record.get("PixelPresentation") in ("COLOR", "MIXED"):
        raise DataError("a DICOM file with colours over grey values; save it as RGB")
    stored, facts = _decoded(record, frame)
    if kind == "PALETTE COLOR":
        return palette_colours(stored, record)
    if facts["photometric_interpretation"] == "RGB" and stored.ndim == 3 and stored.shape[2] == 3:
        return _colours(stored, int(facts["bits_stored"]))
    if kind not in _GREY or stored.ndim != 2:
        raise DataError(f"a DICOM file of the unknown kind {kind}")
    return _grey(stored, record, inverted=kind == "MONOCHROME1")


def _record(file: BinaryIO) -> Any:
    """The data set, with the transfer syntax that its pixels are in."""
    pydicom = _pydicom()
    content = file.read()
    preamble = content[128:132] == b"DICM"
    if _DEFLATED in content:
        _check_deflated(content, 132 if preamble else 0)
    try:
        record = pydicom.dcmread(io.BytesIO(content), force=not preamble)
    except Exception as error:  # what is no DICOM file fails anywhere
        if preamble:
            raise
        raise DataError("cannot be decoded (by its name a DICOM file, not by its content)") from error
    if not preamble and not ("Rows" in record and "Columns" in record):
        raise DataError("cannot be decoded (by its name a DICOM file, not by its content)")
    if "TransferSyntaxUID" not in record.file_meta:
        if record.get("PixelData", b"")[:4] == _ITEM:
            raise DataError("a DICOM file that does not say how it is compressed (no TransferSyntaxUID)")
        implicit, little = record.original_encoding
        record.file_meta.TransferSyntaxUID = (
            pydicom.uid.ImplicitVRLittleEndian
            if implicit
            else pydicom.uid.ExplicitVRLittleEndian
            if little
            else pydicom.uid.ExplicitVRBigEndian
        )
    return record


def _check_deflated(content: bytes, start: int) -> None:
    """Inflate it in pieces that are let go: pydicom does so whole, and a megabyte may become a gigabyte.

    Raises:
        DataError: if it grows beyond `_MAX_INFLATED`, or is damaged.
    """
    file = io.BytesIO(content)
    file.seek(start)
    # Private, but what `dcmread` itself goes by: only so is it certain that both see the same beginning.
    meta = import_module("pydicom.filereader")._read_file_meta_info(file)
    if meta.get("TransferSyntaxUID") != _DEFLATED.decode():
        return
    inflating, rest, size = zlib.decompressobj(-zlib.MAX_WBITS), file.read(), 0
    while rest:
        try:
            size += len(inflating.decompress(rest, _PIECE))
        except zlib.error as error:
            raise DataError(f"a deflated DICOM file that cannot be inflated ({error})") from error
        if size > _MAX_INFLATED:
            raise DataError(
                f"a deflated DICOM file that grows beyond {_MAX_INFLATED >> 20} MiB; save it uncompressed"
            )
        rest = inflating.unconsumed_tail


def _take_groups(record: Any, frame: int) -> None:
    """What an enhanced file says of this frame, or of all, into the record itself."""
    for groups, n in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", frame)):
        for name in _SHARED:
            for group in (record.get(groups) or ())[n : n + 1]:
                for item in (group.get(name) or ())[:1]:
                    record.update({element.tag: element for element in item if element.tag not in record})


def _decoded(record: Any, frame: int) -> tuple[NDArray[Any], dict[str, Any]]:
    """Stored values, and what pydicom says of them; YBR comes out as RGB."""
    syntax = record.file_meta.TransferSyntaxUID
    try:
        decoder = _pydicom().pixels.get_decoder(syntax)
    except NotImplementedError:
        raise DataError(f"a DICOM file in {syntax.name}, which cannot be read") from None
    if not decoder.is_available:
        raise DataError(
            f"compressed as {syntax.name}; reading it needs python-gdcm: pip install 'lvlm-va[medical]' "
            f"(or one of: {'; '.join(decoder.missing_dependencies)})"
        )
    stored_bits, allocated = record.get("BitsStored"), record.get("BitsAllocated")
    high = record.get("HighBit")
    if "PixelData" in record and not syntax.is_encapsulated and high not in (None, stored_bits - 1):
        raise DataError(
            f"a DICOM file with {stored_bits} of {allocated} bits up to bit {high}, an outdated form"
        )
    # Pillow for the usual JPEG, whatever else is installed: the same pixels everywhere.
    plugin = "pillow" if syntax in _JPEG and stored_bits == 8 else ""
    try:
        if plugin and record.SamplesPerPixel == 3 and (colours := _adobe(record, frame)) is not None:
            return colours, {"photometric_interpretation": "RGB", "bits_stored": 8}
        stored, facts = decoder.as_array(record, index=frame, decoding_plugin=plugin)
    except RuntimeError as error:  # several lines: a sentence, then a reason for each decoder
        _, *reasons = str(error).splitlines() or [""]
        told = "; ".join(map(str.strip, reasons)).replace(
            _GDCM_FOUND_NONE, "no image in the compressed pixels"
        )
        others = "; ".join(decoder.missing_dependencies)
        raise DataError(
            f"compressed as {syntax.name}, cannot be decoded ({told or error})"
            + f"; other readers may be able to: {others}" * bool(others)
        ) from error
    return stored, facts


def _adobe(record: Any, frame: int) -> NDArray[np.uint8] | None:
    """(H, W, 3) RGB of a JPEG with Adobe's marker, which says what its colours are; None without it.

    Pillow heeds the marker, after which pydicom would take the RGB for YBR and convert it again.
    """
    n = int(record.get("NumberOfFrames") or 1)
    encoded = _pydicom().encaps.get_frame(record.PixelData, frame, number_of_frames=n)
    with Image.open(io.BytesIO(encoded), formats=["JPEG"]) as image:
        if "adobe_transform" not in image.info:
            return None
        if image.size != (record.Columns, record.Rows):
            raise DataError(f"a DICOM file with an image of another size than it says: {image.size}")
        return np.array(image.convert("RGB"), dtype=np.uint8)


def _colours(stored: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """(H, W, 3) stored values of `bits` bits to bytes."""
    white = 2**bits - 1
    lowest, highest = int(stored.min()), int(stored.max())
    if lowest < 0 or highest > white:
        raise DataError(f"a DICOM file in colour with levels from {lowest} to {highest}, outside 0..{white}")
    scaled: NDArray[np.uint8] = np.round(stored * (255 / white)).astype(np.uint8)
    return scaled


def _grey(stored: NDArray[Any], record: Any, *, inverted: bool) -> NDArray[np.float32]:
    """(H, W) stored values to [0, 1]."""
    padding = _padding(stored, record)
    if padding.all():
        raise DataError("a DICOM file that holds nothing but padding (PixelPaddingValue)")
    if table := record.get("ModalityLUTSequence"):
        values = table_of(table[0], record)(stored).astype(np.float64)
    else:
        values = np.array(_pydicom().pixels.apply_rescale(stored, record), dtype=np.float64)
    if not np.isfinite(values[~padding]).all():
        raise DataError("a DICOM file with values that are no numbers")
    values[padding] = values[~padding].min()
    shown = _window(values, padding, record)
    shown = 1 - shown if inverted else shown
    shown[padding] = 0
    return shown.astype(np.float32)


def _padding(stored: NDArray[Any], record: Any) -> NDArray[np.bool_]:
    """(H, W), True on what is no part of the image (C.7.5.1.1.2)."""
    prefix = {"FloatPixelData": "Float", "DoubleFloatPixelData": "DoubleFloat"}
    kind = next((words for name, words in prefix.items() if name in record), "")
    value = record.get(f"{kind}PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=np.bool_)
    limit = record.get(f"{kind}PixelPaddingRangeLimit")
    ends = [_as_stored(end, stored.dtype) for end in (value, value if limit is None else limit)]
    inside: NDArray[np.bool_] = (stored >= min(ends)) & (stored <= max(ends))
    return inside


def _as_stored(value: Any, dtype: np.dtype[Any]) -> float:
    """A padding value as the pixels hold it: writers mix signed and unsigned."""
    if dtype.kind == "f":
        return float(value)
    return int(np.array(int(value)).astype(dtype))


def _window(values: NDArray[np.float64], padding: NDArray[np.bool_], record: Any) -> NDArray[np.float64]:
    """(H, W) rescaled values to [0, 1]: C.11.2.1.2 for LINEAR, C.11.2.1.3 for the other two functions."""
    centre, width = _first(record.get("WindowCenter")), _first(record.get("WindowWidth"))
    function = record.get("VOILUTFunction") or "LINEAR"
    if centre is not None and width is not None:
        if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
            raise DataError(f"a DICOM file with the unknown window function {function}")
        possible = width >= 1 if function == "LINEAR" else width > 0
        if possible and math.isfinite(centre) and math.isfinite(width):
            return _windowed(values, centre, width, function)
        warnings.warn(
            f"its window has the width {width:g}, which cannot be; its own range is shown", stacklevel=2
        )
    if tables := record.get("VOILUTSequence"):
        table = table_of(tables[0], record)
        highest = 2**table.bits - 1
        if int(table.entries.max()) > highest:
            raise DataError(f"a DICOM file with a VOI table beyond its {table.bits} bits")
        looked_up: NDArray[np.float64] = table(np.round(values)) / highest
        return looked_up
    lowest, highest = values[~padding].min(), values[~padding].max()
    return (values - lowest) / (highest - lowest) if highest > lowest else np.zeros_like(values)


def _windowed(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    if function == "SIGMOID":
        with np.errstate(over="ignore"):  # far below the window: 1 / (1 + inf) is 0
            shown: NDArray[np.float64] = 1 / (1 + np.exp(-4 * (values - centre) / width))
        return shown
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    if width == 0:  # a step: what is above the centre is white
        return (values > centre).astype(np.float64)
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _first(value: Any) -> float | None:
    """A DICOM number that may be absent, empty, or several, of which the first is the standard view."""
    if value is None or value == "":
        return None
    try:
        return float(value)
    except TypeError:
        return float(value[0]) if len(value) else None


def _pydicom() -> Any:
    try:
        import pydicom
        import pydicom.encaps
        import pydicom.pixels
        import pydicom.uid
    except ImportError:
        raise DataError("needs the reader for DICOM files: pip install 'lvlm-va[medical]'") from None
    _silence_gdcm()
    return pydicom


@cache
def _silence_gdcm() -> None:
    """What it prints names no file; that it failed is raised."""
    with suppress(ImportError):
        gdcm = import_module("gdcm")  # which says nothing of its types

        gdcm.Trace.ErrorOff()
        gdcm.Trace.WarningOff()
