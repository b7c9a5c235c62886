"""The files of a run and the values they hold: selection.csv, attribution and segments as safetensors."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lvlm_va.explain.attribution import Attribution
from lvlm_va.explain.sampling import Selection
from lvlm_va.explain.segmentation import Segmentation
from lvlm_va.io.cells import to_cell

__all__ = [
    "attribution_file",
    "read_attribution",
    "read_segmentation",
    "read_selected_classes",
    "read_selection",
    "read_tensors",
    "segmentation_file",
    "selection_file",
    "tensors_file",
]


def tensors_file(tensors: Mapping[str, Tensor], **notes: object) -> bytes:
    """Tensors and JSON-able notes as one safetensors file."""
    metadata = {key: json.dumps(value) for key, value in notes.items()}
    content = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    return safetensors.torch.save(content, metadata)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and notes of a `tensors_file`.

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
    tensors = {
        "values": attribution.values,
        "completeness_error": attribution.completeness_error,
        "targets": targets,
        "predicted": predicted.clone(),  # often the same tensor, which the format does not store twice
    }
    return tensors_file(tensors, method=attribution.method)


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
_SEGMENTATION = ("labels", "pi", "mu", "sigma", "log_likelihood", "iterations", "converged")


def segmentation_file(segmentation: Segmentation) -> bytes:
    """Labels, components, what was set aside, and how the segments were found."""
    tensors = {name: getattr(segmentation, name) for name in _SEGMENTATION}
    return tensors_file(tensors, set_aside=segmentation.set_aside, method=segmentation.method)


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
        **{name: tensors[name] for name in _SEGMENTATION},
        set_aside=reasons,
        method=notes["method"],
    )
