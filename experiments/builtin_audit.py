"""How often the built-in critic condemns what is innocent, on images that it was and was not made for.

    python -m experiments.builtin_audit --data DIR

No classifier is needed: an attribution is drawn, blobs at random places and, in seven of ten images that have
a confounder, one on it, and is segmented as ever. Precision is the share of condemned segments that hold at
least one pixel of the confounder (the oracle's rule), recall the share of those segments with at least 5 % of
it that are condemned. Where an image holds no confounder, whatever is condemned is wrong.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from experiments.confounders import Arrow, Coin, FilmEdge, Gradient
from lvlm_va._version import __version__
from lvlm_va.cli.main import run_app
from lvlm_va.config.schema import DataConfig
from lvlm_va.critique.backends.builtin.assessment import assess
from lvlm_va.critique.backends.builtin.weighing import Scales
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.specification import ClassSpecification, load_specifications
from lvlm_va.data.decoy import load_decoy_mnist
from lvlm_va.data.imageset import ImageSet
from lvlm_va.data.knee import load_knee
from lvlm_va.data.skin import load_skin
from lvlm_va.explain.segmentation import ppeps_wgm
from lvlm_va.project.stages.explanation import to_uint8_rgb
from lvlm_va.vision.letters import read_letters
from lvlm_va.vision.regions import see

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
J = 7
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


def attribution(sample: Sample, random: np.random.Generator) -> NDArray[np.float32]:
    """(H, W) blobs that follow the image's contrast, as a classifier's evidence does."""
    side = sample.image.shape[0]
    grey = sample.image.mean(axis=2)
    texture = np.abs(grey - ndimage.gaussian_filter(grey, side / 20))
    texture = 0.3 + texture / max(texture.max(), 1)
    found = np.zeros(grey.shape)
    rows, columns = np.indices(grey.shape)
    for _ in range(random.integers(3, 6)):
        row, column = random.uniform(0, side, 2)
        width = random.uniform(0.05, 0.15) * side
        found += random.uniform(0.5, 1) * np.exp(
            -((rows - row) ** 2 + (columns - column) ** 2) / 2 / width**2
        )
    if sample.planted.any() and random.random() < 0.7:
        found += 2 * ndimage.gaussian_filter(sample.planted.astype(float), side / 60)
    phi: NDArray[np.float32] = (found * texture).astype(np.float32)
    return phi


def audit(samples: Sequence[Sample]) -> dict[str, Any]:
    """Counts of one source."""
    random = np.random.default_rng(0)
    phi = np.stack([attribution(sample, random) for sample in samples])
    segmentation = ppeps_wgm(torch.from_numpy(phi), J, n_init=1)
    scales: dict[str, Scales] = {}
    condemned = right = unscored = segments = holds = found = 0
    left = 0.0
    wrong: list[str] = []
    for n, sample in enumerate(samples):
        explained = ExplainedImage(
            f"{n}",
            sample.image,
            segmentation.labels[n].numpy(),
            phi[n],
            tuple(segmentation.pi[n].tolist()),
            sample.specification.name,
            sample.specification.name,
        )
        weigh = scales.setdefault(sample.specification.version, Scales(sample.specification))
        scene = see(sample.image, read_letters(sample.image))
        for finding in assess(explained, scene, weigh)[1]:
            inside = explained.segments == finding.segment
            held = int((inside & sample.planted).sum())
            segments += 1
            unscored += finding.spurious is None
            left += finding.share / len(samples) if finding.spurious is None else 0
            condemned += finding.spurious is True
            right += finding.spurious is True and held > 0
            if finding.spurious and not held and finding.decisive and len(wrong) < 8:
                part = finding.decisive
                m = part.measures
                wrong.append(
                    f"image {n}, {m.role} {m.colour} {m.letters!r} {m.place}, {m.area:.1%}, "
                    f"edge {m.edge:.0f}: {part.match.spurious_words}"
                )
            if held >= 0.05 * max(1, sample.planted.sum()):
                holds += 1
                found += finding.spurious is True
    return {
        "images": len(samples),
        "segments": segments,
        "condemned": condemned,
        "right": right,
        "precision": None if condemned == 0 else round(right / condemned, 3),
        "recall": None if holds == 0 else round(found / holds, 3),
        "evidence_without_verdict": round(left, 3),
        "wrong": wrong,
    }


app = typer.Typer(add_completion=False)


@app.command()
def main(
    data: Annotated[Path, typer.Option("--data", help="With mnist/, knee/ and skin/.")],
    out: Annotated[Path | None, typer.Option("--out", help="A JSON file.")] = None,
    number: Annotated[int, typer.Option("--number", help="Images of each kind.")] = 24,
    groups: Annotated[list[str], typer.Option("--group", help=", ".join(GROUPS))] = list(GROUPS),  # noqa: B006
) -> None:
    """Audit the built-in critic."""
    found: dict[str, dict[str, Any]] = {}
    if out is not None and out.exists():
        found = json.loads(out.read_text("utf-8"))["sources"]
    chosen = {name: (group, source) for group in groups for name, source in GROUPS[group].items()}
    for name, (group, source) in chosen.items():
        row = audit(list(source(data, number)))
        found[name] = row | {"group": group}
        typer.echo(
            f"{name:28s} condemned {row['condemned']:4d} of {row['segments']}, precision {row['precision']}, "
            f"recall {row['recall']}, evidence without verdict {row['evidence_without_verdict']:.0%}"
        )
        for words in row["wrong"]:
            typer.echo(f"      wrong: {words}")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        document = {"version": __version__, "number": number, "sources": found}
        out.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        write_page(out)


def write_page(path: Path) -> Path:
    """README.md beside the numbers in `path`."""
    document = json.loads(path.read_text("utf-8"))
    lines = [
        "# The built-in critic on images that it was and was not made for",
        "",
        f"`python -m experiments.builtin_audit --data DIR --out {path.name}`, version {document['version']}, "
        f"{document['number']} images of each kind, J = {J}, {SIDE} × {SIDE} (digits 28 × 28), seed 0.",
        "",
        "No classifier is involved: the attribution is drawn, blobs at random places and, in seven of ten "
        "images with a confounder, one on it, and segmented as ever. Precision is the share of condemned "
        "segments that hold a pixel of the confounder, recall the share of segments with at least 5 % of it "
        "that are condemned; the truth is an oracle's. Where there is no confounder, whatever is "
        "condemned is wrong. —: nothing was condemned, or there was nothing to find.",
        "",
        "*Made for*: the critic was written with these at hand. *Mended on*: it condemned innocent segments "
        "of these, and was mended on the first twelve images of each. *Held out*: it was not run on these "
        "before it was finished, and was not changed afterwards; theirs are the test figures.",
        "",
        "| images, confounder | group | condemned | precision | recall | evidence without a verdict |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in document["sources"].items():
        precision, recall = (
            "—" if row[key] is None else f"{row[key]:.2f}" for key in ("precision", "recall")
        )
        lines.append(
            f"| {name} | {row['group']} | {row['condemned']} of {row['segments']} | "
            f"{precision} | {recall} | {row['evidence_without_verdict']:.0%} |"
        )
    page = path.with_name("README.md")
    page.write_text("\n".join(lines) + "\n", "utf-8")
    return page


if __name__ == "__main__":
    run_app(app)
