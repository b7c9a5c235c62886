"""Degrees in [0, 1] to which a measured region is an instance of something.

Products of simple conditions: a fuzzy "and". They know measurements only, no class and no dataset.
"""

from collections.abc import Callable

from lvlm_va.vision.measures import Measures

__all__ = [
    "above",
    "block",
    "colour",
    "crisp",
    "dark_frame",
    "distinct",
    "drawn_object",
    "figure",
    "foreign",
    "ground",
    "main_object",
    "reflection",
    "ruler",
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


def crisp(m: Measures) -> float:
    """Ends sharply, as in a photograph only things do, not shades and textures; a drawing is crisp anyway."""
    return above(m.edge, 8, 12) if m.photographic else 1.0


def distinct(m: Measures) -> float:
    """Any thing that ends sharply."""
    return figure(m) * crisp(m)


def foreign(m: Measures) -> float:
    """Made by people and put there: a flat block, writing, a disc or patch in a colour of its own."""
    return 1.0 if m.role == "block" else max(writing(m), sticker(m))


def writing(m: Measures) -> float:
    """Letters in crisp ink; a marker that cannot be read most likely is a letter too."""
    read = {"writing": 1.0, "marker": 0.8}.get(m.role, 0.0)
    return read * crisp(m)


def block(m: Measures) -> float:
    """A filled rectangle of one brightness."""
    return float(m.role == "block") or distinct(m) * (
        above(m.rectangular, 0.8, 1) * above(m.compact, 0.3, 0.6) * m.uniform
    )


def sticker(m: Measures) -> float:
    """A compact patch of vivid colour on a photograph, rather at its side: plaster, bandage, label."""
    sharp = above(m.faintest_edge, 4, 7) * above(m.edge, 7, 12)
    if m.role == "patch":
        return sharp
    if m.role not in ("object", "thing"):
        return 0.0
    # Pigment comes in warm colours, too, but not in vivid ones.
    dull, full = (0.65, 0.85) if m.colour in ("red", "orange", "yellow") else (0.3, 0.6)
    vivid = above(m.saturation, dull, full) * float(m.colour not in ("brown", "beige", "pale pink", "black"))
    return m.photographic * sharp * vivid * above(m.compact, 0.15, 0.4) * (1 - 0.7 * m.middle)


def stroke(m: Measures) -> float:
    """A line: long for its width, neither a block nor the ground."""
    if m.role not in ("object", "thing"):
        return 0.0
    return above(1 - m.compact, 0.3, 0.6) * crisp(m) * (1 - sticker(m))


def drawn_object(m: Measures) -> float:
    """The figure of a drawing: a digit, a sign."""
    return float(m.role == "object" and not m.photographic)


def main_object(m: Measures) -> float:
    """What the image is about; of a photograph without one, what fills it."""
    if m.role == "object":
        return 1.0 if not m.photographic else 0.3 + 0.7 * m.middle
    return 0.5 * float(m.role == "ground" and m.photographic)


def ground(m: Measures) -> float:
    """Empty background; of a photograph's ground nothing here can tell whether it is empty."""
    return float(m.role == "ground") * (0.3 if m.photographic else 1.0)


def ruler(m: Measures) -> float:
    """Thin marks at the side of a photograph."""
    return m.photographic * stroke(m) * m.border * (1 - above(m.area, 0.02, 0.06))


def reflection(m: Measures) -> float:
    """A spot of glare on a photograph, sharp against what it lies on."""
    glare = m.brighter * above(m.brightness, 0.85, 0.95) * above(m.edge, 8, 15)
    return m.photographic * figure(m) * glare * (1 - m.border)


def dark_frame(m: Measures) -> float:
    """What is evenly black at the rim of a photograph: vignette, lens, mount, film."""
    black = above(0.18 - m.brightness, 0, 0.08) * above(m.uniform, 0.2, 0.5)
    return figure(m) * m.photographic * max(m.corner, m.border) * black


def colour(*names: str) -> Callable[[Measures], float]:
    """The degree of being something of one of these colours."""
    return lambda m: distinct(m) * float(m.colour in names)
