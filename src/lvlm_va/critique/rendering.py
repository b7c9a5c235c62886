"""The three images that the critic sees, and explanations as images for people."""

import io
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from lvlm_va.critique.marks import BLUR, Mark, bounds, colour, evidence, place_marks
from lvlm_va.critique.question import CaptionedImage, ExplainedImage

__all__ = [
    "border",
    "draw_numbers",
    "drawn_evidence",
    "drawn_segments",
    "enlarge",
    "font",
    "heatmap",
    "overlay",
    "png",
    "render",
    "segment_map",
    "smoothed",
]

RGB = NDArray[np.uint8]

_PIXEL_ART = 64  # up to this shorter side, pixels are enlarged as squares; above, it is a photograph
_CONTRAST, _CONTRAST_PHOTOGRAPH = 0.25, 0.6  # of the pale image under an explanation
_RADIUS = 14  # of the disc under a number, in drawn pixels
_LINE = 3  # width of a segment's border
_DOTS, _DOT = 16, 4  # pixels from dot to dot on evidence (one on every pixel of a digit), side of a dot
_LEGEND_ROW = 21  # three rows of five entries fit below 448 pixels into a tile of 512
_LEGEND_ENTRY = 88
_TINT = 0.25  # of a segment's colour where it holds no evidence
_HOLE = 0.005  # of a photograph: smaller holes in a segment's evidence are not drawn
_POSITIVE = (178, 24, 43)  # the ends of ColorBrewer's RdBu, which colour-blind readers tell apart
_NEGATIVE = (33, 102, 172)


def render(
    explained: ExplainedImage, *, min_size: int = 448
) -> tuple[CaptionedImage, CaptionedImage, CaptionedImage]:
    """Draw the original, the segment map and the overlay (Fig. 2 and 3).

    What is judged is the segment, all of C = j, since that is what is masked. So both images show where it
    ends: the segment map tints all of it and draws its border, the overlay draws the same border on the
    original. The evidence in it (see `marks.evidence`) is added, as a fill and as dots. Both carry the
    segments' numbers at the same places and, below, a legend with each segment's share S_j of the positive
    attribution.

    A square image at the default size is 448 × 448 pixels, and with the legend of up to 15 segments at
    most 448 × 511: one tile of 512 × 512 for the services that count in tiles, where 513 × 513 is four.

    Args:
        explained: the explained image.
        min_size: pixels of the shorter side of the drawn image; see `enlarge`.

    Returns:
        (original, segment map, overlay), PNG files that depend on nothing but the arguments.
    """
    layers = _layers(explained, min_size)
    marks = place_marks(layers.segments, layers.evidence, _RADIUS)
    ids = explained.segment_ids
    drawn = [
        _finish(pixels, marks, explained) for pixels in (_tinted(layers, ids), _outlined(layers, ids, _LINE))
    ]
    return (
        CaptionedImage("Image 1: the original.", png(layers.original)),
        CaptionedImage(
            "Image 2: the segment map. Each segment is tinted in its colour, with a border in that colour; "
            "filled is the part of it that holds most of its evidence. Its number stands "
            "in it or points to it. The legend gives each segment's share of the evidence.",
            png(drawn[0]),
        ),
        CaptionedImage(
            "Image 3: the overlay. The borders and numbers of the same segments on the original; dots lie on "
            "what is filled in the segment map.",
            png(drawn[1]),
        ),
    )


def segment_map(explained: ExplainedImage, *, min_size: int = 448) -> RGB:
    """Every segment tinted in its colour, its border and its evidence in full colour: (H', W', 3) uint8.

    White is what belongs to no segment.
    """
    return _tinted(_layers(explained, min_size), explained.segment_ids)


def overlay(
    explained: ExplainedImage,
    segments: Sequence[int] | None = None,
    *,
    min_size: int = 448,
    line: int = _LINE,
) -> RGB:
    """The original with the segments' borders, and dots on their evidence: (H', W', 3) uint8.

    A border lies inside its segment, so that of two that touch each keeps its own colour. Along it runs a
    dark hairline, and beside every dot a shadow: they show the colour on any ground.

    Args:
        explained: the explained image.
        segments: which j to draw; all if None.
        min_size: see `enlarge`.
        line: width of a border, in drawn pixels.
    """
    return _outlined(
        _layers(explained, min_size), explained.segment_ids if segments is None else segments, line
    )


class _Layers(NamedTuple):
    """What is drawn with, at the drawn size: (H', W', 3) uint8, and two maps (H', W') int16 in 0..J."""

    original: RGB
    segments: NDArray[np.int16]
    evidence: NDArray[np.int16]


def _layers(explained: ExplainedImage, min_size: int) -> _Layers:
    original = enlarge(explained.image, min_size=min_size)
    size = original.shape[1], original.shape[0]
    return _Layers(original, drawn_segments(explained, size), drawn_evidence(explained, size))


