"""One picture from its file: the formats of `FORMATS` through Pillow, DICOM through pydicom.

What comes out is upright (EXIF orientation applied), opaque (transparency over white) and grey or RGB. Deeper
pictures than 8 bits are scaled by their range, never cut off.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from lvlm_va.data.dicom import read_dicom
from lvlm_va.errors import DataError, LvlmVaError

__all__ = ["FORMATS", "SUFFIXES", "Pixels", "from_pillow", "read_picture"]

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
"""What Pillow calls a format → how its file names end. Files are told apart by their content; of Pillow's other
formats, some start programs (EPS) and none is a classifier's picture, so they are not tried."""
_DICOM = frozenset({".dcm", ".dicom", ".ima"})
SUFFIXES = frozenset().union(*FORMATS.values(), _DICOM)
"""File names of pictures end like this, in any case."""

_WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
_GREY = frozenset({"1", "L", "LA", "La"})
_MIN_IS_WHITE = 0  # of the TIFF tag PhotometricInterpretation
_PHOTOMETRIC = 262


def read_picture(path: Path, *, bits: int = 16) -> Pixels:
    """Decode one file.

    Args:
        path: the file; its name tells DICOM and TIFF from the rest.
        bits: of pictures deeper than 8 bits that are no DICOM: how many are in use. 2^bits - 1 becomes 1.

    Returns:
        (H, W) or (H, W, 3), uint8 in 0..255 or float32 in [0, 1].

    Raises:
        DataError: with the reason, if the file is missing, damaged, no picture, or several.
    """
    try:
        if path.suffix.lower() in _DICOM:
            return read_dicom(path)
        try:
            with Image.open(path, formats=list(FORMATS)) as image:
                return from_pillow(image, bits=bits)
        except UnidentifiedImageError:
            if path.suffix.lower() in FORMATS["TIFF"]:
                return _read_tiff(path, bits)
            raise DataError("not a picture in a format that can be read") from None
    except LvlmVaError:  # told already, or Interrupted
        raise
    except FileNotFoundError:
        raise DataError("no such file") from None
    except Exception as error:  # decoders meet damage anywhere and raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"cannot be decoded ({reason})") from error


def from_pillow(image: Image.Image, *, bits: int = 16) -> Pixels:
    """The pixels of a Pillow image, upright and opaque. Arguments, result and errors as in `read_picture`."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # MPO: a photograph, then the camera's previews of it
        raise DataError(f"holds {frames} pictures; save the one that is meant")
    inverted = "I" in image.mode and _photometric(image) == _MIN_IS_WHITE  # Pillow inverts 8 bits only
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        levels = _scaled(np.asarray(image), bits)
        return 1 - levels if inverted else levels
    if image.mode == "F":
        return _unit(np.asarray(image))
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        over = image.convert("RGBA")
        grey = image.mode in _GREY
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
        image = image.convert("L" if grey else "RGB")
    return np.array(image.convert("L" if image.mode in _GREY else "RGB"), dtype=np.uint8)


def _photometric(image: Image.Image) -> int | None:
    tags = getattr(image, "tag_v2", None)
    return None if tags is None else tags.get(_PHOTOMETRIC)


def _read_tiff(path: Path, bits: int) -> Pixels:
    """TIFF files that Pillow does not know, such as 64-bit floating point."""
    try:
        import tifffile
    except ImportError:
        raise DataError("needs the reader for unusual TIFF files: pip install 'lvlm-va[medical]'") from None
    pixels = tifffile.imread(path)
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise DataError(f"holds an array of shape {pixels.shape}, not one grey or RGB picture")
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, dtype=np.uint8)
    return _unit(pixels) if pixels.dtype.kind == "f" else _scaled(pixels, bits)


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
