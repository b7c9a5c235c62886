"""Images for the audit of the built-in critic, with and without confounders, and what an expert writes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from experiments.confounders import Arrow, Coin, FilmEdge, Gradient
from lvlm_va.config.schema import DataConfig
from lvlm_va.critique.specification import ClassSpecification, load_specifications
from lvlm_va.data.decoy import load_decoy_mnist
from lvlm_va.data.imageset import ImageSet
from lvlm_va.data.knee import load_knee
from lvlm_va.data.skin import load_skin
from lvlm_va.project.stages.explained import to_uint8_rgb

__all__ = ["GROUPS", "SIDE", "Sample", "Source"]

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
SIDE = 112


@dataclass(frozen=True)
class Sample:
    """One image with its confounder (empty if there is none) and what the expert wrote."""

    image: Pixels
    planted: Mask
    specification: ClassSpecification


Source = Callable[[Path, int], Iterator[Sample]]


def _of_set(images: ImageSet, specifications: dict[str, ClassSpecification], number: int) -> Iterator[Sample]:
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[: 20 * number]
    masks = images.spurious_masks(order)
    assert masks is not None
    chosen = order[masks.flatten(1).any(1)][:number]
    masks = images.spurious_masks(chosen)
    assert masks is not None
    for image, mask, label in zip(images.images(chosen), masks, images.labels[chosen], strict=True):
        name = images.class_names[int(label)]
        yield Sample(to_uint8_rgb(image).numpy(), mask.numpy(), specifications[name])


def _preset(name: str, images: ImageSet) -> dict[str, ClassSpecification]:
    path = files("lvlm_va.project.presets").joinpath(f"{name}_specifications.yaml")
    return load_specifications(Path(str(path)), images.class_names)


def digits(data: Path, number: int) -> Iterator[Sample]:
    train = load_decoy_mnist(DataConfig(name="decoy-mnist", path=data / "mnist"), lambda _: None).train
    return _of_set(train, _preset("decoy_mnist", train), number)


def knee_tags(data: Path, number: int) -> Iterator[Sample]:
    train = load_knee(data / "knee", size=SIDE).train
    return _of_set(train, _preset("knee", train), number)


def skin_bandages(data: Path, number: int) -> Iterator[Sample]:
    train = load_skin(data / "skin", parts=["core"], size=SIDE).train
    return _of_set(train, _preset("skin", train), number)


def _confounded(kind: type[Any]) -> Source:
    def source(data: Path, number: int) -> Iterator[Sample]:
        train = load_knee(data / "knee", size=SIDE, draw=kind().draw).train
        path = Path(__file__).with_name("knee_confounders.yaml")
        return _of_set(train, load_specifications(path, train.class_names), number)

    return source


def _plain(load: Callable[[Path], ImageSet], *specifications: ClassSpecification) -> Source:
    """Images without any confounder, under specifications that rule out all but something."""

    def source(data: Path, number: int) -> Iterator[Sample]:
        images = load(data)
        everything = torch.arange(len(images))
        masks = images.spurious_masks(everything)
        assert masks is not None
        free = everything[~masks.flatten(1).any(1)][:number]
        for n, image in enumerate(images.images(free)):
            pixels = to_uint8_rgb(image).numpy()
            yield Sample(pixels, np.zeros(pixels.shape[:2], bool), specifications[n % len(specifications)])

    return source


def _spec(
    name: str, description: str, relevant: Sequence[str], spurious: Sequence[str]
) -> ClassSpecification:
    return ClassSpecification(name, description, tuple(relevant), tuple(spurious))


_BONES = (
    _spec(
        "arthritis",
        "The joint space is narrow and the bone edges are irregular.",
        ["the joint space", "bone edges"],
        ["anything outside the joint space", "a lead marker"],
    ),
    _spec(
        "healthy",
        "A wide joint space. Everything that is not bone must not be used, nor any writing on the film.",
        [],
        [],
    ),
)
_LESIONS = (
    _spec(
        "melanoma",
        "An asymmetric spot of several colours with an irregular edge.",
        ["the pigmented lesion", "its border"],
        ["anything outside the lesion", "hair, ruler or ink"],
    ),
    _spec(
        "nevus",
        "A small evenly coloured mole. The skin around it and whatever lies on it say nothing.",
        [],
        ["anything not part of the mole"],
    ),
)

# Images that come with scikit-image and scikit-learn, and what somebody who sorts them might write.
_UNSEEN = {
    "fundus": (
        "retina.jpg",
        _spec(
            "diabetic",
            "Dark dots and yellow spots between the vessels of the retina.",
            ["microaneurysms", "blood vessels", "the optic disc"],
            ["anything outside the retina", "a date or name printed on the picture"],
        ),
    ),
    "histology": (
        "ihc.png",
        _spec(
            "stained",
            "Brown stain within the glands; blue nuclei elsewhere.",
            ["brown stained epithelium"],
            ["anything not on the glands", "a date or name printed on the picture", "dust and bubbles"],
        ),
    ),
    "bricks": (
        "brick.png",
        _spec(
            "cracked",
            "A crack runs through a brick or a joint.",
            ["a crack", "the mortar joints"],
            ["everything but the crack", "a paper label or printed text"],
        ),
    ),
    "gravel": (
        "gravel.png",
        _spec(
            "coarse",
            "Stones of more than two centimetres.",
            ["the size of the stones"],
            ["shadows and anything that is not a stone", "a paper label or printed text"],
        ),
    ),
    "cat": (
        "chelsea.png",
        _spec(
            "cat",
            "A cat: pointed ears, whiskers, a striped coat.",
            ["ears, eyes and whiskers", "the coat"],
            ["whatever is not part of the animal", "a watermark or printed text"],
        ),
    ),
    "coffee": (
        "coffee.png",
        _spec(
            "full",
            "A cup that is full of coffee.",
            ["the cup and the coffee in it"],
            ["anything outside the cup", "a watermark or printed text"],
        ),
    ),
}
# The critic was not run on these before it was finished.
_HELD_OUT = {
    "microaneurysms": (
        "microaneurysms.png",
        _spec(
            "diabetic",
            "Small round dark dots beside the vessels.",
            ["microaneurysms", "blood vessels"],
            ["whatever lies outside the retina", "a date or name in the picture"],
        ),
    ),
    "cell": (
        "cell.png",
        _spec(
            "dividing",
            "A cell with two nuclei or a waist.",
            ["the outline of the cell", "its nucleus"],
            ["everything outside the cell", "a scale bar or printed text"],
        ),
    ),
    "moon": (
        "moon.png",
        _spec(
            "cratered",
            "Round craters with a bright rim.",
            ["craters and their rims"],
            ["all that is not a crater", "a time stamp printed on the picture"],
        ),
    ),
    "grass": (
        "grass.png",
        _spec(
            "dry",
            "Blades that are thin and pale.",
            ["the blades"],
            ["anything but the grass", "a label or printed text"],
        ),
    ),
    "temple": (
        "china.jpg",
        _spec(
            "temple",
            "A roof with raised corners.",
            ["the roof", "columns"],
            ["people, trees and anything that is not the building", "a watermark or a date"],
        ),
    ),
    "flower": (
        "flower.jpg",
        _spec(
            "dahlia",
            "Many petals in rings around the middle.",
            ["petals"],
            ["leaves and everything around the flower", "a watermark or a date"],
        ),
    ),
    "motorcycle": (
        "motorcycle_left.png",
        _spec(
            "motorcycle",
            "Two wheels, an engine between them, a handlebar.",
            ["wheels and engine"],
            ["the garage and everything else in it", "a watermark or a date"],
        ),
    ),
}


def _unseen(name: str, *, printed: bool) -> Source:
    file, specification = (_UNSEEN | _HELD_OUT)[name]

    def source(_: Path, number: int) -> Iterator[Sample]:
        import skimage.data
        import sklearn.datasets

        path = Path(skimage.data.__file__).with_name(file)
        if not path.exists():
            path = Path(sklearn.datasets.__file__).with_name("images") / file
        whole = np.asarray(Image.open(path).convert("RGB"))
        random = np.random.default_rng((0, len(name)))
        for _n in range(number):
            side = int(random.uniform(0.3, 0.7) * min(whole.shape[:2]))
            top, left = (int(random.integers(0, whole.shape[axis] - side + 1)) for axis in (0, 1))
            crop = Image.fromarray(whole[top : top + side, left : left + side]).resize((SIDE, SIDE))
            planted = np.zeros((SIDE, SIDE), bool)
            if printed:
                crop, planted = _print(crop, random)
            yield Sample(np.asarray(crop).copy(), planted, specification)

    return source


def _print(image: Image.Image, random: np.random.Generator) -> tuple[Image.Image, Mask]:
    """A date in a corner, in white or black, 9 to 12 pixels high."""
    text = f"{random.integers(1, 29):02d}.{random.integers(1, 13):02d}.{random.integers(2015, 2026)}"
    layer = Image.new("L", image.size)
    font = ImageFont.load_default(float(random.integers(11, 15)))
    draw = ImageDraw.Draw(layer)
    width, height = (int(n) for n in draw.textbbox((0, 0), text, font=font)[2:])
    left = 3 if random.random() < 0.5 else SIDE - width - 3
    top = 2 if random.random() < 0.5 else SIDE - height - 4
    draw.text((left, top), text, fill=255, font=font)
    pixels = np.asarray(image).copy()
    around = pixels[top : top + height, left : left + width].mean()
    ink = Image.new("RGB", image.size, (255,) * 3 if around < 140 else (0,) * 3)
    image.paste(ink, mask=layer)
    # With the rim that the blur of the letters leaves.
    return image, ndimage.binary_dilation(np.asarray(layer) > 0)


MADE_FOR: dict[str, Source] = {
    "DecoyMNIST, patches": digits,
    "knee, tags": knee_tags,
    "skin, bandages": skin_bandages,
}
MENDED_ON: dict[str, Source] = {
    "knee, arrows": _confounded(Arrow),
    "knee, coins": _confounded(Coin),
    "knee, film edges": _confounded(FilmEdge),
    "knee, uneven exposure": _confounded(Gradient),
    "knee, nothing": _plain(lambda data: load_knee(data / "knee", size=SIDE).train, *_BONES),
    "skin, nothing": _plain(
        lambda data: load_skin(data / "skin", parts=["core"], size=SIDE).train, *_LESIONS
    ),
    **{f"{name}, nothing": _unseen(name, printed=False) for name in _UNSEEN},
    **{f"{name}, a date": _unseen(name, printed=True) for name in _UNSEEN},
}
HELD_OUT: dict[str, Source] = {
    **{f"{name}, nothing": _unseen(name, printed=False) for name in _HELD_OUT},
    **{f"{name}, a date": _unseen(name, printed=True) for name in _HELD_OUT},
}
GROUPS = {"made for": MADE_FOR, "mended on": MENDED_ON, "held out": HELD_OUT}
