"""One item of somebody's torch data set as an image and a label, whatever form it has."""

import traceback
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lvlm_va.data.reading import from_pillow
from lvlm_va.errors import DataError, LvlmVaError

__all__ = ["Labels", "as_label", "as_pixels", "item"]

Labels = tuple[float, ...]
"""Several labels of an image: 1 has it, 0 has not, −1 unknown."""

_IMAGE_KEYS = ("image", "pixel_values", "img", "images", "x")
_LABEL_KEYS = ("label", "labels", "target", "y", "fine_label")


def item(data: Any, n: int, what: str) -> tuple[Any, Any]:
    """Image and label number `n`, as the data set gives them.

    Args:
        data: has `__getitem__`; gives (image, label, ...) or a mapping with both.
        n: which.
        what: names it in messages.

    Raises:
        DataError: if it raises, naming file and line of its own code, or gives something else.
    """
    try:
        found = data[n]
    except LvlmVaError:  # Interrupted, above all
        raise
    except Exception as error:
        *_, last = traceback.extract_tb(error.__traceback__)
        raise DataError(
            f"{what}: the data set raised {type(error).__name__}: {error} "
            f"({last.filename}, line {last.lineno})"
        ) from error
    if isinstance(found, Mapping):
        keys = [next((k for k in names if k in found), None) for names in (_IMAGE_KEYS, _LABEL_KEYS)]
        if None in keys:
            raise DataError(
                f"{what}: a mapping of {', '.join(map(str, found))}; image and label are looked for under "
                f"{', '.join(_IMAGE_KEYS)} and {', '.join(_LABEL_KEYS)}"
            )
        return found[keys[0]], found[keys[1]]
    if isinstance(found, tuple | list) and len(found) >= 2:
        return found[0], found[1]
    raise DataError(f"{what}: a {type(found).__name__}, not a pair of image and label")


def as_label(value: Any, what: str) -> int | str | Labels:
    """A class index or name; or of a vector of floats several labels.

    Raises:
        DataError: if it is something else.
    """
    if isinstance(value, Tensor | np.ndarray) and np.prod(value.shape) != 1:
        return _several(value, what)
    if isinstance(value, list | tuple) and len(value) > 1 and all(isinstance(v, float) for v in value):
        return _several(np.array(value), what)
    if isinstance(value, Tensor | np.ndarray | np.generic):
        value = value.item()
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and value == int(value) >= 0:
        return int(value)
    raise DataError(f"{what}: its label is {value!r}, neither a class index from 0 nor a class name")


def _several(value: Tensor | NDArray[Any], what: str) -> Labels:
    found = torch.as_tensor(value)
    if found.ndim == 1 and (found.is_floating_point() or found.dtype == torch.bool):
        labels = tuple(-1.0 if v != v else v for v in found.double().tolist())
        if set(labels) <= {0.0, 1.0, -1.0}:
            return labels
    raise DataError(
        f"{what}: its label is {tuple(value.shape)} numbers of {value.dtype}; one class is needed: give its "
        "number (argmax, where one of them is 1), or, where images may have several labels, a vector of "
        "floats: 1 has it, 0 has not, NaN unknown"
    )


def as_pixels(image: Any, what: str) -> Tensor:
    """(C, H, W) uint8 or float32, as the data set has it.

    Args:
        image: a Pillow image, an array (H, W), (H, W, C) or (C, H, W), or such a tensor.
        what: names it in messages.

    Raises:
        DataError: if it is nothing of that, or has another number of channels than 1 or 3.
    """
    if isinstance(image, Image.Image):
        image = from_pillow(image)
    if isinstance(image, np.ndarray):
        rows_first = image.ndim == 3 and (image.shape[0] not in (1, 3) or image.shape[2] in (1, 3))
        image = torch.from_numpy(np.ascontiguousarray(image))
        image = image.permute(2, 0, 1) if rows_first else image
    if not isinstance(image, Tensor):
        raise DataError(
            f"{what}: its image is a {type(image).__name__}, not a tensor, an array or a Pillow image"
        )
    found: Tensor = image[None] if image.ndim == 2 else image
    if found.ndim != 3 or found.shape[0] not in (1, 3):
        raise DataError(f"{what}: its image has the shape {tuple(found.shape)}, not (1 or 3, H, W)")
    if found.dtype == torch.uint8:
        return found.cpu()
    if not found.is_floating_point():
        raise DataError(f"{what}: its image holds {found.dtype}; give bytes, or floats in [0, 1]")
    return found.detach().to("cpu", torch.float32)
