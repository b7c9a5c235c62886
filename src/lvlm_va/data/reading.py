"""One image from its file: the formats of `FORMATS` through Pillow, DICOM through pydicom.

What comes out is upright (EXIF orientation applied), opaque (transparency over white) and grey or RGB. Deeper
images than 8 bits are scaled by their range, never cut off.
"""

import re
import struct
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from lvlm_va.config.names import MAX_PIXELS
from lvlm_va.data.dicom import begins_like_dicom, read_dicom
from lvlm_va.data.frames import choose_frame, frame_of, shrink
from lvlm_va.data.opening import regular_file
from lvlm_va.errors import DataError, LvlmVaError

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "Pixels",
    "from_pillow",
    "is_image",
    "read_image",
    "read_stream",
]

Pixels = NDArray[np.uint8] | NDArray[np.float32]
"""(H, W) grey or (H, W, 3) RGB, uint8 in 0..255 or float32 in [0, 1]."""

FORMATS = {
    "PNG": frozenset({".png", ".apng"}),
    "JPEG": frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"}),
    "BMP": frozenset({".bmp"}),
    "WEBP": frozenset({".webp"}),
    "TIFF": frozenset({".tif", ".tiff"}),
    "GIF": frozenset({".gif"}),
    "PPM": frozenset({".ppm", ".pgm", ".pbm", ".pnm", ".pfm"}),
    "JPEG2000": frozenset({".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"}),
    "AVIF": frozenset({".avif"}),
}
"""What Pillow calls a format → how its file names end. Files are told apart by their content; Pillow's other
formats are not tried: one starts a program (EPS)."""
_DICOM = frozenset({".dcm", ".dicom", ".ima"})
SUFFIXES = frozenset().union(*FORMATS.values(), _DICOM)
"""File names of images end like this, in any case."""

_WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_GREY = frozenset({"1", "L", "LA", "La"})
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB = 0, 1, 2  # of the TIFF tag PhotometricInterpretation
_PHOTOMETRIC = 262
_BITS_PER_SAMPLE = 258
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what makes the image upright."""
_BROKEN = (SyntaxError, struct.error, ValueError, TypeError, LookupError, ArithmeticError, AttributeError)
"""What Pillow's EXIF reader raises on broken EXIF."""


def is_image(path: Path) -> bool:
    """Is this an image by its name, or, as scanners name files IM_0001, DICOM by its first bytes?"""
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with regular_file(path) as file:
            return begins_like_dicom(file)
    except (DataError, OSError):
        return False


def read_image(
    path: Path,
    *,
    bits: int = 16,
    max_pixels: int = MAX_PIXELS,
    frame: int | None = None,
    side: int | None = None,
) -> Pixels:
    """Decode one file.

    Args:
        path: the file; its content tells the formats apart.
        bits: of images deeper than 8 bits that are no DICOM: how many are in use. 2^bits - 1 becomes 1.
        max_pixels: an image with more is refused before it is decoded.
        frame: which image of a file that holds several, from 0; such a file is refused when not given.
        side: pixels along the shorter side that will be kept: a very large image may be decoded smaller, but
            not below twice that. As it is when not given.

    Returns:
        (H, W) or (H, W, 3), uint8 in 0..255 or float32 in [0, 1].

    Raises:
        DataError: with the reason, if the file is missing, damaged, no image, several, or too large.
    """
    with regular_file(path) as file:
        return read_stream(file, suffix=path.suffix, bits=bits, max_pixels=max_pixels, frame=frame, side=side)


def read_stream(
    file: BinaryIO,
    *,
    suffix: str = "",
    bits: int = 16,
    max_pixels: int = MAX_PIXELS,
    frame: int | None = None,
    side: int | None = None,
) -> Pixels:
    """Decode an open file, at its start. `suffix` is its name's; else as `read_image`."""
    try:
        if begins_like_dicom(file) or suffix.lower() in _DICOM:
            return read_dicom(
                file, check=lambda width, height: _check_size(width, height, max_pixels), frame=frame
            )
        try:
            with _opened(file, max_pixels) as image:
                try:
                    return from_pillow(image, bits=bits, frame=frame, side=side)
                except OSError:
                    # JPEG 2000 may hold fewer sizes than it is asked for.
                    if side is None or image.format != "JPEG2000":
                        raise
            file.seek(0)
            return read_stream(file, suffix=suffix, bits=bits, max_pixels=max_pixels, frame=frame)
        except UnidentifiedImageError:
            if suffix.lower() in FORMATS["TIFF"]:
                file.seek(0)
                return _read_tiff(file, bits, max_pixels, frame)
            raise DataError("not an image in a format that can be read") from None
    except LvlmVaError:  # told already, or Interrupted
        raise
    except Exception as error:  # decoders meet damage anywhere and raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"cannot be decoded ({reason})") from error


