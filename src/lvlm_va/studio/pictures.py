"""What is drawn of one image: a thumbnail, and layers that the page lays over one another."""

import hashlib
import io
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from lvlm_va.alignment.masks import MaskKind, cut_masks
from lvlm_va.critique.marks import colour, place_marks
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.rendering import (
    border,
    draw_numbers,
    drawn_evidence,
    drawn_segments,
    enlarge,
    overlay,
    png,
    smoothed,
)
from lvlm_va.explain.segmentation import Segmentation
from lvlm_va.io.files import cache_directory, write_atomically

__all__ = ["LAYERS", "correction", "labels", "layer", "marked", "thumbnail"]

LAYERS = ("original", "segments", "evidence", "numbers", "heat")
_SIZE, _THUMBNAIL = 560, 168
_RED, _BLUE = (178, 24, 43), (33, 102, 172)


def thumbnail(explained: ExplainedImage, segment: int | None = None) -> bytes:
    """The image with the borders of all segments or of one, small, as JPEG; drawn once, then cached."""
    name = hashlib.sha256(f"{explained.fingerprint} {_THUMBNAIL} {segment}".encode()).hexdigest()
    file = cache_directory() / "studio" / "thumbnails" / name[:2] / f"{name}.jpg"
    try:
        return file.read_bytes()
    except OSError:
        pass
    buffer = io.BytesIO()
    drawn = overlay(explained, None if segment is None else [segment], min_size=_THUMBNAIL, line=2)
    Image.fromarray(drawn).save(buffer, format="JPEG", quality=88)
    content = buffer.getvalue()
    try:
        write_atomically(file, content)
    except OSError:
        return content  # a full disk must not stop a review
    return content


def layer(explained: ExplainedImage, name: str) -> bytes:
    """One of `LAYERS`, a PNG file; all of an image have the same size."""
    original = enlarge(explained.image, min_size=_SIZE)
    size = original.shape[1], original.shape[0]
    if name == "original":
        return png(original)
    if name == "heat":
        return _heat(explained, size)
    segments = drawn_segments(explained, size)
    if name == "segments":
        return _png(_borders(explained, segments))
    evidence = drawn_evidence(explained, size)
    if name == "evidence":
        return _png(_dotted(explained, evidence))
    canvas = Image.new("RGBA", size)
    draw_numbers(ImageDraw.Draw(canvas), place_marks(segments, evidence, 16), radius=16)
    return _file(canvas)


def correction(
    explained: ExplainedImage,
    segmentation: Segmentation,
    position: int,
    condemned: Mapping[int, bool],
    kind: MaskKind,
) -> bytes:
    """The correction mask A that these verdicts lead to, hatched: a PNG file the size of the layers.

    Args:
        explained: the image.
        segmentation: of all images.
        position: of this one among them.
        condemned: segment → whether it is condemned.
        kind: see `align.mask`.
    """
    J = segmentation.pi.shape[1]
    mask = cut_masks(
        segmentation.rows([position]),
        torch.from_numpy(explained.attribution)[None],
        torch.tensor([[condemned.get(j, False) for j in range(1, J + 1)]]),
        lambda: torch.from_numpy(explained.image)[None],
        kind=kind,
    )[0].numpy()
    size = _drawn_size(explained)
    region = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    rows, columns = np.indices(region.shape)
    hatch = region & ((rows + columns) % 14 < 6)
    drawn = np.zeros((*region.shape, 4), np.uint8)
    drawn[region] = (0, 0, 0, 110)
    drawn[hatch] = (255, 255, 255, 190)
    drawn[border(region, 0, 2)] = (255, 255, 255, 255)
    drawn[border(region, 2, 4)] = (0, 0, 0, 255)
    return _png(drawn)


def labels(explained: ExplainedImage) -> str:
    """C as lines of numbers with blanks between: what lies under the pointer."""
    rows: list[list[int]] = explained.segments.tolist()
    return "\n".join(" ".join(map(str, row)) for row in rows)


def marked(explained: ExplainedImage) -> bytes:
    """The borders and the numbers of the segments, in one PNG file the size of the layers."""
    size = _drawn_size(explained)
    segments, evidence = drawn_segments(explained, size), drawn_evidence(explained, size)
    canvas = Image.fromarray(_borders(explained, segments))
    draw_numbers(ImageDraw.Draw(canvas), place_marks(segments, evidence, 16), radius=16)
    return _file(canvas.quantize(64))


def _drawn_size(explained: ExplainedImage) -> tuple[int, int]:
    original = enlarge(explained.image, min_size=_SIZE)
    return original.shape[1], original.shape[0]


def _heat(explained: ExplainedImage, size: tuple[int, int]) -> bytes:
    values = smoothed(explained.attribution)
    full = float(np.quantile(np.abs(values), 0.99))
    strength = np.clip(np.abs(values) / full, 0, 1) if full > 0 else np.zeros_like(values)
    drawn = np.zeros((*values.shape, 4), np.uint8)
    drawn[..., :3] = np.where((values > 0)[..., None], _RED, _BLUE)
    drawn[..., 3] = np.round(255 * strength)
    small = min(values.shape) <= 64
    how = Image.Resampling.NEAREST if small else Image.Resampling.BICUBIC
    return _file(Image.fromarray(drawn).resize(size, how))


def _borders(explained: ExplainedImage, segments: NDArray[np.int16]) -> NDArray[np.uint8]:
    drawn = np.zeros((*segments.shape, 4), np.uint8)
    for j in explained.segment_ids:
        inside = segments == j
        drawn[border(inside, 4, 5)] = (0, 0, 0, 255)
        drawn[border(inside, 0, 4)] = (*colour(j), 255)
    return drawn


def _dotted(explained: ExplainedImage, evidence: NDArray[np.int16]) -> NDArray[np.uint8]:
    drawn = np.zeros((*evidence.shape, 4), np.uint8)
    rows, columns = np.indices(evidence.shape)
    dots = (rows % 16 < 5) & (columns % 16 < 5)
    for j in explained.segment_ids:
        here = evidence == j
        drawn[here] = (*colour(j), 70)
        drawn[here & dots] = (*colour(j), 255)
    return drawn


def _png(pixels: NDArray[np.uint8]) -> bytes:
    return _file(Image.fromarray(pixels))


def _file(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()
