"""The images of a question. None of them, nor its alternative text, tells a verdict, a model or a file."""

from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw

from lvlm_va.critique.marks import place_marks
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.rendering import (
    draw_numbers,
    drawn_evidence,
    drawn_segments,
    enlarge,
    heatmap,
    overlay,
    render,
    smoothed,
)
from lvlm_va.report.images import Figure, figure
from lvlm_va.report.record import Explanations

__all__ = ["comparison_images", "segment_images"]

_SIZE = 560  # pixels of the shorter side
_RADIUS = 14  # of the disc under the number
_LINE = 4  # width of the border


def segment_images(explained: ExplainedImage, segment: int) -> tuple[Figure, Figure, Figure]:
    """The original, the numbered segment map, and the original with the border and evidence of one segment.

    Args:
        explained: the critiqued image.
        segment: j, one of its marks.
    """
    original = enlarge(explained.image, min_size=_SIZE)
    size = original.shape[1], original.shape[0]
    canvas = Image.fromarray(overlay(explained, [segment], min_size=_SIZE, line=_LINE))
    placed = place_marks(drawn_segments(explained, size), drawn_evidence(explained, size), _RADIUS)
    places = [mark for mark in placed if mark.segment == segment]
    draw_numbers(ImageDraw.Draw(canvas), places, radius=_RADIUS)
    numbered = np.asarray(Image.open(BytesIO(render(explained, min_size=_SIZE)[1].png)))
    held = f"segment {segment} holds {100 * explained.shares[segment - 1]:.0f} % of the evidence"
    return (
        figure(original, f"An image of the class {explained.class_name}."),
        figure(numbered, f"Its numbered segments; {held}."),
        figure(np.asarray(canvas), f"The same image with segment {segment} outlined, its evidence dotted."),
    )


def comparison_images(explanations: Explanations, row: int) -> tuple[Figure, Figure, Figure]:
    """One test image, and its explanation by the original and by the aligned model.

    Each explanation has its own scale, and the planted feature has no outline: paleness or a line would tell
    which model it is.
    """
    image = explanations.images[row]
    original = figure(enlarge(image, min_size=_SIZE), f"An image of the class {explanations.labels[row]}.")
    before, after = (
        figure(
            enlarge(heatmap(smoothed(values[row]), image), min_size=_SIZE),
            "An explanation of a classifier's decision on the same image.",
        )
        for values in (explanations.before, explanations.after)
    )
    return original, before, after
