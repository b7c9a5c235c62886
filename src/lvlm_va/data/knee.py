"""Knee radiographs with a hospital's tags: KneeKL224, grade 0 against grade 3 (Sec. 5.2).

The published images carry no tags. A committed list says which images take part and which of them get a
lead marker, with which letter, in which corner: 250 of 500 healthy and 12 of 500 arthritic knees in training,
half of each class in validation and test. No patient is in two parts.

Images: Chen, "Knee Osteoarthritis Severity Grading Dataset", Mendeley Data 2018 (KneeKL224; CC BY 4.0).
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lvlm_va.data.counterfactual_pairs import Changed, CounterfactualPairs, ReadWhenAsked
from lvlm_va.data.imageset import ArrayImageSet, Groups
from lvlm_va.data.locate import locate
from lvlm_va.data.markers import CORNERS, Marked, draw_marker
from lvlm_va.data.published import committed_list, read_image, reduced, reduced_mask
from lvlm_va.data.splits import Splits
from lvlm_va.errors import DataError

if TYPE_CHECKING:
    from lvlm_va.config.loading import DataConfig

__all__ = ["CLASS_NAMES", "KneeImageSet", "load_knee", "load_knee_as"]

CLASS_NAMES = ("healthy", "arthritic")
_GRADES = ("0", "3")
_GROUPS = tuple(f"{name}, {tag}" for name in CLASS_NAMES for tag in ("no tag", "tag"))
_SIDE = 224  # pixels, as published; tags are drawn at this size whatever size is asked for
_HOW_TO_GET = (
    "Get KneeKL224 (Mendeley Data, doi 10.17632/56rmx5bjcr, or the same images on Kaggle as 'Knee "
    "Osteoarthritis Dataset with Severity Grading'), unpack it, and name the folder that holds train, val "
    "and test with --data, data.path or LVLM_VA_DATA"
)


Row = dict[str, str]
Draw = Callable[[NDArray[np.uint8], str, str, np.random.Generator], Marked]
"""Draws the planted feature as `draw_marker` does, given the letter and the corner of the list."""


@dataclass(frozen=True)
class KneeImageSet(ArrayImageSet):
    """Radiographs that can be read again, with and without a tag.

    Args:
        rows: N rows of the committed list.
        folder: where the images lie.
        seed: of the tags.
        draw: what draws them.
    """

    rows: Sequence[Row] = ()
    folder: Path = Path()
    seed: int = 0
    draw: Draw = draw_marker

    def counterfactual_pairs(self) -> CounterfactualPairs:
        """Every tag taken out, and one drawn into every radiograph without, as `_with_tag` chooses it."""
        return CounterfactualPairs(added=self._changed(tagged=True), removed=self._changed(tagged=False))

    def _changed(self, *, tagged: bool) -> Changed:
        of = [n for n, row in enumerate(self.rows) if bool(row["tag"]) != tagged]
        size = self.pixels.shape[-1]

        def read(n: int) -> Tensor:
            row = self.rows[of[n]]
            row = _with_tag(row, self.seed) if tagged else row | {"tag": "", "corner": ""}
            pixels, _ = _drawn(row, self.folder, self.seed, self.draw)
            return torch.from_numpy(reduced(pixels, size)).expand(3, -1, -1)

        after = ReadWhenAsked(read, [self.ids[n] for n in of], self.labels[of], self.class_names)
        return Changed(torch.tensor(of, dtype=torch.int64), None, after)


def load_knee(
    path: Path | None = None,
    *,
    size: int = 224,
    seed: int = 0,
    draw: Draw = draw_marker,
    planted: str = "a hospital's lead marker, the letter L or R in a corner",
    log: Callable[[str], None] = lambda _: None,
) -> Splits:
    """Read the listed radiographs and draw their tags.

    Args:
        path: the folder with train/0 ... test/4, or with images/ALL.png; else `LVLM_VA_DATA` and its
            subfolder `knee`.
        size: side of the images, pixels; reduced with antialiasing after the tag is drawn.
        seed: of the tags' size, place, tilt and grain. Which image gets which tag is fixed.
        draw: what draws them, if something else than a tag shall betray the class.
        planted: what that is, in words.
        log: told where the images came from.

    Returns:
        3×size×size images (grey in all channels) with the ground truth of the tags and the groups class ×
        tag; ids are the published file names.

    Raises:
        DataError: if images are missing or damaged, with what to do.
    """
    listed = committed_list("knee")
    folder = locate("knee", path, lambda root: _find(root, listed[0]) is not None, _HOW_TO_GET)
    missing = [row["image"] for row in listed if _find(folder, row) is None]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {len(listed)} listed radiographs are missing, e.g. "
            f"{', '.join(missing[:3])}. {_HOW_TO_GET}"
        )
    log(f"Knee radiographs: from {folder}")
    parts = {
        split: _part([row for row in listed if row["split"] == split], folder, size, seed, draw)
        for split in ("train", "val", "test")
    }
    return Splits(
        name="knee radiographs",
        train=parts["train"],
        validation=parts["val"],
        tests={"knee test": parts["test"]},
        source=f"KneeKL224 from {folder.name}",
        planted=planted,
    )


def load_knee_as(settings: "DataConfig", log: Callable[[str], None]) -> Splits:
    """`load_knee` as a project file has it."""
    return load_knee(settings.path, size=settings.side, seed=settings.seed, log=log)


def _find(root: Path, row: Row) -> Path | None:
    name = f"{row['image']}.png"
    for path in (root / row["split"] / row["grade"] / name, root / "images" / name):
        if path.is_file():
            return path
    return None


def _part(rows: Sequence[Row], folder: Path, size: int, seed: int, draw: Draw) -> KneeImageSet:
    pixels = torch.empty(len(rows), 1, size, size, dtype=torch.uint8)
    spurious = torch.zeros(len(rows), size, size, dtype=torch.bool)
    for n, row in enumerate(rows):
        image, mask = _drawn(row, folder, seed, draw)
        pixels[n, 0] = torch.from_numpy(reduced(image, size))
        spurious[n] = torch.from_numpy(reduced_mask(mask, size))
    label = torch.tensor([_GRADES.index(row["grade"]) for row in rows])
    tagged = torch.tensor([bool(row["tag"]) for row in rows])
    return KneeImageSet(
        # One plane in memory that is seen three times.
        pixels.expand(-1, 3, -1, -1),
        label,
        [row["image"] for row in rows],
        CLASS_NAMES,
        spurious,
        Groups(_GROUPS, 2 * label + tagged.long()),
        rows,
        folder,
        seed,
        draw,
    )


def _drawn(row: Row, folder: Path, seed: int, draw: Draw) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """(224, 224) pixels with the tag of the row, and where it is."""
    path = _find(folder, row)
    if path is None:
        raise DataError(f"{folder}: {row['image']}.png is not there any more. {_HOW_TO_GET}")
    image = _read(path)
    if not row["tag"]:
        return image, np.zeros((_SIDE, _SIDE), np.bool_)
    # Of its own for every image: a tag does not depend on which other images are read.
    random = np.random.default_rng((seed, zlib.crc32(row["image"].encode())))
    return draw(image, row["tag"], row["corner"], random)


def _with_tag(row: Row, seed: int) -> Row:
    """A row without a tag, with one like the listed ones: the letter of its side, in a random corner."""
    random = np.random.default_rng((seed, zlib.crc32(row["image"].encode()), 1))
    return row | {"tag": row["image"][-1], "corner": CORNERS[random.integers(len(CORNERS))]}


def _read(path: Path) -> NDArray[np.uint8]:
    image = read_image(path, "L")
    if image.size != (_SIDE, _SIDE):
        raise DataError(f"{path}: {image.size[0]}×{image.size[1]} pixels; KneeKL224 has {_SIDE}×{_SIDE}")
    return np.array(image)
