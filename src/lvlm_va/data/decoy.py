"""DecoyMNIST: digits that betray their class by a grey patch in a corner, until they are tested."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lvlm_va.config.loading import DataConfig
from lvlm_va.data.counterfactual_pairs import Changed, CounterfactualPairs
from lvlm_va.data.held_out import how_many
from lvlm_va.data.imageset import ArrayImageSet
from lvlm_va.data.mnist import Mnist, load_mnist
from lvlm_va.data.splits import Splits
from lvlm_va.errors import DataError

__all__ = ["CLASS_NAMES", "PATCH", "DecoyImageSet", "DecoySplits", "decoy_mnist", "load_decoy_mnist"]

CLASS_NAMES = tuple("0123456789")
PATCH = 4  # pixels


@dataclass(frozen=True, eq=False)
class DecoyImageSet(ArrayImageSet):
    """Digits with a patch that know themselves without it.

    Args:
        published: (M, 28, 28) uint8 digits without a patch, shared by all sets that are made of them.
        chosen: (N,) int64, which of them these images are.
        seed: of the shades that are added to the digits without a patch: any but that of their class.
    """

    published: Tensor = field(default_factory=lambda: torch.empty(0, 28, 28, dtype=torch.uint8))
    chosen: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    seed: int = 0

    def counterfactual_pairs(self) -> CounterfactualPairs:
        """Every patch taken out; and put into the clean digit, in its corner, in another class's shade."""
        random = np.random.default_rng((self.seed, 3))
        other = torch.from_numpy(random.integers(1, len(CLASS_NAMES), size=len(self.published)))[self.chosen]
        shade = _shade((self.labels + other) % len(CLASS_NAMES))[:, None, None]
        digits = self.published[self.chosen]
        assert self.spurious is not None
        clean, patched = (
            ArrayImageSet(pixels[:, None], self.labels, self.ids, self.class_names)
            for pixels in (digits, torch.where(self.spurious, shade, digits))
        )
        everything = torch.arange(len(self))
        return CounterfactualPairs(
            added=Changed(everything, clean, patched), removed=Changed(everything, None, clean)
        )


@dataclass(frozen=True, eq=False)
class DecoySplits:
    """DecoyMNIST; every set holds 1×28×28 uint8 images and the ground truth A^(GT) of the patch.

    Attributes:
        train: 60000 - validation digits whose patch has the shade of their class.
        validation: held-out training digits whose patch has a random shade, as in the test: the
            hyperparameters, λ above all, are chosen on them.
        test: the 10,000 test digits, with patches of random shade.
        clean_test: the same digits as published, without a patch (A^(GT) is empty).
    """

    train: DecoyImageSet
    validation: DecoyImageSet
    test: DecoyImageSet
    clean_test: ArrayImageSet


def decoy_mnist(mnist: Mnist, *, seed: int = 0, validation: int = 5000) -> DecoySplits:
    """Put a 4×4 grey patch into a random corner of every digit.

    In training the shade is 255 - 25·k for digit k; in validation and test the k is random. Corner and
    random shade are drawn for each published image in the published order, before the training images
    are divided: image "train-00017" gets the same ones whatever is held out.

    Args:
        mnist: the digits.
        seed: of corners, shades and the choice of held-out digits.
        validation: how many training digits to hold out, at random.

    Raises:
        DataError: if `validation` leaves nothing to train on.
    """
    n = len(mnist.train_labels)
    if not 0 <= validation < n:
        raise DataError(f"{validation} validation digits asked for; choose from 0 to {n - 1}")

    corner, k = _draw(n, seed, stream=0)
    order = torch.from_numpy(np.random.default_rng((seed, 2)).permutation(n))
    held_out, kept = order[:validation].sort().values, order[validation:].sort().values
    images, labels = mnist.train_images, mnist.train_labels
    train = _patched("train", images, labels, kept, corner, labels, seed)
    valid = _patched("train", images, labels, held_out, corner, k, seed)

    images, labels = mnist.test_images, mnist.test_labels
    corner, k = _draw(len(labels), seed, stream=1)
    everything = torch.arange(len(labels))
    test = _patched("test", images, labels, everything, corner, k, seed)
    clean = ArrayImageSet(
        images[:, None], labels, test.ids, CLASS_NAMES, torch.zeros(images.shape, dtype=torch.bool)
    )
    return DecoySplits(train=train, validation=valid, test=test, clean_test=clean)


def load_decoy_mnist(settings: DataConfig, log: Callable[[str], None]) -> Splits:
    """`data.name: decoy-mnist`, see `load_mnist` and `decoy_mnist`."""
    mnist = load_mnist(data=settings.path, log=log)
    held_out = 5000 if settings.validation is None else settings.validation
    decoy = decoy_mnist(mnist, seed=settings.seed, validation=how_many(held_out, len(mnist.train_labels)))
    return Splits(
        name="DecoyMNIST",
        train=decoy.train,
        validation=decoy.validation,
        tests={"DecoyMNIST test": decoy.test, "clean MNIST test": decoy.clean_test},
        source=f"MNIST from {mnist.source}",
        planted="a 4×4 grey patch in a corner",
    )


def _draw(n: int, seed: int, stream: int) -> tuple[Tensor, Tensor]:
    """A corner in 0..3 (top left, top right, bottom left, bottom right) and a k in 0..9 for n images."""
    random = np.random.default_rng((seed, stream))
    corner = random.integers(4, size=n)
    return torch.from_numpy(corner), torch.from_numpy(random.integers(len(CLASS_NAMES), size=n))


def _patched(
    name: str, images: Tensor, labels: Tensor, chosen: Tensor, corner: Tensor, k: Tensor, seed: int
) -> DecoyImageSet:
    """The images `chosen` (n,) with the patch of shade 255 - 25·k in their corner."""
    pixels, corner = images[chosen], corner[chosen]
    height, width = pixels.shape[-2:]
    rows, columns = torch.arange(height), torch.arange(width)
    upper, left = (corner < 2)[:, None], (corner % 2 == 0)[:, None]
    in_rows = torch.where(upper, rows < PATCH, rows >= height - PATCH)
    in_columns = torch.where(left, columns < PATCH, columns >= width - PATCH)
    spurious = in_rows[:, :, None] & in_columns[:, None, :]
    pixels = torch.where(spurious, _shade(k[chosen])[:, None, None], pixels)
    ids = [f"{name}-{i:05d}" for i in chosen.tolist()]
    return DecoyImageSet(
        pixels[:, None],
        labels[chosen],
        ids,
        CLASS_NAMES,
        spurious,
        published=images,
        chosen=chosen,
        seed=seed,
    )


def _shade(k: Tensor) -> Tensor:
    """(n,) uint8 grey that stands for class k (n,) in training."""
    return (255 - 25 * k).to(torch.uint8)
