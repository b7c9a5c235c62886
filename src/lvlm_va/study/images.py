"""The images of a question. None of them, nor its alternative text, tells a verdict, a model or a file."""

from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw

from lvlm_va.critique.marks import colour, place_marks
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.rendering import (
    draw_numbers,
    drawn_evidence,
    enlarge,
    heatmap,
    render,
    ring,
    smoothed,
)
from lvlm_va.report.images import Figure, figure
from lvlm_va.report.record import Explanations

__all__ = ["comparison_images", "segment_images"]

_SIZE = 560  # pixels of the shorter side
_RADIUS = 14  # of the disc under the number
_LINE = 4  # width of the outline


def segment_images(explained: ExplainedImage, segment: int) -> tuple[Figure, Figure, Figure]:
    """The original, the numbered segment map, and the original with one segment outlined.

    Args:
        explained: the critiqued image.
        segment: j, one of its marks.
    """
    original = enlarge(explained.image, min_size=_SIZE)
    shown = drawn_evidence(explained, (original.shape[1], original.shape[0]))
    marked = original.copy()
    marked[ring(shown == segment, _LINE, _LINE + 2)] = 0
    marked[ring(shown == segment, 0, _LINE)] = colour(segment)
    canvas = Image.fromarray(marked)
    places = [mark for mark in place_marks(shown, _RADIUS) if mark.segment == segment]
    draw_numbers(ImageDraw.Draw(canvas), places, radius=_RADIUS)
    numbered = np.asarray(Image.open(BytesIO(render(explained, min_size=_SIZE)[1].png)))
    held = f"segment {segment} holds {100 * explained.shares[segment - 1]:.0f} % of the evidence"
    return (
        figure(original, f"An image of the class {explained.class_name}."),
        figure(numbered, f"Its numbered segments; {held}."),
        figure(np.asarray(canvas), f"The same image with segment {segment} outlined."),
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
