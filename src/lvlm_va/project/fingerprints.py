"""Fingerprints of what a stage depends on: tensors, image sets, weights."""

import hashlib
import json

import torch
from torch import Tensor, nn

from lvlm_va.data.imageset import ImageSet, content_of
from lvlm_va.models.adapter import Adapted, unwrapped

__all__ = ["set_fingerprint", "tensor_fingerprint", "weights_fingerprint"]

_IDS = 10_000  # written at a time


def tensor_fingerprint(tensor: Tensor) -> str:
    """24 hexadecimal digits that change with any element."""
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().data).hexdigest()[:24]


def set_fingerprint(images: ImageSet) -> str:
    """24 hexadecimal digits of ids, labels, class names and up to 64 images with their ground truth.

    What another data set or another preparation of it would change, without reading every image.
    """
    sample = torch.linspace(0, len(images) - 1, min(64, len(images))).long()
    truth = images.spurious_masks(sample)
    content = content_of(images)
    # To the byte what `fingerprint` of all of it would be, without the ids of a million images in one text.
    digest = hashlib.sha256(b"[")
    if content is not None:
        digest.update(f"{json.dumps(content)}, ".encode())
    digest.update(b"[")
    for first in range(0, len(images.ids), _IDS):
        written = json.dumps(list(images.ids[first : first + _IDS]))
        digest.update((", " if first else "").encode() + written[1:-1].encode())
    rest = [
        list(images.class_names),
        tensor_fingerprint(images.labels),
        tensor_fingerprint(images.images(sample)),
        None if truth is None else tensor_fingerprint(truth),
    ]
    digest.update(f"], {json.dumps(rest)[1:]}".encode())
    return digest.hexdigest()[:24]


def weights_fingerprint(model: nn.Module) -> str:
    """24 hexadecimal digits that change with any weight, its name, the normalisation or the head."""
    digest = hashlib.sha256()
    for name, tensor in unwrapped(model).state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    if isinstance(model, Adapted) and model.normalisation is not None:
        digest.update(json.dumps(model.normalisation).encode())
    if isinstance(model, Adapted) and not model.head.plain:
        digest.update(repr(model.head).encode())
    return digest.hexdigest()[:24]
