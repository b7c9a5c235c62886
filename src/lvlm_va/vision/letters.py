"""Letters in the image, read by an embedded OCR engine (its models come inside the wheel)."""

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvlm_va.io.bundled import OCR, verified_folder
from lvlm_va.vision.colours import luminance
from lvlm_va.vision.markers import find_markers

__all__ = ["Writing", "can_read", "read_letters", "why_not_read"]

_SMALLEST_SIDE = 96  # pixels below which an image is too coarse for letters beside its subject
_SURE = 0.8  # confidence below which a reading is noise
_KEPT = 4096  # images whose letters are kept


@dataclass(frozen=True, eq=False)
class Writing:
    """Letters, and the pixels that form them: (H, W) bool. A marker may be illegible: its letters are ""."""

    letters: str
    mask: NDArray[np.bool_]


_READ: dict[bytes, tuple[Writing, ...]] = {}
"""Hash of an image → what is written in it: finding out takes a fifth of a second."""


def can_read() -> bool:
    """Whether the OCR engine is installed."""
    return importlib.util.find_spec("rapidocr") is not None


def why_not_read(image: NDArray[np.uint8]) -> str:
    """One sentence on why letters cannot be read in an (H, W, 3) image; "" where they can."""
    if min(image.shape[:2]) < _SMALLEST_SIDE:
        return "The picture is too small to look for letters in it."
    if not can_read():
        return "Letters were not looked for: rapidocr is not installed."
    return ""


def read_letters(image: NDArray[np.uint8]) -> tuple[Writing, ...]:
    """What is written in an (H, W, 3) image; nothing where it is too coarse or no engine is there.

    Raises:
        ModelError: if the engine's models are not those of its wheel.
    """
    if why_not_read(image):
        return ()
    # Whoever measures, and whoever cuts the masks afterwards, asks about the same images.
    key = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()
    if key not in _READ:
        if len(_READ) >= _KEPT:
            _READ.clear()
        _READ[key] = _read(image)
    return _READ[key]


def _read(image: NDArray[np.uint8]) -> tuple[Writing, ...]:
    lines = _read_lines(image)
    found = [Writing(letters, mask) for letters, mask in find_markers(image, _read_line)]
    for corners, letters, confidence in lines:
        if confidence < _SURE or not any(c.isalnum() for c in letters):
            continue
        (left, top), (right, bottom) = np.min(corners, axis=0), np.max(corners, axis=0)
        mask = np.zeros(image.shape[:2], dtype=np.bool_)
        mask[max(int(top), 0) : int(np.ceil(bottom)) + 1, max(int(left), 0) : int(np.ceil(right)) + 1] = True
        if not any((marker.mask & mask).any() for marker in found):
            found.append(Writing(letters.strip(), _ink(image, mask)))
    return tuple(found)


def _read_lines(image: NDArray[np.uint8]) -> list[tuple[NDArray[np.float32], str, float]]:
    """Corners (4, 2) as x and y, letters and confidence of every line that is found."""
    engine = _engine()
    from rapidocr.utils.process_img import map_boxes_to_original

    # The steps of `engine(...)`, which takes empty lines out of the letters but not out of their confidences.
    engine.update_params(use_det=True, use_cls=True, use_rec=True)
    resized, resizing = engine.preprocess_img(np.ascontiguousarray(image[..., ::-1]))
    detected, _, read, _ = engine.run_ocr_steps(resized, resizing)
    if detected.boxes is None or read.txts is None:
        return []
    corners = map_boxes_to_original(detected.boxes, resizing, *image.shape[:2])
    return list(zip(corners, read.txts, map(float, read.scores), strict=True))


def _read_line(line: NDArray[np.uint8]) -> tuple[str, float]:
    """The letters in an image of one line, and the engine's confidence."""
    read = _engine()(np.ascontiguousarray(line[..., ::-1]), use_det=False, use_cls=False, use_rec=True)
    return (str(read.txts[0]).strip(), float(read.scores[0])) if read.txts else ("", 0.0)


def _ink(image: NDArray[np.uint8], box: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of a box (bool, not empty) that differ from its median by half as much as any does."""
    light = luminance(image)
    difference = np.abs(light - np.median(light[box]))
    ink: NDArray[np.bool_] = box & (difference >= 0.5 * difference[box].max())
    return ink


@cache
def _engine() -> Any:
    models = verified_folder("rapidocr", "models", OCR, "rapidocr==3.4.2")
    assert models is not None, "asked for only where `can_read`"
    with _without_requests():
        from rapidocr import RapidOCR

    # What is not given would be fetched into the installed package: models, and a font to draw results with.
    return RapidOCR(
        params={
            "Global.log_level": "error",
            "Global.font_path": "",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Det.model_path": str(models / "ch_PP-OCRv4_det_infer.onnx"),
            "Cls.model_path": str(models / "ch_ppocr_mobile_v2.0_cls_infer.onnx"),
            "Rec.model_path": str(models / "ch_PP-OCRv4_rec_infer.onnx"),
        }
    )


@contextmanager
def _without_requests() -> Iterator[None]:
    """Hide requests from the engine: importing it opens a socket, and nothing is to be fetched, ever."""
    kept = sys.modules.get("requests")
    hollow = ModuleType("requests")
    hollow.Response = object  # type: ignore[attr-defined]  # named in an annotation
    sys.modules["requests"] = hollow
    try:
        yield
    finally:
        del sys.modules["requests"]
        if kept is not None:
            sys.modules["requests"] = kept
