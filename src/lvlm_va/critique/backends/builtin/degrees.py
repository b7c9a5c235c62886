"""Degrees in [0, 1] to which a measured region is an instance of something.

Products of simple conditions: a fuzzy "and". They know measurements only, no class and no dataset.
"""

from collections.abc import Callable

from lvlm_va.vision.measures import Measures

__all__ = [
    "above",
    "block",
    "colour",
    "dark_frame",
    "drawn_object",
    "figure",
    "foreign",
    "grey_photograph",
    "ground",
    "lesion",
    "main_object",
    "ruler",
    "skin",
    "sticker",
    "stroke",
    "writing",
]


def above(value: float, none: float, full: float) -> float:
    """0 up to `none`, 1 from `full`, linear between."""
    return min(1.0, max(0.0, (value - none) / (full - none)))


def figure(m: Measures) -> float:
    """Anything but the ground."""
    return float(m.role != "ground")


def foreign(m: Measures) -> float:
    """Made by people and put there: a flat block, writing, a disc or patch in a colour of its own."""
    return 1.0 if m.role in ("block", "writing", "marker") else sticker(m)


def writing(m: Measures) -> float:
    """Letters; a marker that cannot be read most likely is a letter too."""
    return 1.0 if m.role == "writing" else 0.8 * float(m.role == "marker")


def block(m: Measures) -> float:
    """A filled rectangle of one brightness."""
    return float(m.role == "block") or figure(m) * (
        above(m.rectangular, 0.8, 1) * above(m.compact, 0.3, 0.6) * m.uniform
    )


def sticker(m: Measures) -> float:
    """A compact patch of vivid colour on a photograph, rather at its side: plaster, bandage, label."""
    if m.role == "patch":
        return 1.0
    if m.role not in ("object", "thing"):
        return 0.0
    # Pigment comes in warm colours, too, but not in vivid ones.
    dull, full = (0.65, 0.85) if m.colour in ("red", "orange", "yellow") else (0.3, 0.6)
    vivid = above(m.saturation, dull, full) * float(m.colour not in ("brown", "beige", "pale pink", "black"))
    return m.photographic * vivid * above(m.compact, 0.15, 0.4) * (1 - 0.7 * m.middle)


def stroke(m: Measures) -> float:
    """A line: long for its width, neither a block nor the ground."""
    if m.role not in ("object", "thing"):
        return 0.0
    return above(1 - m.compact, 0.3, 0.6) * (1 - sticker(m))


def drawn_object(m: Measures) -> float:
    """The figure of a drawing: a digit, a sign."""
    return float(m.role == "object" and not m.photographic)


def main_object(m: Measures) -> float:
    """What the image is about; of a photograph without one, what fills it."""
    if m.role == "object":
        return 1.0 if not m.photographic else 0.3 + 0.7 * m.middle
    return 0.5 * float(m.role == "ground" and m.photographic)


def ground(m: Measures) -> float:
    """Empty background; less so in a photograph, where the ground may be tissue."""
    return float(m.role == "ground") * (0.6 if m.photographic else 1.0)


def grey_photograph(m: Measures) -> float:
    """Part of a radiograph or another grey photograph, unless it was put there."""
    return float(m.photographic and m.saturation < 0.15 and m.role not in ("block", "writing", "marker"))


def skin(m: Measures) -> float:
    """The ground of a photograph in colour; white balance makes skin of any tone, even blue."""
    return float(m.photographic and m.role == "ground" and m.saturation >= 0.01)


def lesion(m: Measures) -> float:
    """A compact spot darker than the skin around it, rather in the middle."""
    if not m.photographic or m.role not in ("object", "thing") or m.brighter:
        return 0.0
    coloured = above(m.saturation, 0.05, 0.2) * (1 - sticker(m))
    # The subject of the image may come in several pieces.
    compact = above(m.compact, 0.03, 0.12) if m.role == "object" else above(m.compact, 0.1, 0.3)
    return coloured * compact * (0.2 + 0.8 * m.middle)


def ruler(m: Measures) -> float:
    """Thin marks at the side of a photograph."""
    return m.photographic * stroke(m) * m.border * (1 - above(m.area, 0.02, 0.06))


def dark_frame(m: Measures) -> float:
    """What is black at the rim of a photograph: vignette, lens, mount."""
    return figure(m) * m.photographic * max(m.corner, m.border) * above(0.35 - m.brightness, 0, 0.15)


def colour(*names: str) -> Callable[[Measures], float]:
    """The degree of being something of one of these colours."""
    return lambda m: figure(m) * float(m.colour in names)
