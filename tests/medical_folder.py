"""Small stand-ins for the published folders of knee and skin: drawn images under the listed names."""

import csv
import io
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image


def listed(name: str) -> list[dict[str, str]]:
    with (files("lvlm_va.data") / "lists" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def radiograph(random: np.random.Generator) -> np.ndarray:
    """(224, 224) uint8: a bright column with a dark gap across it, grey around, and grain."""
    v, u = np.mgrid[:224, :224]
    column = 90 * np.exp(-(((u - 112) / 70.0) ** 4))
    gap = -50 * np.exp(-(((v - random.integers(100, 130)) / 6.0) ** 2)) * (abs(u - 112) < 75)
    return (60 + column + gap + 4 * random.standard_normal((224, 224))).clip(0, 255).astype(np.uint8)


def knee_folder(root: Path) -> Path:
    """All listed radiographs in the published layout train/0 ... test/3."""
    random = np.random.default_rng(0)
    few = [radiograph(random) for _ in range(4)]
    for n, row in enumerate(listed("knee")):
        folder = root / row["split"] / row["grade"]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(few[n % 4]).save(folder / f"{row['image']}.png", compress_level=0)
    return root


def skin_folder(root: Path) -> Path:
    """The part "core" under its listed names: skin with a dark spot, and with a disc where a bandage is."""
    v, u = np.mgrid[:56, :56]
    lesion = (u - 28) ** 2 + (v - 28) ** 2 < 100
    disc = (u - 4) ** 2 + (v - 28) ** 2 < 120
    plain = np.empty((56, 56, 3), np.uint8)
    plain[:] = 220, 180, 160
    plain[lesion] = 90, 60, 50
    bandaged = plain.copy()
    bandaged[disc] = 240, 120, 20
    # Without chroma subsampling, so that colours stay where they are.
    encoded = {}
    for name, image in (("plain", plain), ("bandaged", bandaged)):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=95, subsampling=0)
        encoded[name] = file.getvalue()
    for name, mask in (("lesion", lesion), ("disc", disc)):
        file = io.BytesIO()
        Image.fromarray(mask).save(file, "PNG")
        encoded[name] = file.getvalue()
    for kind in ("images", "lesion_masks", "patch_masks"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    core = [row for row in listed("skin") if row["part"] == "core"]
    donors = {row["donor"] for row in listed("skin") if row["donor"]}
    for row in core:
        name = row["image"]
        has = row["bandage"].startswith("natural")
        (root / "images" / f"{name}.jpg").write_bytes(encoded["bandaged" if has else "plain"])
        (root / "lesion_masks" / f"{name}_segmentation.png").write_bytes(encoded["lesion"])
        if has and row["bandage"] == "natural":
            (root / "patch_masks" / f"{name}.png").write_bytes(encoded["disc"])
    assert donors <= {row["image"] for row in core}
    return root
