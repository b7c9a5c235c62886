"""Hand a run's model over: a file that others read, and a card that tells what was done to it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from lvlm_va._version import __version__
from lvlm_va.errors import ConfigError, ModelError
from lvlm_va.io.files import write_atomically
from lvlm_va.io.hints import did_you_mean
from lvlm_va.models.adapter import Adapted, in_full_precision, unwrapped
from lvlm_va.models.checkpoint import check_outputs, load_checkpoint
from lvlm_va.models.copying import copied
from lvlm_va.models.factory import MODELS
from lvlm_va.models.formats import (
    TOLERANCE,
    difference_from_torch,
    onnx_file,
    safetensors_file,
    state_dict_file,
)
from lvlm_va.project.inputs import adapt, load_model
from lvlm_va.report.model_card import Handed, model_card
from lvlm_va.report.record import read_images, read_metrics
from lvlm_va.run.directory import RunDirectory, disk_error
from lvlm_va.run.files import ALIGNED_WEIGHTS, ORIGINAL_WEIGHTS
from lvlm_va.run.metrics import RunMetrics

__all__ = ["FORMATS", "ExportedModel", "export"]

Format = Literal["safetensors", "state-dict", "onnx"]
Which = Literal["aligned", "original"]

FORMATS: Mapping[Format, str] = {
    "safetensors": "model.safetensors",
    "state-dict": "model.pt",
    "onnx": "model.onnx",
}
"""Format → name of the file."""
CARD = "MODEL_CARD.md"
_WEIGHTS: Mapping[Which, str] = {"aligned": ALIGNED_WEIGHTS, "original": ORIGINAL_WEIGHTS}
_COMPARED = 8  # images on which ONNX is compared with torch


@dataclass(frozen=True)
class ExportedModel:
    """What was written.

    Attributes:
        path: the model.
        card: its model card.
        difference: largest difference between the logits of ONNX and torch, see `difference_from_torch`;
            None for other formats, or where onnxruntime is not installed.
    """

    path: Path
    card: Path
    difference: float | None


def export(
    run: str | Path,
    *,
    format: Format = "safetensors",
    which: Which = "aligned",
    out: str | Path | None = None,
    model: nn.Module | None = None,
) -> ExportedModel:
    """Write a finished run's model, and MODEL_CARD.md beside it.

    Args:
        run: the run's directory.
        format: "safetensors", "state-dict" (for `torch.load(..., weights_only=True)`) or "onnx".
        which: "aligned", or "original" for the model before alignment.
        out: the folder; a file that is there already is not overwritten. export/<which>-<format> in the run
            when not given, and there it is.
        model: the module that was aligned, with any weights; needed for runs made from Python, where no
            project file names it. It is not changed.

    Raises:
        ConfigError: if format, which, out or model cannot be used, or an extra is not installed.
        ModelError: if the weights do not fit, or ONNX would not compute what the model does.
        RunError: if the run is not finished, or its verdicts were edited since.
    """
    for name, known in ((format, FORMATS), (which, _WEIGHTS)):
        if name not in known:
            raise ConfigError(f"unknown choice {name!r}; {did_you_mean(name, known)}")
    with RunDirectory.open(Path(run)) as directory:
        metrics = read_metrics(directory)
        folder = directory.file(f"export/{which}-{format}") if out is None else Path(out)
        path, card = folder / FORMATS[format], folder / CARD
        if out is not None:
            _check_free(path, card, directory.path)
        images = _images(directory, metrics)
        module = _load(directory, metrics, directory.file(_WEIGHTS[which]), model)
        check_outputs(module, images, len(metrics.data.classes))
        notes = _notes(metrics, which, None if format == "onnx" else module)
        content, difference = _content(format, module, images, notes)
        handed = Handed(
            which=which,
            format=format,
            file=path.name,
            model=module,
            bare=module.normalisation is None
            and module.head.plain
            and _returns_logits(unwrapped(module), images),
            built_by=None if model is not None else directory.settings.model.name,
            difference=difference,
        )
        text = model_card(directory, metrics, handed)
        _write(path, content)
        _write(card, text.encode())
    return ExportedModel(path, card, difference)


def _check_free(path: Path, card: Path, run: Path) -> None:
    if path.parent.resolve() == run.resolve():
        raise ConfigError(f"{run} is the run itself and keeps its own model there; choose another folder")
    for file in (path, card):
        if file.exists():
            raise ConfigError(f"{file} is there already; remove it, or choose another folder")


def _load(run: RunDirectory, metrics: RunMetrics, weights: Path, model: nn.Module | None) -> Adapted:
    """The model with the run's weights, in evaluation mode, on the CPU."""
    classes = metrics.data.classes
    name = run.settings.model.name
    if model is None and name not in MODELS and ":" not in name:
        raise ConfigError(
            f"{run.path}: this run was made from Python with a {name}, which no project file names; "
            f"export it from Python: lvlm_va.export({str(run.path)!r}, model=...)"
        )
    # Its own weights come from the run, not from the files it once began with.
    settings = run.settings.model.model_copy(update={"weights": None, "pretrained": None})
    if model is None:
        module, _ = load_model(settings, metrics.data.input, classes, several=metrics.data.several_labels)
    else:
        mine = in_full_precision(copied(unwrapped(model)))
        module = adapt(mine, settings, metrics.data.input, classes, several=metrics.data.several_labels)
    run.check_sealed(weights.name)
    load_checkpoint(module, weights)
    return module.cpu().eval()


