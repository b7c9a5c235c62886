"""Fig. 2 and 7: critiqued images step by step, from the original to the correction mask."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from lvlm_va.alignment.counterfactuals import LARGEST
from lvlm_va.critique.marks import place_marks
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.rendering import (
    border,
    draw_numbers,
    drawn_evidence,
    drawn_segments,
    enlarge,
    font,
    heatmap,
    png,
    segment_map,
    smoothed,
)
from lvlm_va.critique.verdict import Verdict
from lvlm_va.report.figures import Line, in_turn, lines_of
from lvlm_va.report.images import Figure, figure, outline
from lvlm_va.report.words import percent, printable

__all__ = ["TITLES", "StepByStep", "Use", "draw_steps", "for_steps", "sheet", "step_by_step"]

RGB = NDArray[np.uint8]
Case = tuple[ExplainedImage, Mapping[int, Verdict], NDArray[np.bool_]]
"""An image, its verdicts in force by segment, and its mask A."""

TITLES = ("Original", "Positive attribution", "Segments", "Verdicts", "Correction mask")
"""The steps, from left to right."""

_SIZE = 384  # pixels of the shorter side of a drawn step
_RADIUS = 20  # of the disc under a number: legible where a step is shown half as large
_LEAST, _MOST = 3, 6  # images
_SPURIOUS, _VALID, _UNSCORED = (213, 94, 0), (0, 158, 115), (150, 150, 150)  # Okabe & Ito's, and a grey
_HATCH = 14  # pixels between the lines over what was condemned
_TINT, _TINT_SPECKLED = 0.35, 0.7  # of a mask over its image
_SPECKLED = 20  # pieces: a mask of more has no line around it
_MARGIN, _GAP, _TEXT = 32, 16, 22  # of the sheet, pixels


@dataclass(frozen=True)
class Use:
    """What the masks were used for.

    Attributes:
        penalised: whether λ > 0: the right-reasons term acts on them.
        replaced: whether κ > 0: they are taken away and pasted into other images.
    """

    penalised: bool
    replaced: bool

    @property
    def words(self) -> str:
        """What becomes of what a mask covers; "" where nothing does."""
        uses = (
            ("penalised", self.penalised),
            ("taken away and pasted into other images", self.replaced),
        )
        return ", and ".join(word for word, used in uses if used)

    def of(self, share: float) -> str:
        """In words, for a mask that covers `share` of its image."""
        if not share:
            return "empty"
        large = self.replaced and share > LARGEST
        return f"{percent(share)} of the image" + (", too large to be taken away or pasted" if large else "")


@dataclass(frozen=True)
class StepByStep:
    """One image and its five steps.

    Attributes:
        explained: the image.
        figures: one per title.
        lines: one per segment, the strongest first.
        mask: what the correction mask covers, in words.
    """

    explained: ExplainedImage
    figures: tuple[Figure, ...]
    lines: tuple[Line, ...]
    mask: str


def for_steps(
    explained_images: Sequence[ExplainedImage], verdicts: Sequence[Verdict]
) -> list[ExplainedImage]:
    """Up to six images with a condemned segment, one class after the other, most condemned evidence first.

    Where these are fewer than three, others follow.
    """
    held: dict[str, float] = {}
    shares = {s.image_id: s.shares for s in explained_images}
    for v in verdicts:
        if v.spurious and v.image_id in shares:
            held[v.image_id] = held.get(v.image_id, 0.0) + shares[v.image_id][v.segment - 1]
    ordered = sorted(
        (s for s in explained_images if s.segment_ids),
        key=lambda s: (s.class_name, -held.get(s.image_id, 0.0)),
    )
    condemned, others = (
        in_turn((s for s in ordered if (s.image_id in held) == known), lambda s: s.class_name)
        for known in (True, False)
    )
    return condemned[:_MOST] + others[: max(0, _LEAST - len(condemned))]


def step_by_step(case: Case, drawn: Sequence[RGB], use: Use) -> StepByStep:
    """The five steps of one image, as figures of the page.

    Args:
        case: the image, its verdicts in force when the mask was made, and its mask.
        drawn: what `draw_steps` made of it.
        use: what the masks were used for.
    """
    explained, verdicts, mask = case
    lines, covered = lines_of(explained, verdicts), use.of(float(mask.mean()))
    said = ", ".join(f"{line.segment} {line.verdict}" for line in lines)
    alts = (
        f"Image {explained.image_id}, class {explained.class_name}.",
        f"The same in pale grey; what speaks for {explained.explains} is red.",
        "The segments, tinted and with their borders, filled where their evidence lies, and their numbers.",
        f"The verdicts on the original: {said}.",
        f"The correction mask on the original: {covered}.",
    )
    figures = tuple(figure(pixels, alt) for pixels, alt in zip(drawn, alts, strict=True))
    return StepByStep(explained, figures, lines, covered)


def draw_steps(
    explained: ExplainedImage, verdicts: Mapping[int, Verdict], mask: NDArray[np.bool_]
) -> list[RGB]:
    """Five images of one size, (H', W', 3) uint8 each, in the order of `TITLES`."""
    original = enlarge(explained.image, min_size=_SIZE)
    size = original.shape[1], original.shape[0]
    tiles = drawn_segments(explained, size)
    marks = place_marks(tiles, drawn_evidence(explained, size), _RADIUS)
    positive = np.maximum(smoothed(explained.attribution), 0)
    judged = original.copy()
    colours = {j: _colour(verdicts.get(j)) for j in explained.segment_ids}
    for j, rgb in colours.items():
        region, width = tiles == j, 4
        if rgb == _SPURIOUS:
            _hatch(judged, region, rgb)
        judged[border(region, width, width + 1)] = 0
        judged[border(region, 0, width)] = rgb
    segments = segment_map(explained, min_size=_SIZE)
    numbered = []
    for pixels, edges in ((segments, None), (judged, colours)):
        canvas = Image.fromarray(pixels)
        draw_numbers(ImageDraw.Draw(canvas), marks, radius=_RADIUS, edges=edges)
        numbered.append(np.asarray(canvas))
    return [
        original,
        enlarge(heatmap(positive, explained.image), min_size=_SIZE),
        *numbered,
        _tinted(original, mask),
    ]


def sheet(cases: Sequence[Case], rows: Sequence[Sequence[RGB]], use: Use, by: str) -> bytes:
    """One PNG file: an image a row, a step a column.

    Args:
        cases: one for each row, at least one.
        rows: what `draw_steps` made of each.
        use: what the masks were used for.
        by: who judged, with what must stand beside the name.
    """
    width = max(row[0].shape[1] for row in rows)
    line = round(1.5 * _TEXT)
    heights = [row[0].shape[0] + 2 * line + _GAP for row in rows]
    canvas = Image.new(
        "RGB",
        (2 * _MARGIN + len(TITLES) * width + (len(TITLES) - 1) * _GAP, 2 * _MARGIN + 2 * line + sum(heights)),
        "white",
    )
    draw = ImageDraw.Draw(canvas)
    room = canvas.width - 2 * _MARGIN

    def write(x: int, y: int, text: str, *, bold: bool = False) -> None:
        letters = font(_TEXT, bold=bold)
        text = printable(text).replace("\n", " ")
        while draw.textlength(text, font=letters) > room - x + _MARGIN:
            text = text[:-2].rstrip() + "…"
        draw.text((x, y), text, fill="black", font=letters)

    write(_MARGIN, _MARGIN, f"Verdicts of {by}: hatched in orange is spurious, outlined in green is valid.")
    for n, title in enumerate(TITLES):
        write(_MARGIN + n * (width + _GAP), _MARGIN + line, title, bold=True)
    y = _MARGIN + 2 * line
    for drawn, (explained, verdicts, mask), height in zip(rows, cases, heights, strict=True):
        for n, pixels in enumerate(drawn):
            canvas.paste(Image.fromarray(pixels), (_MARGIN + n * (width + _GAP), y))
        below = y + drawn[0].shape[0] + 4
        said = ", ".join(
            f"{one.segment} {one.verdict} ({one.share})" for one in lines_of(explained, verdicts)
        )
        about = f"{explained.image_id}: class “{explained.class_name}”, predicted “{explained.predicted}”."
        write(_MARGIN, below, f"{about} Mask: {use.of(float(mask.mean()))}.")
        write(_MARGIN, below + line, f"Segments: {said}.")
        y += height
    return png(np.asarray(canvas))


def _colour(verdict: Verdict | None) -> tuple[int, int, int]:
    if verdict is None or verdict.spurious is None:
        return _UNSCORED
    return _SPURIOUS if verdict.spurious else _VALID


def _hatch(pixels: RGB, region: NDArray[np.bool_], rgb: tuple[int, int, int]) -> None:
    """Lines over a region, so that it is told from others without colour; drawn into `pixels`."""
    ys, xs = np.nonzero(region)
    across = (xs + ys) % _HATCH
    pixels[ys[across < 3], xs[across < 3]] = rgb


def _tinted(pixels: RGB, mask: NDArray[np.bool_]) -> RGB:
    """An image in grey with a mask in orange, and a line around it that shows on any ground.

    Around a mask of many pieces there is none: it would cover the image.
    """
    size = pixels.shape[1], pixels.shape[0]
    grey = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    covered = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    speckled = ndimage.label(mask)[1] > _SPECKLED
    tint = _TINT_SPECKLED if speckled else _TINT
    grey[covered] += tint * (np.array(_SPURIOUS) - grey[covered])
    if speckled:
        return np.round(grey).astype(np.uint8)
    dark = outline(np.round(grey).astype(np.uint8), mask, width=4)
    return outline(dark, mask, width=3, colour=_SPURIOUS)
