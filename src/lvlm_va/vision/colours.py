"""Colours as a person names them."""

import colorsys

import numpy as np
from numpy.typing import NDArray

__all__ = ["colour_name", "lab", "luminance", "opponent", "saturation"]

_HUES = (
    (15, "red"),
    (42, "orange"),
    (68, "yellow"),
    (160, "green"),
    (195, "turquoise"),
    (255, "blue"),
    (290, "purple"),
    (340, "pink"),
    (361, "red"),
)
_LEVELS = np.arange(256) / 255
_LINEAR = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4)  # of sRGB
_GREYS = ((0.10, "black"), (0.32, "dark grey"), (0.62, "grey"), (0.86, "light grey"), (1.01, "white"))


def colour_name(rgb: NDArray[np.float64]) -> str:
    """The everyday name of one colour (3,), channels in [0, 1]."""
    hue, sat, value = colorsys.rgb_to_hsv(*(float(c) for c in rgb))
    if value < 0.10 or sat < 0.15:
        return next(name for limit, name in _GREYS if value < limit)
    name = next(name for limit, name in _HUES if hue * 360 < limit)
    if name in ("red", "orange", "yellow"):
        if value < 0.65 and sat > 0.25:
            return "brown"
        if sat < 0.45:
            return "pale pink" if hue * 360 < 20 else "beige"
    return name


def luminance(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(H, W) brightness in [0, 1] of an (H, W, 3) image: Rec. 709 weights on the stored values."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    brightness: NDArray[np.float64] = image @ weights / 255
    return brightness


def opponent(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(H, W, 2) in [-1, 1] of an (H, W, 3) image: red against green, yellow against blue; 0 where grey."""
    red, green, blue = np.moveaxis(image / 255, -1, 0)
    return np.stack([red - green, (red + green) / 2 - blue], axis=-1)


def saturation(rgb: NDArray[np.float64]) -> float:
    """HSV saturation in [0, 1] of one colour (3,), channels in [0, 1]."""
    top = float(rgb.max())
    return 0.0 if top == 0 else float(top - rgb.min()) / top


def lab(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """CIELAB (D65) of an (H, W, 3) sRGB image: distances in it are distances to the eye."""
    linear = _LINEAR[image]
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
