"""The bank of visual concepts: what a phrase of the expert may mean, in terms of what can be measured.

A concept is a handful of everyday phrases for the sentence encoder and a degree in [0, 1] to which a
measured region is an instance of it. The bank knows no class, no dataset and no domain: bones, lesions
or leaves are "the subject matter", of which nothing here can tell whether it is there (degree 0). Degrees are
products of simple conditions (fuzzy "and"); the phrases of one concept are alternatives.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lvlm_va.critique.backends.builtin import degrees
from lvlm_va.vision.measures import Measures

__all__ = ["BANK", "SUBJECT_MATTER", "Concept"]


@dataclass(frozen=True)
class Concept:
    """One visual concept.

    Attributes:
        name: as the critique calls it.
        phrases: what people say for it; the encoder sees these.
        degree: how far a region is an instance of it, in [0, 1].
        handicap: subtracted from its similarity to a phrase. A colour or a place only qualifies what is
            named beside it: "a grey box in a corner" is a box first.
        shape: whether it says what a thing looks like, not what it is.
        inserted: whether what it says can only have been put there, whatever the image shows.
    """

    name: str
    phrases: tuple[str, ...]
    degree: Callable[[Measures], float]
    handicap: float = 0.0
    shape: bool = False
    inserted: bool = False

    @property
    def recognises(self) -> bool:
        """Whether it says what a thing is: not its colour, place or shape."""
        return not (self.handicap or self.shape)


SUBJECT_MATTER = "the subject matter"
"""The concept of all that cannot be measured."""

_ADJECTIVE = 0.15
_ADVERBIAL = 0.08


BANK: tuple[Concept, ...] = (
    Concept(
        "a flat block",
        (
            "a square patch",
            "a rectangular block",
            "a uniform box of constant brightness",
            "a flat tile",
            "a small solid square",
            "a little box",
        ),
        degrees.block,
        inserted=True,
    ),
    Concept(
        "something in a corner",
        ("in a corner of the picture", "the corners of the image", "corner"),
        lambda m: degrees.distinct(m) * m.corner,
        handicap=_ADVERBIAL,
    ),
    Concept(
        "something at the border",
        ("at the border of the picture", "near the edge or margin of the image", "the frame of the picture"),
        lambda m: degrees.distinct(m) * m.border,
        handicap=_ADVERBIAL,
    ),
    Concept(
        "an artificial mark",
        (
            "an artificial marker",
            "a sticker or label",
            "an artefact pasted onto the picture",
            "a foreign object that does not belong to the subject",
            "a tag or badge",
        ),
        degrees.foreign,
    ),
    Concept(
        "writing",
        (
            "a letter or text marker",
            "printed letters",
            "a text label or caption",
            "the letter L or R",
            "a watermark or stamp",
            "a date or name printed on the picture",
            "a lead marker",
        ),
        degrees.writing,
        inserted=True,
    ),
    Concept(
        "a pen stroke",
        (
            "a pen stroke",
            "a thin curved line",
            "the ink of the handwriting",
            "brush strokes",
            "a straight line or bar",
        ),
        degrees.stroke,
        shape=True,
    ),
    Concept(
        "a bend or loop",
        (
            "a curve, an arc or a hook",
            "a closed loop or ring",
            "two loops one above the other",
            "a bend or tail",
        ),
        lambda m: max(degrees.stroke(m), degrees.drawn_object(m)),
        shape=True,
    ),
    Concept(
        "a written character",
        (
            "a handwritten digit",
            "the shape of a number",
            "a handwritten numeral or character",
            "the figure that was written by hand",
            "a number: one, two, three",
        ),
        degrees.drawn_object,
    ),
    Concept(
        "a line drawing's parts",
        ("where the lines meet or cross", "junctions and ends of the lines", "the outline of the shape"),
        degrees.drawn_object,
        shape=True,
    ),
    Concept(
        "the main object",
        ("the main object in the middle of the picture", "the subject of the picture", "the central object"),
        degrees.main_object,
        shape=True,
    ),
    Concept(
        "background",
        (
            "empty background",
            "empty black space",
            "the blank area around the object",
            "the dark space inside or beside a shape",
            "nothing but background",
        ),
        degrees.ground,
    ),
    Concept(
        "a coloured patch",
        (
            "a coloured adhesive bandage",
            "a plaster or band-aid on the skin",
            "a round coloured sticker",
            "a colour chart",
        ),
        lambda m: max(
            degrees.sticker(m), float(m.role == "block") * (0.5 + 0.5 * degrees.above(m.saturation, 0.2, 0.5))
        ),
    ),
    Concept(
        SUBJECT_MATTER,
        (
            "the edges of the bones and the joint space",
            "cartilage and soft tissue",
            "an organ or its outline",
            "blood vessels and nerves",
            "cells, nuclei and glands",
            "healthy skin",
            "a pigmented lesion with an irregular border",
            "a mole or nevus",
            "a tumour or a melanoma",
            "a spot of several colours",
            "a face or a person",
            "an animal and its fur",
            "a plant, a leaf or a flower",
            "food and drink",
            "a vehicle or a machine part",
            "a building or a street",
            "stones, bricks and sand",
            "a crack, a scratch or a dent",
            "the surface of the material",
            "a cup or another vessel",
            "clouds, water and sky",
            "a shadow",
            "uneven exposure",
        ),
        lambda _: 0.0,
    ),
    Concept(
        "dark corners",
        (
            "dark corners of the lens",
            "black vignette around the picture",
            "the black frame of the microscope",
        ),
        degrees.dark_frame,
    ),
    Concept(
        "hair",
        ("hair across the picture", "thin dark hairs"),
        lambda m: m.photographic * degrees.stroke(m) * (not m.brighter),
    ),
    Concept(
        "a ruler",
        ("a ruler or scale bar", "ruler marks for measuring"),
        degrees.ruler,
    ),
    Concept(
        "a reflection",
        ("a specular reflection", "glare of the flash", "air bubbles in the gel"),
        degrees.reflection,
    ),
    Concept(
        "a disc",
        ("a round disc", "a circle or dot"),
        lambda m: degrees.distinct(m) * degrees.above(m.round, 0.7, 0.9) * degrees.above(m.compact, 0.3, 0.6),
        shape=True,
    ),
    Concept(
        "grey",
        ("something grey", "grey colour"),
        degrees.colour("grey", "dark grey", "light grey"),
        handicap=_ADJECTIVE,
    ),
    Concept(
        "bright or white",
        ("something white", "a very bright area"),
        degrees.colour("white", "light grey"),
        handicap=_ADJECTIVE,
    ),
    Concept(
        "black or dark",
        ("something black", "a very dark area"),
        degrees.colour("black", "dark grey"),
        handicap=_ADJECTIVE,
    ),
    Concept(
        "red or pink", ("something red", "something pink"), degrees.colour("red", "pink"), handicap=_ADJECTIVE
    ),
    Concept(
        "orange or yellow",
        ("something orange", "something yellow"),
        degrees.colour("orange", "yellow"),
        handicap=_ADJECTIVE,
    ),
    Concept("green", ("something green",), degrees.colour("green", "turquoise"), handicap=_ADJECTIVE),
    Concept(
        "blue",
        ("something blue", "something turquoise"),
        degrees.colour("blue", "turquoise"),
        handicap=_ADJECTIVE,
    ),
    Concept(
        "purple",
        ("something purple", "violet ink of a skin marker"),
        degrees.colour("purple"),
        handicap=_ADJECTIVE,
    ),
    Concept("brown", ("something brown",), degrees.colour("brown", "beige"), handicap=_ADJECTIVE),
)
"""All concepts."""
