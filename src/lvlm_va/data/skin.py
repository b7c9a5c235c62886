"""Skin lesions with coloured bandages: ISIC, benign against malignant (Sec. 5.2).

Bandages lie beside many of ISIC's benign lesions and beside none of the malignant ones. A committed list
says which images take part, which have a bandage of their own, and which get one pasted from which donor
(training donors in training, test donors in test). 1,800 images a class in training, bandages beside half
of the benign and ten of the malignant ones; four groups of equal size in test. The part "core" (ISIC 2018
Task 1) is about a fifth of it and holds all natural bandages; "ham" (HAM10000) is the rest.

Images: ISIC 2018 Task 1 (Codella et al. 2019) and HAM10000 (Tschandl et al. 2018), CC BY-NC 4.0; masks of
the bandages: Reveal to Revise (Pahde et al. 2023).
"""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lvlm_va.data.bandages import TRANSFORMS, paste_bandage
from lvlm_va.data.counterfactual_pairs import Changed, CounterfactualPairs, ReadWhenAsked
from lvlm_va.data.imageset import ArrayImageSet, Groups
from lvlm_va.data.locate import locate
from lvlm_va.data.published import committed_list, read_image, reduced, reduced_mask
from lvlm_va.data.splits import Splits
from lvlm_va.errors import ConfigError, DataError

if TYPE_CHECKING:
    from lvlm_va.config.loading import DataConfig

__all__ = ["CLASS_NAMES", "PARTS", "SkinImageSet", "load_skin", "load_skin_as"]

CLASS_NAMES = ("benign", "malignant")
PARTS = ("core", "ham")
_GROUPS = (
    *(f"benign, {bandage}" for bandage in ("no bandage", "bandage")),
    *(f"malignant, {bandage}" for bandage in ("no bandage", "bandage")),
)
_SIDE = 224  # pixels at which bandages are pasted, whatever size is asked for
_HOW_TO_GET = (
    "Put the listed images of the ISIC archive (ISIC_0000000.jpg ...) into one folder `images`, beside it "
    "`lesion_masks` (ISIC_0000000.png or ISIC_0000000_segmentation.png, from ISIC 2018 Task 1 and HAM10000) "
    "and `patch_masks` (the bandages, from Reveal to Revise), and name their parent with --data, data.path "
    "or LVLM_VA_DATA"
)

Row = dict[str, str]


@dataclass(frozen=True)
class SkinImageSet(ArrayImageSet):
    """Skin images that know where the lesion is, and whether a bandage is natural.

    Args:
        lesions: (N, H, W) bool.
        bandage: N times "none", "natural" or "pasted".
        rows: N rows of the committed list.
        archive: where the images lie.
        pool: donors and how they are turned, of which images without a bandage can be given one.
        seed: of which one.
    """

    lesions: Tensor | None = None
    bandage: Sequence[str] = ()
    rows: Sequence[Row] = ()
    archive: "_Files | None" = None
    pool: Sequence[tuple[str, str]] = ()
    seed: int = 0

    def counterfactual_pairs(self) -> CounterfactualPairs:
        """Every pasted bandage left off, and one pasted onto every image without.

        What lies under a natural bandage nobody knows: these images are left out. A bandage that is added
        is one of those listed for other images, and covers, as they do, hardly any of the lesion.
        """
        archive = self.archive
        assert archive is not None
        size = self.pixels.shape[-1]

        def changed(rows: Mapping[int, Row]) -> Changed:
            of = list(rows)

            def read(n: int) -> Tensor:
                image, _ = _composed(rows[of[n]], archive)
                return torch.from_numpy(reduced(image, size)).permute(2, 0, 1)

            after = ReadWhenAsked(read, [self.ids[n] for n in of], self.labels[of], self.class_names)
            return Changed(torch.tensor(of, dtype=torch.int64), None, after)

        pasted = {n: row | _PLAIN for n, row in enumerate(self.rows) if row["bandage"] == "pasted"}
        return CounterfactualPairs(
            added=changed({n: row for n, row in self._given.items() if row is not None}),
            removed=changed(pasted),
            cannot_add=sum(row is None for row in self._given.values()),
            cannot_remove=sum(row["bandage"] == "natural" for row in self.rows),
        )

    @cached_property
    def _given(self) -> dict[int, Row | None]:
        """Position of an image without a bandage → its row with one; None where none fits."""
        assert self.archive is not None
        return {
            n: _bandaged(row, self.archive, self.pool, self.seed)
            for n, row in enumerate(self.rows)
            if row["bandage"] == "none"
        }

    def relevant_masks(self, indices: Tensor) -> Tensor | None:
        """(n, H, W) bool, True on the lesion: what a sound decision may rest on. For evaluation only."""
        return None if self.lesions is None else self.lesions[indices]

    def only(self, bandages: Sequence[str]) -> "SkinImageSet":
        """The images with one of these kinds of bandage."""
        chosen = torch.tensor([n for n, kind in enumerate(self.bandage) if kind in bandages])
        positions = chosen.tolist()
        return replace(
            self,
            pixels=self.pixels[chosen],
            labels=self.labels[chosen],
            ids=[self.ids[n] for n in positions],
            spurious=None if self.spurious is None else self.spurious[chosen],
            groups=None if self.groups is None else Groups(self.groups.names, self.groups.of[chosen]),
            lesions=None if self.lesions is None else self.lesions[chosen],
            bandage=tuple(self.bandage[n] for n in positions),
            rows=[self.rows[n] for n in positions],
        )


