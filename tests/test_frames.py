"""Files that hold several images, and very large ones decoded smaller."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

import lvlm_va
from lvlm_va.data import frames
from lvlm_va.data.preprocess import Preprocess
from lvlm_va.data.reading import read_image
from lvlm_va.errors import DataError
from parts import class_folders
from test_reading import DEEP, RGB, dicom

STACK = np.stack([DEEP, DEEP // 2, DEEP // 3])


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVLM_VA_CACHE", str(tmp_path_factory.mktemp("cache")))


def gif(path: Path) -> Path:
    first, *others = [Image.fromarray(RGB), Image.fromarray(255 - RGB), Image.fromarray(RGB // 3)]
    first.save(path, save_all=True, append_images=others)
    return path


def tiff(path: Path) -> Path:
    tifffile.imwrite(path, STACK, photometric="minisblack")
    return path


@pytest.mark.parametrize(
    "make", [lambda d: gif(d / "a.gif"), lambda d: tiff(d / "a.tif"), lambda d: dicom(d / "a.dcm", STACK)]
)
def test_which_of_several_images(tmp_path: Path, make: Any) -> None:
    path = make(tmp_path)
    with pytest.raises(DataError, match=r"holds 3 images; say which with data\.frame"):
        read_image(path)
    with pytest.raises(DataError, match=r"holds 3 images, none with the number data\.frame = 3"):
        read_image(path, frame=3)
    read = [read_image(path, frame=n) for n in range(3)]
    if path.suffix == ".tif":
        np.testing.assert_allclose(read, STACK / 65535, atol=1e-6)
    elif path.suffix == ".dcm":
        assert {a.shape for a in read} == {STACK.shape[1:]}
    else:
        assert read[1].mean() > read[2].mean()


def test_frames_of_dicom_are_shown_by_their_own_groups(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset

    def group(centre: float) -> Dataset:
        window, item = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth, window.VOILUTFunction = centre, 1000, "LINEAR_EXACT"
        item.FrameVOILUTSequence = [window]
        return item

    centres = (1000, 2000, 3000)
    groups = [group(centre) for centre in centres]
    path = dicom(tmp_path / "a.dcm", STACK, PerFrameFunctionalGroupsSequence=groups)
    for n, centre in enumerate(centres):
        expected = np.clip((STACK[n] - float(centre)) / 1000 + 0.5, 0, 1)
        np.testing.assert_allclose(read_image(path, frame=n), expected, atol=1e-6)


def test_a_set_of_which_some_files_hold_several(tmp_path: Path) -> None:
    class_folders(tmp_path, 3)
    gif(tmp_path / "bolt" / "more.gif")
    assert "data.frame" in lvlm_va.read_folder(tmp_path, size=16, test=0).set_aside["bolt/more.gif"]
    assert not lvlm_va.read_folder(tmp_path, size=16, test=0, frame=0).set_aside


def pyramid(path: Path, *, reduced: int = 1, tags: Any = None) -> np.ndarray:
    """A TIFF with two smaller copies of its image, as Aperio and GDAL write them."""
    whole = np.asarray(Image.fromarray(RGB).resize((160, 96), Image.Resampling.BILINEAR))
    with tifffile.TiffWriter(path) as file:
        file.write(whole, photometric="rgb", metadata=None)
        for n in (2, 4):
            copy = np.asarray(Image.fromarray(whole).reduce(n))
            file.write(copy, photometric="rgb", metadata=None, subfiletype=reduced)
    return whole


def test_smaller_copies_in_a_tiff_file_are_not_counted(tmp_path: Path) -> None:
    whole = pyramid(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), whole)
    pyramid(tmp_path / "b.tif", reduced=0)
    with pytest.raises(DataError, match="holds 3 images"):
        read_image(tmp_path / "b.tif")


@pytest.mark.parametrize(
    ("name", "side", "shape"),
    [
        ("a.tif", 12, (24, 40)),  # the quarter is just large enough
        ("a.tif", 13, (48, 80)),
        ("a.tif", 47, (96, 160)),
        ("a.jpg", 6, (12, 20)),
        ("a.jpg", 20, (48, 80)),
        ("a.jpg", 40, (96, 160)),
        ("a.jp2", 6, (12, 20)),
        ("a.jp2", 20, (48, 80)),
        ("a.jp2", 40, (96, 160)),
        ("a.png", 6, (96, 160)),
    ],
)
def test_large_images_are_decoded_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, side: int, shape: tuple[int, int]
) -> None:
    """What is resized to `side` afterwards shows the same."""
    path = tmp_path / name
    whole = pyramid(tmp_path / "a.tif")
    if path.suffix != ".tif":
        Image.fromarray(whole).save(path)
    assert read_image(path, side=side).shape[:2] == (96, 160)  # not large
    monkeypatch.setattr(frames, "LARGE", 1000)
    read = read_image(path, side=side)
    assert read.shape[:2] == shape
    assert read_image(path).shape[:2] == (96, 160)
    to_square = Preprocess(side, "crop", "rgb")
    difference = np.abs(to_square(read).astype(int) - to_square(read_image(path)))
    assert (
        difference.mean() < 8
    )  # JPEG 2000 shrinks by wavelets, which differ at the borders of so few pixels


def test_jpeg_2000_that_holds_fewer_sizes_is_decoded_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pyramid(tmp_path / "a.tif")
    Image.fromarray(whole).save(tmp_path / "a.jp2", num_resolutions=2)
    monkeypatch.setattr(frames, "LARGE", 1000)
    assert read_image(tmp_path / "a.jp2", side=6).shape == whole.shape


def test_a_set_keeps_its_masks_beside_large_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask is compared with its image in the size they have in their files."""
    rows = ["file,label,mask"]
    for n, label in enumerate("ABAB"):
        Image.fromarray(np.roll(pyramid(tmp_path / "made.tif"), n, axis=0)).save(tmp_path / f"{n}.jpg")
        Image.new("L", (160, 96), 255).save(tmp_path / f"{n}-mask.png")
        rows.append(f"{n}.jpg,{label},{n}-mask.png")
    (tmp_path / "m.csv").write_text("\n".join(rows))
    monkeypatch.setattr(frames, "LARGE", 1000)
    assert not lvlm_va.read_manifest(tmp_path / "m.csv", size=6, test=0, validation=0).set_aside


def test_large_images_become_rectangles_whatever_they_are_read_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    whole = pyramid(tmp_path / "made.tif")
    rows = []
    for n, label in enumerate("ABAB"):
        (tmp_path / "images" / label).mkdir(parents=True, exist_ok=True)
        path = tmp_path / "images" / label / f"{n}.jpg"
        Image.fromarray(np.roll(whole, n, axis=0)).save(path)
        rows.append((str(path.relative_to(tmp_path)), label))
    (tmp_path / "m.csv").write_text("\n".join(map(",".join, [("file", "label"), *rows])))
    data = datasets.Dataset.from_dict(
        {
            "image": [{"bytes": (tmp_path / file).read_bytes(), "path": None} for file, _ in rows],
            "label": [label for _, label in rows],
        }
    ).cast_column("image", datasets.Image(decode=False))
    monkeypatch.setattr(frames, "LARGE", 1000)
    how: dict[str, Any] = {"size": (12, 24), "test": 0, "validation": 0}
    for read in (
        lvlm_va.read_folder(tmp_path / "images", **how),
        lvlm_va.read_manifest(tmp_path / "m.csv", **how),
        lvlm_va.from_huggingface(data, **how),
    ):
        assert (len(read.train), read.in_shape) == (4, (3, 12, 24)), read.set_aside