def _returns_logits(module: nn.Module, images: Tensor) -> bool:
    """Whether the user's own module returns its logits alone."""
    with torch.inference_mode():
        return isinstance(module(images), Tensor)


def _images(run: RunDirectory, metrics: RunMetrics) -> Tensor:
    """A few critiqued images as the model is given them: (≥ 2, C, H, W) float32 in [0, 1]."""
    channels = metrics.data.input[0]
    seen = [explained.image for explained in read_images(run).explained_images.values()][:_COMPARED]
    images = torch.stack([torch.from_numpy(image) for image in seen]).permute(0, 3, 1, 2).float() / 255
    images = images[:, :channels].contiguous()
    return images if len(images) > 1 else images.repeat(2, 1, 1, 1)


def _content(
    format: Format, model: nn.Module, images: Tensor, notes: Mapping[str, str]
) -> tuple[bytes, float | None]:
    if format == "safetensors":
        return safetensors_file(model, notes), None
    if format == "state-dict":
        return state_dict_file(model), None
    content = onnx_file(model, images, notes)
    difference = difference_from_torch(content, model, images)
    if difference is not None and not difference <= TOLERANCE:
        raise ModelError(
            f"as ONNX, {type(unwrapped(model)).__name__} gives logits that differ by {difference:.1e} from "
            f"torch's, more than {TOLERANCE:g}: nothing was written; take safetensors or state-dict"
        )
    return content, difference


def _notes(metrics: RunMetrics, which: str, module: Adapted | None) -> dict[str, str]:
    """What a program that meets the file alone must know; of the user's module, where it holds that."""
    channels, height, width = metrics.data.input
    colour, classes = "grey" if channels == 1 else "RGB", metrics.data.classes
    then, outputs = "", f"logits: (n, {len(classes)})"
    if module is not None and module.normalisation is not None:
        then = f", then (x − mean) / std per channel: {json.dumps(module.normalisation)}"
    if module is not None and not module.head.plain:
        outputs = module.head.words(classes)
    return {
        "lvlm_va": __version__,
        "which": which,
        "classes": json.dumps(classes, ensure_ascii=False),
        "input": f"images: (n, {channels}, {height}, {width}) float32 in [0, 1], {colour}{then}",
        "output": outputs,
    }


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise disk_error(path, error) from None
