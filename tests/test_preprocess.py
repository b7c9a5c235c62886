"""Preprocessing against properties, and against torch's antialiased interpolation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from torch.nn import functional as F

from lvlm_va.data.preprocess import Preprocess
from lvlm_va.errors import ConfigError

SIDES = st.integers(1, 40)
FITS = st.sampled_from(["crop", "pad", "stretch"])
CHANNELS = st.sampled_from(["grey", "rgb"])


@st.composite
def images(draw: st.DrawFn) -> np.ndarray:
    shape = (draw(SIDES), draw(SIDES), *draw(st.sampled_from([(), (3,)])))
    pixels = draw(arrays(np.uint8, shape))
    return pixels if draw(st.booleans()) else (pixels / np.float32(255)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(images(), SIDES, FITS, CHANNELS)
def test_shape_type_and_range(pixels: np.ndarray, size: int, resize: str, channels: str) -> None:
    preprocess = Preprocess(size, resize, channels)
    made = preprocess(pixels)
    assert made.dtype == np.uint8
    assert made.shape == preprocess.shape == ({"grey": 1, "rgb": 3}[channels], size, size)
    levels = pixels if pixels.dtype == np.uint8 else pixels * 255
    assert made.max() <= levels.max() + 0.51, "resampling does not overshoot"
    if resize != "pad":
        assert made.min() >= levels.min() - 0.51


@settings(max_examples=40, deadline=None)
@given(images(), SIDES, FITS, CHANNELS)
def test_what_is_prepared_already_stays(pixels: np.ndarray, size: int, resize: str, channels: str) -> None:
    preprocess = Preprocess(size, resize, channels)
    once = preprocess(pixels)
    again = once[0] if channels == "grey" else np.moveaxis(once, 0, 2)
    for other in ("crop", "pad", "stretch"):
        np.testing.assert_array_equal(Preprocess(size, other, channels)(again), once)


@pytest.mark.parametrize("shape", [(37, 23), (12, 40), (8, 8)])
@pytest.mark.parametrize("size", [16, 24])
def test_stretching_and_cropping_are_torchs(shape: tuple[int, int], size: int) -> None:
    pixels = np.random.default_rng(0).random(shape, dtype=np.float32)
    x = torch.from_numpy(pixels)[None, None]

    def torchs(part: torch.Tensor) -> np.ndarray:
        resized = F.interpolate(part, (size, size), mode="bilinear", antialias=True, align_corners=False)
        return resized[0].mul(255).round().numpy()

    assert np.abs(Preprocess(size, "stretch", "grey")(pixels) - torchs(x)).max() <= 1
    side, (height, width) = min(shape), shape
    top, left = (height - side) / 2, (width - side) / 2
    if top == int(top) and left == int(left):
        middle = x[..., int(top) : int(top) + side, int(left) : int(left) + side]
        # Beside its box Pillow sees the rest of the image, torch a border: one pixel may differ more.
        inside = np.abs(Preprocess(size, "crop", "grey")(pixels) - torchs(middle))[:, 2:-2, 2:-2]
        assert inside.max() <= 1


def test_fits() -> None:
    wide = np.zeros((10, 30), dtype=np.uint8)
    wide[:, :10], wide[:, 10:20], wide[:, 20:] = 50, 100, 200
    assert (Preprocess(10, "crop", "grey")(wide) == 100).all()
    padded = Preprocess(30, "pad", "grey")(wide)[0]
    np.testing.assert_array_equal(padded[10:20], wide)
    assert padded[:10].max() == padded[20:].max() == 0
    tall = Preprocess(30, "pad", "grey")(wide.T)[0]
    np.testing.assert_array_equal(tall, padded.T)
    stretched = Preprocess(30, "stretch", "grey")(wide)[0]
    assert stretched.min() == 50
    assert stretched[:, 15].tolist() == [100] * 30


def test_rectangles() -> None:
    """Of 60 × 90 to 20 × 40: the middle 45 rows; 20 × 30 between bars; all of it."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90), dtype=np.uint8)
    cropped, padded, stretched = (
        Preprocess((20, 40), how, "rgb")(pixels)
        for how in ("crop", "pad", "stretch")  # type: ignore[arg-type]
    )
    assert cropped.shape == padded.shape == stretched.shape == Preprocess((20, 40), "pad", "rgb").shape
    assert cropped.shape == (3, 20, 40)
    filtered = Image.Resampling.BILINEAR
    expected = np.asarray(Image.fromarray(pixels).resize((40, 20), filtered, box=(0, 7.5, 90, 52.5)))
    np.testing.assert_array_equal(cropped[0], expected)
    np.testing.assert_array_equal(padded[0, :, 5:35], Image.fromarray(pixels).resize((30, 20), filtered))
    assert padded[0, :, :5].max() == padded[0, :, 35:].max() == 0
    np.testing.assert_array_equal(stretched[0], Image.fromarray(pixels).resize((40, 20), filtered))
    tall = [Preprocess((40, 20), how, "grey")(pixels.T)[0] for how in ("crop", "pad")]  # type: ignore[arg-type]
    assert tall[1].shape == (40, 20)
    assert np.abs(tall[0].T.astype(int) - cropped[0]).max() <= 1
    for how in ("crop", "pad", "stretch"):
        again = Preprocess((20, 40), how, "grey")(cropped[0])  # type: ignore[arg-type]
        np.testing.assert_array_equal(again[0], cropped[0])


def test_deep_images_are_resized_before_they_are_rounded() -> None:
    """A gradient below one level of 8 bits: rounded first, its mean would be lost."""
    pixels = np.full((8, 8), 0.4 / 255, dtype=np.float32)
    pixels[::2] = 0.8 / 255
    assert (Preprocess(1, "stretch", "grey")(pixels) == 1).all()  # the mean is 0.6 of a level


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="did you mean 'stretch'"):
        Preprocess(8, "strech", "grey")
    with pytest.raises(ConfigError, match="at least one pixel"):
        Preprocess(0, "crop", "grey")
