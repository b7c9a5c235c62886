"""A model as a file that others read: safetensors, a torch state_dict, ONNX."""

import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import safetensors.torch
import torch
from torch import Tensor, nn

from lvlm_va.errors import ConfigError, ModelError
from lvlm_va.models.adapter import unwrapped
from lvlm_va.models.checkpoint import tensors_of

__all__ = ["OPSET", "TOLERANCE", "difference_from_torch", "onnx_file", "safetensors_file", "state_dict_file"]

OPSET = 18
"""Of ONNX: the oldest that torch's exporter writes without converting."""
TOLERANCE = 1e-3
"""Largest difference between ONNX's and torch's logits that is accepted."""


def safetensors_file(model: nn.Module, notes: Mapping[str, str]) -> bytes:
    """Parameters and buffers, with notes in the header."""
    return safetensors.torch.save(tensors_of(model), {"format": "pt", **notes})


def state_dict_file(model: nn.Module) -> bytes:
    """Parameters and buffers as `torch.save` writes them; `torch.load(..., weights_only=True)` reads it."""
    buffer = io.BytesIO()
    torch.save(tensors_of(model), buffer)
    return buffer.getvalue()


def onnx_file(model: nn.Module, images: Tensor, notes: Mapping[str, str]) -> bytes:
    """The model as ONNX: input `images` (n, C, H, W) float32 for any n, output `logits` (n, K).

    Args:
        model: in evaluation mode, on the CPU; not changed.
        images: (≥ 2, C, H, W) float32, with which the model is traced.
        notes: for the file's metadata.

    Raises:
        ConfigError: if the extra is not installed.
        ModelError: if the model cannot be written as ONNX.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"ONNX needs {' and '.join(missing)}: pip install 'lvlm-va[onnx]'")
    import onnx

    try:
        with _silent_exporter():
            program = torch.onnx.export(
                model,
                (images[:2],),
                input_names=["images"],
                output_names=["logits"],
                opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim("n")},),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter meets any code of the user's and raises anything
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise ModelError(
            f"{type(unwrapped(model)).__name__} cannot be written as ONNX ({reason}); safetensors and "
            "state-dict can"
        ) from error
    assert program is not None
    proto = program.model_proto
    if not proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise ModelError(
            f"{type(unwrapped(model)).__name__} cannot be written as ONNX for any number of images: its "
            "forward pass fixes that number (len(x), a reshape to a constant); write x.shape[0] there"
        )
    onnx.helper.set_model_props(proto, dict(notes))
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString()
    return content


@contextmanager
def _silent_exporter() -> Iterator[None]:
    """Without what torch's exporter says about itself: its deprecations, and that there is no torchvision."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def difference_from_torch(content: bytes, model: nn.Module, images: Tensor) -> float | None:
    """Largest difference between the logits of an ONNX file and of the model it was made from.

    Absolute, or relative to the largest logit where that is above 1. Both get all images at once and the
    first by itself. None where onnxruntime is not installed.

    Args:
        content: the file.
        model: in evaluation mode, on the CPU.
        images: (n, C, H, W) float32.

    Raises:
        ModelError: if onnxruntime cannot run it.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    parts, largest = (images, images[:1]), 0.0
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        results = [session.run(["logits"], {"images": part.numpy()})[0] for part in parts]
    except Exception as error:  # onnxruntime raises classes of its own that share no base
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"onnxruntime cannot run {type(unwrapped(model)).__name__}: {reason}") from error
    for part, found in zip(parts, results, strict=True):
        with torch.inference_mode():
            expected = model(part)
        scale = max(1.0, float(expected.abs().max()))
        largest = max(largest, float((torch.from_numpy(found) - expected).abs().max()) / scale)
    return largest
