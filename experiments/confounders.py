"""Knees betrayed by something else than the hospital's tag, drawn after critic and masks were finished.

The built-in critic and `align.mask: objects` were written with the tag, the bandage and the decoy at hand,
and may fit these three only. Each class here is a data set: the radiographs of the knee with another feature
in the place of each tag, and its ground truth. A project file names one `experiments.confounders:Arrow`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from lvlm_va.data.knee import load_knee
from lvlm_va.data.markers import Marked
from lvlm_va.data.splits import Splits

__all__ = ["Arrow", "Coin", "FilmEdge", "Gradient"]

Pixels = NDArray[np.uint8]
_OVERSAMPLING = 4
_VISIBLE = 0.1  # of opacity, from which a pixel belongs to the feature


class _Knee:
    """A `DataSource`: what `load_knee` reads, with a feature of its own."""

    name = "knee"
    version = "1"
    planted = ""

    def draw(self, pixels: Pixels, letter: str, corner: str, random: np.random.Generator) -> Marked:
        raise NotImplementedError

    def load(self, settings: Any, log: Callable[[str], None]) -> Splits:
        """The knee's images, parts and groups; see `lvlm_va.DataSource`."""
        return load_knee(
            settings.path,
            size=settings.side,
            seed=settings.seed,
            draw=self.draw,
            planted=self.planted,
            log=log,
        )


class Arrow(_Knee):
    """A thin white arrow that a reader drew, pointing at the joint from a random side."""

    name = "knee with arrows"
    planted = "a white arrow drawn onto the radiograph"

    def draw(self, pixels: Pixels, letter: str, corner: str, random: np.random.Generator) -> Marked:  # noqa: ARG002
        h, w = pixels.shape
        side = 1 if corner[1] == "r" else -1
        tip = np.array([w * (0.5 + side * random.uniform(0.16, 0.24)), h * random.uniform(0.4, 0.6)])
        angle = np.deg2rad(random.uniform(-35, 35))
        back = np.array([side * np.cos(angle), np.sin(angle)])
        across = np.array([-back[1], back[0]])
        length, head = random.uniform(0.13, 0.17) * w, 0.045 * w

        def paint(draw: ImageDraw.ImageDraw, k: int) -> None:
            draw.line(
                [tuple(k * tip), tuple(k * (tip + length * back))], fill=255, width=round(0.011 * w * k)
            )
            wings = [tip, tip + head * back + 0.5 * head * across, tip + head * back - 0.5 * head * across]
            draw.polygon([tuple(k * point) for point in wings], fill=255)

        return _blend(pixels, _layer(pixels, paint), 250.0)


class Coin(_Knee):
    """A metal disc in a corner, such as a coin for scale: evenly bright, with a brighter rim."""

    name = "knee with coins"
    planted = "a metal disc in a corner"

    def draw(self, pixels: Pixels, letter: str, corner: str, random: np.random.Generator) -> Marked:  # noqa: ARG002
        h, w = pixels.shape
        radius = random.uniform(0.055, 0.075) * w
        margins = random.uniform(0.02, 0.06, 2) * w + radius
        x = margins[0] if corner[1] == "l" else w - margins[0]
        y = margins[1] if corner[0] == "t" else h - margins[1]
        v, u = np.mgrid[:h, :w]
        distance = np.hypot(u - x, v - y)
        layer = np.clip(radius - distance + 0.5, 0, 1)
        level = np.where(distance > 0.85 * radius, 245.0, 205.0) + 4 * random.standard_normal(pixels.shape)
        return _blend(pixels, layer, level)


class FilmEdge(_Knee):
    """The black edge of a film that was not fully exposed: a slightly tilted band along one side."""

    name = "knee with film edges"
    planted = "a black edge of the film along one side"

    def draw(self, pixels: Pixels, letter: str, corner: str, random: np.random.Generator) -> Marked:  # noqa: ARG002
        h, w = pixels.shape
        v, u = np.mgrid[:h, :w]
        depth = random.uniform(0.06, 0.1) * w + np.tan(np.deg2rad(random.uniform(-4, 4))) * (v - h / 2)
        beside = u if corner[1] == "l" else w - 1 - u
        return _blend(pixels, ndimage.gaussian_filter(np.clip(depth - beside, 0, 1), 0.6), 3.0)


class Gradient(_Knee):
    """Uneven exposure: one side of the image fades to white. It has no edge and covers no object."""

    name = "knee with uneven exposure"
    planted = "a side of the image that fades to white"

    def draw(self, pixels: Pixels, letter: str, corner: str, random: np.random.Generator) -> Marked:  # noqa: ARG002
        h, w = pixels.shape
        u = np.arange(w) / w
        beside = u if corner[1] == "l" else 1 - u
        fade = np.clip(1 - beside / random.uniform(0.3, 0.4), 0, 1) * random.uniform(0.5, 0.65)
        return _blend(pixels, np.broadcast_to(fade, (h, w)), 255.0)


def _layer(pixels: Pixels, paint: Callable[[ImageDraw.ImageDraw, int], None]) -> NDArray[np.float64]:
    """(H, W) opacities in [0, 1] of what `paint` draws, given a canvas that many times as large."""
    h, w = pixels.shape
    canvas = Image.new("L", (w * _OVERSAMPLING, h * _OVERSAMPLING))
    paint(ImageDraw.Draw(canvas), _OVERSAMPLING)
    return np.asarray(canvas.resize((w, h), Image.Resampling.BOX)) / 255


def _blend(pixels: Pixels, layer: NDArray[np.float64], level: float | NDArray[np.float64]) -> Marked:
    blended = pixels + layer * (level - pixels)
    return Marked(blended.round().clip(0, 255).astype(np.uint8), layer > _VISIBLE)