def _tinted(layers: _Layers, segment_ids: Sequence[int]) -> RGB:
    drawn = np.full_like(layers.original, 255)
    for j in segment_ids:
        box = bounds((layers.segments == j) | (layers.evidence == j))
        segment, part = layers.segments[box] == j, drawn[box]
        paint = np.array(colour(j), dtype=np.float64)
        part[segment] = np.round(255 + _TINT * (paint - 255)).astype(np.uint8)
        part[border(segment, 0, _LINE) | (layers.evidence[box] == j)] = colour(j)
    return drawn


def _outlined(layers: _Layers, segment_ids: Sequence[int], line: int) -> RGB:
    drawn = layers.original.copy()
    for j in segment_ids:
        box = bounds((layers.segments == j) | (layers.evidence == j))
        segment, part = layers.segments[box] == j, drawn[box]
        shadows, dots = _dots(layers.evidence[box] == j, box)
        part[shadows | border(segment, line, line + 1)] = 0
        part[dots | border(segment, 0, line)] = colour(j)
    return drawn


def enlarge(image: RGB, *, min_size: int = 448) -> RGB:
    """Enlarge (or shrink) an image until its shorter side is `min_size` pixels.

    Up to 64 pixels every pixel becomes a square of a whole number of pixels, so the side may be a little
    longer; larger images are resampled smoothly.

    Args:
        image: (H, W, 3) uint8.
        min_size: pixels.

    Returns:
        (H', W', 3) uint8.
    """
    side = min(image.shape[:2])
    if side <= _PIXEL_ART:
        factor = math.ceil(min_size / side)
        return image.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = (round(n * min_size / side) for n in image.shape[:2])
    resized: RGB = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
    return resized


def smoothed(attribution: NDArray[np.float32]) -> NDArray[np.float32]:
    """An explanation for the eye: of a photograph blurred as in `marks.evidence`, else as it is.

    The attributions of large networks are speckle of single pixels, which no one sees on a radiograph.

    Args:
        attribution: (H, W) float, Φ.
    """
    side = min(attribution.shape)
    if side <= _PIXEL_ART:
        return attribution
    blurred: NDArray[np.float32] = ndimage.gaussian_filter(attribution, BLUR * side)
    return blurred


def heatmap(attribution: NDArray[np.float32], image: RGB, *, limit: float | None = None) -> RGB:
    """An explanation on its image: red speaks for the prediction, blue against it.

    The image lies below in pale grey, so that the ground is light; a drawing of up to 64 pixels that is
    mostly dark is inverted, a photograph never is, but its grey levels are stretched.

    Args:
        attribution: (H, W) float, Φ, signed.
        image: (H, W, 3) uint8.
        limit: |Φ| at which the colour is full; the 99th percentile of |Φ| if None. Give the same limit to
            images that are to be compared.

    Returns:
        (H, W, 3) uint8.
    """
    grey = image.mean(axis=2)
    if min(grey.shape) > _PIXEL_ART:
        ground = (255 - _CONTRAST_PHOTOGRAPH * (255 - _stretched(grey)))[:, :, None]
    else:
        light = 255 - grey if grey.mean() < 128 else grey
        ground = (255 - _CONTRAST * (255 - light))[:, :, None]
    full = float(np.quantile(np.abs(attribution), 0.99)) if limit is None else limit
    strength = np.clip(np.abs(attribution) / full, 0, 1) if full > 0 else np.zeros_like(attribution)
    paint = np.where((attribution > 0)[:, :, None], _POSITIVE, _NEGATIVE)
    mixed = ground + strength[:, :, None] * (paint - ground)
    pixels: RGB = np.round(mixed).astype(np.uint8)
    return pixels


def _stretched(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Grey levels spread so that the darkest and lightest hundredth are black and white."""
    low, high = np.quantile(grey, (0.01, 0.99))
    return np.clip((grey - low) / (high - low), 0, 1) * 255 if high > low else grey


def png(pixels: RGB) -> bytes:
    """(H, W, 3) uint8 as a PNG file; equal pixels give equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()


def drawn_segments(explained: ExplainedImage, size: tuple[int, int]) -> NDArray[np.int16]:
    """C at the size (W', H') of the drawn image: (H', W') int16 in 0..J, exactly the pixels of C enlarged."""
    return _nearest(explained.segments, size)


def _nearest(labels: NDArray[np.int16], size: tuple[int, int]) -> NDArray[np.int16]:
    resized = Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST)
    return np.asarray(resized).astype(np.int16)


def drawn_evidence(explained: ExplainedImage, size: tuple[int, int]) -> NDArray[np.int16]:
    """`marks.evidence` at the size (W', H') of the drawn image.

    Of a photograph small holes are closed and the edges rounded, for the eye, but never beyond the segment.

    Returns:
        (H', W') int16: the segment's number on its evidence, 0 elsewhere.
    """
    labels = evidence(explained)
    if min(labels.shape) <= _PIXEL_ART:
        return _nearest(labels, size)
    tiles, drawn = drawn_segments(explained, size), np.zeros(size[::-1], np.int16)
    for j in explained.segment_ids:
        region = _without_small_holes(labels == j)
        soft = ndimage.gaussian_filter(region.astype(np.float32), BLUR * min(labels.shape))
        kept = np.asarray(Image.fromarray(soft).resize(size, Image.Resampling.BICUBIC)) > 0.5
        kept &= tiles == j
        drawn[kept if kept.any() else _nearest(labels, size) == j] = j  # too thin to survive: as it is
    return drawn


