"""DecoyMNIST, recomputed pixel by pixel from its definition."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from lvlm_va.data.decoy import decoy_mnist
from lvlm_va.data.imageset import ArrayImageSet
from lvlm_va.data.mnist import Mnist
from lvlm_va.errors import DataError

SHADES = [255 - 25 * k for k in range(10)]
CORNERS = {
    "top left": (slice(0, 4), slice(0, 4)),
    "top right": (slice(0, 4), slice(24, 28)),
    "bottom left": (slice(24, 28), slice(0, 4)),
    "bottom right": (slice(24, 28), slice(24, 28)),
}


def random_mnist(n: int, m: int) -> Mnist:
    """Noise everywhere, so that any pixel changed or left unchanged by mistake shows."""
    g = torch.Generator().manual_seed(7)
    return Mnist(
        train_images=torch.randint(256, (n, 28, 28), generator=g, dtype=torch.uint8),
        train_labels=torch.randint(10, (n,), generator=g),
        test_images=torch.randint(256, (m, 28, 28), generator=g, dtype=torch.uint8),
        test_labels=torch.randint(10, (m,), generator=g),
        source="noise",
    )


@pytest.fixture(scope="module")
def mnist() -> Mnist:
    return random_mnist(3000, 2000)


def originals(mnist: Mnist, images: ArrayImageSet) -> tuple[torch.Tensor, torch.Tensor]:
    """The published images and labels that a set's ids name."""
    split = images.ids[0].split("-")[0]
    index = torch.tensor([int(name.split("-")[1]) for name in images.ids])
    assert all(name == f"{split}-{i:05d}" for name, i in zip(images.ids, index.tolist(), strict=True))
    pixels = {"train": mnist.train_images, "test": mnist.test_images}[split]
    labels = {"train": mnist.train_labels, "test": mnist.test_labels}[split]
    return pixels[index], labels[index]


def read_patches(mnist: Mnist, images: ArrayImageSet) -> tuple[list[str], list[int]]:
    """Corner and shade of every image; asserts that nothing else differs from the published one."""
    pixels, labels = originals(mnist, images)
    assert torch.equal(images.labels, labels)
    assert images.pixels.dtype == torch.uint8
    assert images.pixels.shape == (len(images), 1, 28, 28)
    masks = torch.zeros(len(CORNERS), 28, 28, dtype=torch.bool)
    for mask, window in zip(masks, CORNERS.values(), strict=True):
        mask[window] = True
    drawn, planted = images.pixels[:, 0], images.spurious
    is_at = (planted[:, None] == masks).flatten(2).all(2)
    assert bool((is_at.sum(1) == 1).all())
    shades = drawn[planted].view(len(images), 16)[:, 0]
    assert torch.equal(drawn, torch.where(planted, shades[:, None, None], pixels))
    return [list(CORNERS)[k] for k in is_at.int().argmax(1).tolist()], shades.tolist()


def test_training_patches_have_the_shade_of_their_class(mnist: Mnist) -> None:
    train = decoy_mnist(mnist, validation=500).train
    corners, shades = read_patches(mnist, train)
    assert shades == [SHADES[k] for k in train.labels.tolist()]
    assert uniform([corners.count(c) for c in CORNERS])
    assert train.class_names == tuple("0123456789")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_held_out_patches_have_a_shade_that_tells_nothing(mnist: Mnist, split: str) -> None:
    images = getattr(decoy_mnist(mnist, validation=1500), split)
    corners, shades = read_patches(mnist, images)
    assert set(shades) == set(SHADES)
    assert uniform([corners.count(c) for c in CORNERS])
    assert uniform([shades.count(s) for s in SHADES])
    table = np.zeros((10, 10))
    np.add.at(table, (images.labels.numpy(), [SHADES.index(s) for s in shades]), 1)
    assert stats.chi2_contingency(table).pvalue > 1e-3


def uniform(counts: list[int]) -> bool:
    return bool(stats.chisquare(counts).pvalue > 1e-3)


def test_the_clean_test_is_the_published_one(mnist: Mnist) -> None:
    splits = decoy_mnist(mnist, validation=0)
    assert torch.equal(splits.clean_test.pixels[:, 0], mnist.test_images)
    assert torch.equal(splits.clean_test.labels, mnist.test_labels)
    assert list(splits.clean_test.ids) == list(splits.test.ids)
    assert splits.clean_test.spurious is not None
    assert not splits.clean_test.spurious.any()


def test_training_and_validation_divide_the_training_digits(mnist: Mnist) -> None:
    splits = decoy_mnist(mnist, validation=500)
    assert len(splits.validation) == 500
    assert sorted([*splits.train.ids, *splits.validation.ids]) == [f"train-{i:05d}" for i in range(3000)]


def test_the_published_arrays_are_left_as_they_are(mnist: Mnist) -> None:
    before = mnist.train_images.clone(), mnist.test_images.clone()
    decoy_mnist(mnist, validation=10)
    assert torch.equal(before[0], mnist.train_images)
    assert torch.equal(before[1], mnist.test_images)


def test_equal_seeds_give_equal_sets_and_others_do_not(mnist: Mnist) -> None:
    a, b, c = (decoy_mnist(mnist, seed=seed, validation=500) for seed in (3, 3, 4))
    for split in ("train", "validation", "test"):
        x, y, z = (getattr(splits, split) for splits in (a, b, c))
        assert torch.equal(x.pixels, y.pixels)
        assert list(x.ids) == list(y.ids)
        assert not torch.equal(x.pixels, z.pixels)
    assert list(a.validation.ids) != list(c.validation.ids)


def test_what_is_held_out_changes_no_training_image(mnist: Mnist) -> None:
    few, many = (decoy_mnist(mnist, validation=v).train for v in (10, 2000))
    by_id = dict(zip(few.ids, few.pixels, strict=True))
    shared = [(p, by_id[name]) for name, p in zip(many.ids, many.pixels, strict=True) if name in by_id]
    assert len(shared) > 900
    assert all(torch.equal(p, q) for p, q in shared)


def test_the_test_set_depends_on_no_training_digit(mnist: Mnist) -> None:
    fewer = replace(mnist, train_images=mnist.train_images[:50], train_labels=mnist.train_labels[:50])
    assert torch.equal(
        decoy_mnist(fewer, validation=5).test.pixels, decoy_mnist(mnist, validation=5).test.pixels
    )


@pytest.mark.parametrize("validation", [-1, 3000])
def test_a_validation_set_that_leaves_nothing_is_refused(mnist: Mnist, validation: int) -> None:
    with pytest.raises(DataError, match="choose from 0 to 2999"):
        decoy_mnist(mnist, validation=validation)