def load_skin(
    path: Path | None = None,
    *,
    parts: Sequence[str] = PARTS,
    size: int = 224,
    validation: int = 100,
    seed: int = 0,
    log: Callable[[str], None] = lambda _: None,
) -> Splits:
    """Read the listed images and paste the listed bandages.

    Args:
        path: a folder with `images`, `lesion_masks` and `patch_masks`, or with one such folder for each part
            (`core`, `ham`); else `LVLM_VA_DATA` and its subfolder `skin`.
        parts: of the list, see above.
        size: side of the images, pixels; reduced with antialiasing after the bandage is pasted.
        validation: training images per class held out at random. Their bandages follow the training
            set's bias: nothing about them is balanced.
        seed: of what is held out, and of the bandages that `SkinImageSet.counterparts` adds.
        log: told where the images came from, and what was left out.

    Returns:
        3×size×size images with the ground truth of bandage and lesion and the groups class × bandage; the
        test sets are "skin test" (all), then those of its bandages that are natural and those that are
        pasted, each with the images that have none.

    Raises:
        ConfigError: if there is no such part.
        DataError: if images are missing or damaged, with what to do.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise ConfigError(f"data.parts: unknown part {unknown[0]!r}; known are {', '.join(PARTS)}")
    listed = [row for row in committed_list("skin") if row["part"] in parts]
    root = locate("skin", path, lambda folder: _Files(folder).has(listed[0]), _HOW_TO_GET)
    archive = _Files(root)
    archive.require(listed)
    unmasked = [row for row in listed if row["bandage"] == "natural, unmasked"]
    if unmasked:
        log(f"Skin: {len(unmasked)} images are left out, since the mask of their bandage is not published")
    listed = [row for row in listed if row not in unmasked]
    log(f"Skin lesions: from {root}")
    training = [row for row in listed if row["split"] == "train"]
    held_out = _hold_out(training, validation, seed)
    kept = [row for n, row in enumerate(training) if n not in held_out]
    held = [training[n] for n in sorted(held_out)]
    test = _read_set([row for row in listed if row["split"] == "test"], archive, size, seed)
    tests = {"skin test": test}
    for kind in ("natural", "pasted"):
        if kind in test.bandage:
            tests[f"skin test, {kind} bandages"] = test.only(("none", kind))
    return Splits(
        name="skin lesions",
        train=_read_set(kept, archive, size, seed),
        validation=_read_set(held, archive, size, seed) if held else None,
        tests=tests,
        source=f"ISIC ({' and '.join(parts)}) from {root.name}",
        planted="a coloured bandage beside the lesion",
    )


def load_skin_as(settings: "DataConfig", log: Callable[[str], None]) -> Splits:
    """`load_skin` as a project file has it; `data.validation` is a number of images per class.

    Raises:
        ConfigError: if it is a share.
    """
    amount = settings.validation
    if amount is not None and 0 < amount < 1:
        raise ConfigError(f"data.validation is {amount}: of skin it is a number of images per class")
    return load_skin(
        settings.path,
        parts=settings.parts,
        size=settings.side,
        validation=100 if amount is None else int(amount),
        seed=settings.seed,
        log=log,
    )


class _Files:
    """Where the images and masks of the list lie."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def has(self, row: Row) -> bool:
        return self._find(row["part"], row["image"], "images") is not None

    def require(self, rows: Iterable[Row]) -> None:
        """Make sure that everything that will be read is there."""
        needed = {(row["part"], row["image"], kind) for row in rows for kind in ("images", "lesion_masks")}
        needed |= {("core", row["donor"], kind) for row in rows if row["donor"] for kind in _DONATED}
        needed |= {("core", row["image"], "patch_masks") for row in rows if row["bandage"] == "natural"}
        missing = sorted(f"{kind}/{name}" for part, name, kind in needed if not self._find(part, name, kind))
        if missing:
            raise DataError(
                f"{self.root}: {len(missing)} of {len(needed)} listed files are missing, e.g. "
                f"{', '.join(missing[:3])}. {_HOW_TO_GET}"
            )

    def image(self, part: str, name: str) -> NDArray[np.uint8]:
        """(224, 224, 3)."""
        return self._read(part, name, "images", "RGB", Image.Resampling.BICUBIC)

    def mask(self, part: str, name: str, kind: str) -> NDArray[np.bool_]:
        """(224, 224)."""
        mask: NDArray[np.bool_] = self._read(part, name, kind, "L", Image.Resampling.BOX) > 127
        return mask

    def _read(
        self, part: str, name: str, kind: str, mode: str, filter: Image.Resampling
    ) -> NDArray[np.uint8]:
        path = self._find(part, name, kind)
        if path is None:
            raise DataError(f"{self.root}: {kind}/{name} is not there any more. {_HOW_TO_GET}")
        image = read_image(path, mode)
        if image.size != (_SIDE, _SIDE):
            image = image.resize((_SIDE, _SIDE), filter)
        return np.array(image)

    def _find(self, part: str, name: str, kind: str) -> Path | None:
        for folder in (self.root / part / kind, self.root / kind):
            for ending in (".jpg", ".png", "_segmentation.png"):
                if (folder / f"{name}{ending}").is_file():
                    return folder / f"{name}{ending}"
        return None


