"""The files of a run and the values they hold: selection.csv, attribution and segments as safetensors."""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lvlm_va.explain.attribution import Attribution
from lvlm_va.explain.sampling import Selection
from lvlm_va.explain.segmentation import Segmentation
from lvlm_va.io.cells import to_cell

__all__ = [
    "SEGMENTATION",
    "InParts",
    "attribution_file",
    "attribution_pieces",
    "read_attribution",
    "read_segmentation",
    "read_selected_classes",
    "read_selection",
    "read_tensors",
    "segmentation_file",
    "segmentation_pieces",
    "selection_file",
    "tensors_file",
    "tensors_pieces",
]


@dataclass(frozen=True)
class InParts:
    """A tensor that is made part after part while it is written; never held as a whole.

    Attributes:
        shape: of all of it.
        dtype: of all of it.
        parts: along the first dimension, in order.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    parts: Iterable[Tensor]


def tensors_file(tensors: Mapping[str, Tensor | InParts], **notes: object) -> bytes:
    """Tensors and JSON-able notes as one safetensors file."""
    return b"".join(tensors_pieces(tensors, **notes))


def tensors_pieces(tensors: Mapping[str, Tensor | InParts], **notes: object) -> Iterator[bytes | memoryview]:
    """The same, piece after piece: to the byte what the safetensors library writes, without copies of it.

    Raises:
        ValueError: if the parts of an `InParts` do not make its shape.
    """
    ordered = sorted(tensors.items(), key=lambda item: (_ORDER.index(item[1].dtype), item[0]))
    header: dict[str, Any] = {"__metadata__": {key: json.dumps(value) for key, value in notes.items()}}
    end = 0
    for name, tensor in ordered:
        begin, end = end, end + math.prod(tensor.shape) * tensor.dtype.itemsize
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name, tensor in ordered:
        written = 0
        for part in tensor.parts if isinstance(tensor, InParts) else (tensor,):
            if part.dtype != tensor.dtype or part.shape[1:] != tensor.shape[1:]:
                raise ValueError(f"{name}: a part of {part.dtype} {tuple(part.shape)}")
            plain = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            yield plain.numpy().data
            written += part.numel()
        if written != math.prod(tensor.shape):
            raise ValueError(f"{name}: {written} numbers of {math.prod(tensor.shape)}")


_DTYPES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The library's names, in its order within a file: wide numbers first, which keeps all of them aligned."""
_ORDER = list(_DTYPES)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and notes of a `tensors_file`; mapped, so that the system reads what is looked at.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 -- not a mapping
            notes = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
    except SafetensorError as error:
        raise ValueError(f"{path}: {error}") from None
    return tensors, notes


def selection_file(selection: Selection, ids: Sequence[str]) -> bytes:
    """One row per chosen image, in the order of choice; `ids` are of the whole set."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["image_id", "index", "label", "entropy", "strategy"])
    chosen = (selection.indices.tolist(), selection.classes.tolist(), selection.entropy.tolist())
    for index, label, entropy in zip(*chosen, strict=True):
        writer.writerow([to_cell(ids[index]), index, label, repr(entropy), selection.strategy])
    return text.getvalue().encode()


def read_selected_classes(path: Path) -> Tensor:
    """(n,) int64 classes of a `selection_file`; of several labels those that are explained.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError, KeyError: if it is damaged.
    """
    with path.open(newline="", encoding="utf-8") as file:
        return torch.tensor([int(row["label"] or "") for row in csv.DictReader(file)], dtype=torch.int64)


def read_selection(path: Path) -> tuple[Tensor, Tensor]:
    """(n,) int64 indices and (n,) float64 entropies of a `selection_file`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError, KeyError: if it is damaged.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    indices = torch.tensor([int(row["index"] or "") for row in rows], dtype=torch.int64)
    return indices, torch.tensor([float(row["entropy"] or "") for row in rows], dtype=torch.float64)


def attribution_file(attribution: Attribution, targets: Tensor, predicted: Tensor) -> bytes:
    """Φ, its completeness errors, the classes (n,) that it explains, and those (n,) predicted."""
    return b"".join(attribution_pieces(attribution, targets, predicted))


def attribution_pieces(
    attribution: Attribution, targets: Tensor, predicted: Tensor
) -> Iterator[bytes | memoryview]:
    """The same, piece after piece."""
    tensors = {
        "values": attribution.values,
        "completeness_error": attribution.completeness_error,
        "targets": targets,
        "predicted": predicted.clone(),  # often the same tensor, which the format does not store twice
    }
    return tensors_pieces(tensors, method=attribution.method)


def read_attribution(path: Path) -> tuple[Attribution, Tensor, Tensor]:
    """What an `attribution_file` holds.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError, KeyError: if it is damaged.
    """
    tensors, notes = read_tensors(path)
    n = len(tensors["values"])
    if tensors["values"].ndim != 3 or any(tensors[name].shape != (n,) for name in _OF_IMAGES):
        raise ValueError(f"{path}: its tensors do not belong together")
    attribution = Attribution(tensors["values"], tensors["completeness_error"], notes["method"])
    return attribution, tensors["targets"], tensors["predicted"]


_OF_IMAGES = ("completeness_error", "targets", "predicted")
SEGMENTATION = ("labels", "pi", "mu", "sigma", "log_likelihood", "iterations", "converged")
"""The tensors of a `Segmentation`."""


def segmentation_file(segmentation: Segmentation) -> bytes:
    """Labels, components, what was set aside, and how the segments were found."""
    return b"".join(segmentation_pieces(segmentation))


def segmentation_pieces(segmentation: Segmentation) -> Iterator[bytes | memoryview]:
    """The same, piece after piece."""
    tensors = {name: getattr(segmentation, name) for name in SEGMENTATION}
    return tensors_pieces(tensors, set_aside=segmentation.set_aside, method=segmentation.method)


def read_segmentation(path: Path) -> Segmentation:
    """What a `segmentation_file` holds.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError, KeyError: if it is damaged.
    """
    tensors, notes = read_tensors(path)
    labels, pi = tensors["labels"], tensors["pi"]
    if labels.ndim != 3 or pi.ndim != 2 or len(labels) != len(pi):
        raise ValueError(f"{path}: its tensors do not belong together")
    reasons = {int(index): reason for index, reason in notes["set_aside"].items()}
    return Segmentation(
        **{name: tensors[name] for name in SEGMENTATION},
        set_aside=reasons,
        method=notes["method"],
    )
