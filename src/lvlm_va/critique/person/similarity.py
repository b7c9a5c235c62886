"""How unlike two segments are for a person: where they lie, how they look, what the classifier makes of them.

Each is a block of numbers, standardised over all segments and divided by the square root of its length, so
that a block counts the same however many numbers it has.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lvlm_va.critique.segment_similarity import BLOCKS

__all__ = ["FEATURES", "vectors"]

Numbers = NDArray[np.float64]

FEATURES = ("place", "appearance", "activations")
_WEIGHTS = {
    "things": 1.0,
    "place": 1.0,
    "amount": 0.5,
    "light": 1.0,
    "colour": 1.0,
    "crop": 1.0,
    "activations": 1.0,
}
_OF = {
    "place": ("place",),
    "appearance": ("things", "amount", "light", "colour", "crop"),
    "activations": ("activations",),
}
_COMPONENTS = 32  # of the activations


def vectors(measured: Numbers, activations: Numbers, features: Sequence[str] = FEATURES) -> Numbers:
    """(n, D): the Euclidean distance of two rows says how unlike two segments are.

    Args:
        measured: (n, ·), the rows of `measure_segments`.
        activations: (n, ·), what the classifier's last layer is given of each segment.
        features: which of `FEATURES` count.
    """
    if not len(measured):
        return np.zeros((0, 1))
    blocks = dict(zip(BLOCKS, np.split(measured, np.cumsum(list(BLOCKS.values()))[:-1], axis=1), strict=True))
    found = {name: _standardised(block) / block.shape[1] ** 0.5 for name, block in blocks.items()}
    found["activations"] = _principal(activations)
    names = [name for feature in features for name in _OF[feature]]
    return np.concatenate([_WEIGHTS[name] * found[name] for name in names], axis=1)


def _standardised(block: Numbers) -> Numbers:
    spread = block.std(axis=0)
    scaled: Numbers = (block - block.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    scaled[:, spread <= 1e-9] = 0.0  # a number that is the same everywhere tells nothing apart
    return scaled


def _principal(activations: Numbers) -> Numbers:
    """The first principal components, scaled so that a row is on average of length 1."""
    scaled = _standardised(activations)
    left, lengths, _ = np.linalg.svd(scaled, full_matrices=False)
    found: Numbers = left[:, :_COMPONENTS] * lengths[:_COMPONENTS]
    found /= max(float((found**2).sum(axis=1).mean()) ** 0.5, 1e-12)
    return found