_DONATED = ("images", "patch_masks")


def _hold_out(rows: Sequence[Row], per_class: int, seed: int) -> set[int]:
    """Positions of `per_class` images of each class, at random."""
    random = np.random.default_rng(seed)
    held_out: set[int] = set()
    for name in CLASS_NAMES:
        members = [n for n, row in enumerate(rows) if row["label"] == name]
        if not per_class < len(members):
            raise DataError(
                f"data.validation: {per_class} held-out images a class leave nothing of the {len(members)} "
                f"{name} ones to train on"
            )
        held_out |= set(random.permutation(members)[:per_class].tolist())
    return held_out


def _read_set(rows: Sequence[Row], archive: _Files, size: int, seed: int) -> SkinImageSet:
    pixels = torch.empty(len(rows), 3, size, size, dtype=torch.uint8)
    masks = torch.zeros(2, len(rows), size, size, dtype=torch.bool)
    for n, row in enumerate(rows):
        image, bandage = _composed(row, archive)
        lesion = archive.mask(row["part"], row["image"], "lesion_masks") & ~bandage
        pixels[n] = torch.from_numpy(reduced(image, size)).permute(2, 0, 1)
        for k, mask in enumerate((bandage, lesion)):
            masks[k, n] = torch.from_numpy(reduced_mask(mask, size))
    label = torch.tensor([CLASS_NAMES.index(row["label"]) for row in rows])
    bandaged = torch.tensor([row["bandage"] != "none" for row in rows])
    return SkinImageSet(
        pixels,
        label,
        [row["image"] for row in rows],
        CLASS_NAMES,
        masks[0],
        Groups(_GROUPS, 2 * label + bandaged.long()),
        masks[1],
        tuple(row["bandage"] for row in rows),
        rows,
        archive,
        [(row["donor"], row["transform"]) for row in rows if row["bandage"] == "pasted"],
        seed,
    )


def _composed(row: Row, archive: _Files) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """(224, 224, 3) pixels with the bandage of the row, and where it is."""
    image = archive.image(row["part"], row["image"])
    if row["bandage"] == "natural":
        return image, archive.mask("core", row["image"], "patch_masks")
    if row["bandage"] == "pasted":
        donor = archive.image("core", row["donor"])
        cut = archive.mask("core", row["donor"], "patch_masks")
        return paste_bandage(image, donor, cut, row["transform"])
    return image, np.zeros((_SIDE, _SIDE), np.bool_)


_PLAIN = {"bandage": "none", "donor": "", "transform": ""}
_COVERED = 0.1  # at most so much of the lesion lies under an added bandage; of the listed ones, 0.09


def _bandaged(row: Row, archive: _Files, pool: Sequence[tuple[str, str]], seed: int) -> Row | None:
    """A row without a bandage, with the first of a random order of `pool` that leaves the lesion visible."""
    lesion = archive.mask(row["part"], row["image"], "lesion_masks")
    # Of its own for every image: what it is given does not depend on which other images are read.
    random = np.random.default_rng((seed, zlib.crc32(row["image"].encode())))
    for n in random.permutation(len(pool)):
        donor, transform = pool[n]
        there = TRANSFORMS[transform](archive.mask("core", donor, "patch_masks"))
        if np.logical_and(lesion, there).sum() <= _COVERED * lesion.sum():
            return row | {"bandage": "pasted", "donor": donor, "transform": transform}
    return None