def _without_small_holes(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A region with those of its holes filled that are smaller than `_HOLE` of the image."""
    holes, count = ndimage.label(ndimage.binary_fill_holes(region) & ~region)
    sizes = np.bincount(holes.ravel(), minlength=count + 1)
    small = sizes < _HOLE * region.size
    small[0] = False
    filled: NDArray[np.bool_] = region | small[holes]
    return filled


def border(region: NDArray[np.bool_], outer: int, inner: int) -> NDArray[np.bool_]:
    """The pixels of a region that are more than `outer` and at most `inner` pixels inside it.

    What lies beyond the image's edge is outside, so every border is closed.
    """
    kept = [
        ndimage.minimum_filter(region, 2 * n + 1, mode="constant", cval=False) if n else region
        for n in (outer, inner)
    ]
    found: NDArray[np.bool_] = kept[0] & ~kept[1]
    return found


def _dots(region: NDArray[np.bool_], box: tuple[slice, slice]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Dots on a region, and the shadows beside them; a piece too small for a dot is one itself.

    Args:
        region: (h, w) bool.
        box: where it lies in the image; the dots of all segments stand on one lattice.
    """
    down, across = (n % _DOTS - (_DOTS - _DOT) // 2 for n in np.ogrid[box])
    dots = region & (0 <= down) & (down < _DOT) & (0 <= across) & (across < _DOT)
    shadows = np.zeros_like(dots)
    shadows[1:, 1:] = dots[:-1, :-1] & region[1:, 1:] & ~dots[1:, 1:]
    pieces, count = ndimage.label(region, structure=np.ones((3, 3)))
    bare = np.ones(count + 1, dtype=np.bool_)
    bare[pieces[dots]] = bare[0] = False
    return shadows, dots | bare[pieces]


def _finish(pixels: RGB, marks: list[Mark], explained: ExplainedImage) -> RGB:
    """Add the numbers and, below, the legend."""
    height, width = pixels.shape[:2]
    per_row = max(1, width // _LEGEND_ENTRY)
    rows = math.ceil(len(explained.segment_ids) / per_row)
    canvas = Image.new("RGB", (width, height + rows * _LEGEND_ROW), "white")
    canvas.paste(Image.fromarray(pixels))
    draw = ImageDraw.Draw(canvas)
    draw_numbers(draw, marks)
    for i, j in enumerate(explained.segment_ids):
        row, column = divmod(i, per_row)
        share = explained.shares[j - 1]
        _draw_entry(draw, j, share, column * _LEGEND_ENTRY, height + (row + 0.5) * _LEGEND_ROW)
    return np.asarray(canvas)


def draw_numbers(
    draw: ImageDraw.ImageDraw,
    marks: Sequence[Mark],
    *,
    radius: int = _RADIUS,
    edges: Mapping[int, tuple[int, int, int]] | None = None,
) -> None:
    """The segments' numbers on discs, with lines to the segments where they stand beside them.

    Args:
        draw: on the drawn image.
        marks: which numbers, and where.
        radius: of a disc, in drawn pixels; the number grows with it.
        edges: segment → RGB of its disc's edge; the segment's colour where none is given.
    """
    for mark in marks:  # all lines before any disc, so that none crosses out another segment's number
        if mark.tip is not None:
            for line, width in (("black", 5), ("white", 3)):
                draw.line([(mark.x, mark.y), mark.tip], fill=line, width=width)
    for mark in marks:
        if mark.tip is not None:
            x, y = mark.tip
            for r, end in ((5, "black"), (4, "white")):
                draw.ellipse((x - r, y - r, x + r, y + r), fill=end)
    for mark in marks:
        x, y, edge = mark.x, mark.y, (edges or {}).get(mark.segment, colour(mark.segment))
        for r, fill in ((radius, "black"), (radius - 1, edge), (radius - 4, "white")):
            draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
        draw.text((x, y), str(mark.segment), fill="black", font=font(radius), anchor="mm")


def _draw_entry(draw: ImageDraw.ImageDraw, segment: int, share: float, x: float, y: float) -> None:
    draw.rectangle((x + 3, y - 7, x + 17, y + 7), fill=colour(segment), outline="black")
    draw.text((x + 22, y), f"{segment}: {100 * share:.0f}%", fill="black", font=font(14), anchor="lm")


@cache
def font(size: int, *, bold: bool = True) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: the same letters on every machine."""
    from matplotlib import get_data_path

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(get_data_path(), "fonts", "ttf", name)
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
