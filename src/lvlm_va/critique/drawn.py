"""Images that are drawn once, however often they are asked about."""

from collections.abc import Callable
from weakref import WeakKeyDictionary

from lvlm_va.critique.question import CaptionedImage, ExplainedImage

__all__ = ["DrawnOnce"]

_MOST = 256 * 2**20  # bytes of PNG files; some 1,000 images of 224 × 224


class DrawnOnce:
    """Draws what the critic sees of an explained image, and keeps it as long as the image.

    The costs are told, the questions planned, asked, and asked again from the same explained images.

    Args:
        render: draws.
        most: bytes of files that are kept; beyond, images are drawn whenever they are wanted.
    """

    def __init__(
        self, render: Callable[[ExplainedImage], tuple[CaptionedImage, ...]], most: int = _MOST
    ) -> None:
        self._render = render
        self._room = most
        self._drawn: WeakKeyDictionary[ExplainedImage, tuple[CaptionedImage, ...]] = WeakKeyDictionary()

    def __call__(self, explained: ExplainedImage) -> tuple[CaptionedImage, ...]:
        """The images; the very same ones as before where they were kept."""
        drawn = self._drawn.get(explained)
        if drawn is None:
            drawn = self._render(explained)
            if (size := sum(len(image.png) for image in drawn)) <= self._room:
                self._room -= size
                self._drawn[explained] = drawn
        return drawn
