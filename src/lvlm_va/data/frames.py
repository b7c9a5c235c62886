"""Which of a file's images is meant, and how large it is decoded."""

from PIL import Image

from lvlm_va.errors import DataError

__all__ = ["choose_frame", "frame_of", "shrink"]

LARGE = 2**25
"""Pixels beyond which an image is decoded at reduced size where its format can: 100 megabytes of RGB."""

_NEW_SUBFILE, _SUBFILE = 254, 255  # TIFF tags: what a page is
_REDUCED, _MASK = 1, 4  # bits of the first
_OLD_REDUCED = 2  # value of the second


def frame_of(n: int, frame: int | None) -> int:
    """Which of a file's `n` images.

    Raises:
        DataError: if there are several and none is said, or there is none of that number.
    """
    if frame is None:
        if n == 1:
            return 0
        raise DataError(
            f"holds {n} images; say which with data.frame (from 0), or save the one that is meant"
        )
    if frame >= n:
        raise DataError(f"holds {n} image{'s' * (n > 1)}, none with the number data.frame = {frame} (from 0)")
    return frame


def choose_frame(image: Image.Image, frame: int | None) -> None:
    """Seek to the image that is meant; smaller copies in a TIFF file are not counted, nor MPO's previews."""
    n = getattr(image, "n_frames", 1)
    if n == 1 or image.format == "MPO":  # a photograph, then the camera's previews of it
        frame_of(1, frame)
        return
    whole = [page for page in range(n) if image.format != "TIFF" or not _is_copy(image, page)]
    image.seek(whole[frame_of(len(whole), frame)] if whole else frame_of(n, frame))


def _is_copy(image: Image.Image, page: int) -> bool:
    """Is this page a smaller copy of another, or its mask?"""
    image.seek(page)
    tags = image.tag_v2  # type: ignore[attr-defined]
    return bool(tags.get(_NEW_SUBFILE, 0) & (_REDUCED | _MASK)) or tags.get(_SUBFILE) == _OLD_REDUCED


def shrink(image: Image.Image, side: int) -> None:
    """Let a large image be decoded smaller, where its format can without decoding all of it.

    What is left has at least twice `side` pixels along its shorter side, so that resizing it to `side` still
    averages; smaller images than `LARGE` are left alone.
    """
    width, height = image.size
    if width * height <= LARGE:
        return
    most = min(width, height) // (2 * side)
    if image.format in ("JPEG", "MPO"):
        if most > 1:
            image.draft("", (width // most, height // most))
    elif image.format == "JPEG2000":
        if most > 1:
            image.reduce = min(most.bit_length() - 1, 5)  # type: ignore[method-assign, assignment]
    elif image.format == "TIFF":
        _seek_copy(image, side)


def _seek_copy(image: Image.Image, side: int) -> None:
    """Seek to the smallest copy that is large enough, in the pages after this one."""
    page, (width, height), mode = image.tell(), image.size, image.mode
    best, pixels = page, width * height
    for other in range(page + 1, getattr(image, "n_frames", 1)):
        if not _is_copy(image, other):
            break  # the next image
        w, h = image.size
        if (
            image.mode == mode
            and min(w, h) >= 2 * side
            and w * h < pixels
            and abs(w * height - h * width) <= max(width, height)  # of the same shape, but for rounding
        ):
            best, pixels = other, w * h
    image.seek(best)