def _opened(file: BinaryIO, max_pixels: int) -> Image.Image:
    """The image, not yet decoded."""
    known = Image.MAX_IMAGE_PIXELS
    if known is not None and max_pixels > 2 * known:  # Pillow refuses beyond twice its number
        Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        image = Image.open(file, formats=list(FORMATS))
    except Image.DecompressionBombError as error:
        size = re.search(r"\d+", str(error))
        raise _too_large(f"{int(size[0]) if size else 2 * (known or 0):,} pixels", max_pixels) from None
    _check_size(*image.size, max_pixels)
    return image


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise _too_large(f"{width}×{height} = {width * height:,} pixels", max_pixels)


def _too_large(size: str, max_pixels: int) -> DataError:
    return DataError(
        f"{size} are more than data.max_pixels = {max_pixels:,}; name a larger number there if it is meant"
    )


def from_pillow(
    image: Image.Image, *, bits: int = 16, frame: int | None = None, side: int | None = None
) -> Pixels:
    """The pixels of a Pillow image, upright and opaque. Arguments, result and errors as in `read_image`."""
    choose_frame(image, frame)
    if side is not None:
        shrink(image, side)
    _check_deep_colour(image, bits)
    if image.format == "PPM":
        bits = 16  # Pillow has scaled the levels by the range that the file names
    elif image.format == "TIFF" and image.mode.startswith("I;16"):
        bits = min(bits, *_tag(image, _BITS_PER_SAMPLE, (16,)))
    inverted = (
        "I" in image.mode and _tag(image, _PHOTOMETRIC, None) == _MIN_IS_WHITE
    )  # Pillow inverts 8 bits only
    image = _upright(image)
    if image.mode.startswith("I"):
        stored = np.asarray(image)
        levels = _scaled(stored, bits)
        if isinstance(clear := image.info.get("transparency"), int):
            levels[stored == clear] = 1
        return 1 - levels if inverted else levels
    if image.mode == "F":
        return _unit(np.asarray(image))
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        over = image.convert("RGBA")
        grey = image.mode in _GREY
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
        image = image.convert("L" if grey else "RGB")
    return np.array(image.convert("L" if image.mode in _GREY else "RGB"), dtype=np.uint8)


def _tag(image: Image.Image, number: int, default: Any) -> Any:
    """A tag of a TIFF file."""
    tags = getattr(image, "tag_v2", None)
    return default if tags is None else tags.get(number, default)


def _check_deep_colour(image: Image.Image, bits: int) -> None:
    """Of 16 bits a channel Pillow keeps the upper 8: right, unless the upper ones are not in use."""
    deep = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    if deep and not image.mode.startswith("I") and (bits < 16 or "transparency" in image.info):
        raise DataError(
            "colours of 16 bits, of which only the upper 8 can be read"
            + (f", but the lower {bits} are in use" if bits < 16 else ", and one that means transparency")
            + "; save it with 8 bits"
        )


def _upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF orientation says; of the metadata nothing else is read."""
    image.load()
    try:
        method = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except _BROKEN:  # broken metadata around sound pixels
        warnings.warn("its EXIF data cannot be read; taken as upright", stacklevel=2)
        return image
    return image if method is None else image.transpose(method)


def _read_tiff(file: BinaryIO, bits: int, max_pixels: int, frame: int | None) -> Pixels:
    """TIFF files that Pillow does not know, such as 64-bit floating point."""
    try:
        import tifffile
    except ImportError:
        raise DataError("needs the reader for unusual TIFF files: pip install 'lvlm-va[medical]'") from None
    with tifffile.TiffFile(file) as tiff:
        series = tiff.series[frame_of(len(tiff.series), frame)]
        shape, kind = series.shape, series.keyframe.photometric
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 3):
            raise DataError(f"holds an array of shape {shape}, not one grey or RGB image")
        _check_size(shape[1], shape[0], max_pixels)
        if kind != (_RGB if len(shape) == 3 else kind) or kind not in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB):
            raise DataError(f"a TIFF file of the kind {getattr(kind, 'name', kind)}, which cannot be read")
        pixels = series.asarray()
    if pixels.dtype.kind not in "uif":
        raise DataError(f"holds {pixels.dtype} levels, not numbers from dark to bright")
    levels = (
        (pixels / 255).astype(np.float32)
        if pixels.dtype == np.uint8
        else _unit(pixels)
        if pixels.dtype.kind == "f"
        else _scaled(pixels, bits)
    )
    return 1 - levels if kind == _MIN_IS_WHITE else levels


def _scaled(levels: NDArray[np.generic], bits: int) -> NDArray[np.float32]:
    """Whole numbers 0..2^bits - 1 to [0, 1]."""
    lowest, highest, white = int(levels.min()), int(levels.max()), 2**bits - 1
    if lowest < 0 or highest > white:
        raise DataError(f"holds levels from {lowest} to {highest}, outside 0..{white} ({bits} bits)")
    scaled: NDArray[np.float32] = (levels.astype(np.float64) / white).astype(np.float32)
    return scaled


def _unit(levels: NDArray[np.generic]) -> NDArray[np.float32]:
    """Floating point that must be in [0, 1] already: nothing else says what is white."""
    lowest, highest = float(levels.min()), float(levels.max())
    if not (lowest >= 0 and highest <= 1):  # also where they are not numbers
        raise DataError(f"holds floating-point levels from {lowest:g} to {highest:g}; scale them to 0..1")
    return levels.astype(np.float32)
