"""Attribute a class's logit to pixels, and check that the attributions add up."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lvlm_va.errors import AttributionError, ConfigError, DataError
from lvlm_va.explain.attribution.completeness import (
    Explained,
    completeness_error,
    require_complete,
    require_finite,
)
from lvlm_va.explain.attribution.frozen import device_and_dtype, frozen
from lvlm_va.explain.attribution.methods import Method, Parts, find_method
from lvlm_va.explain.attribution.protocol import AttributionMethod
from lvlm_va.models.adapter import adapted, in_full_precision
from lvlm_va.models.compute import full_float32
from lvlm_va.models.copying import copied
from lvlm_va.models.memory import free, is_out_of_memory, reason

__all__ = ["Attribution", "Explainer", "attribute"]

GPU_ROUNDING = 10
"""How much more is allowed on a GPU, whose fast convolutions round more: of a ResNet-50 at 224² an image
missed by 1.2e-4 on an H200 without TensorFloat-32. A wrong rule misses by far more than 1e-3."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """Φ for N images.

    Attributes:
        values: (N, H, W) float32 (float64 for a float64 model), signed Φ in logits, channels summed.
        completeness_error: (N,) float64 ≥ 0, |ΣΦ − (f(x) − E f(b))| / max(|f(x) − E f(b)|, a tenth of
            the image's largest |logit|); NaN for somebody else's method that does not claim to be complete.
        method: its name, one of `METHODS` or somebody else's.
    """

    values: Tensor
    completeness_error: Tensor
    method: str


def attribute(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    baselines: Tensor,
    *,
    method: str | AttributionMethod | Method = "deeplift-shap",
    tolerance: float | None = None,
    batch_size: int = 6,
    baseline_chunk: int = 10,
    steps: int = 64,
    progress: Callable[[int, int], None] | None = None,
    note: Callable[[str], None] = lambda _: None,
    seed: int = 0,
) -> Attribution:
    """Attribute the target class's logit of each image to its pixels.

    The model is held in evaluation mode meanwhile and is left as it was found; it decides the device and
    the precision, but for half precision: then a float32 copy is explained. Memory grows with
    `batch_size + baseline_chunk`, time per image with 1 + 1 / batch_size + 1 / baseline_chunk. Where memory
    runs out, both are halved from there on.

    Args:
        model: any module from (R, C, H, W) to (R, K) logits, which treats the rows of a batch alike; see
            `lvlm_va.models.adapter.Adapted` for what else it may return.
        images: (N, C, H, W) float32, as the model expects them.
        targets: (N,) int64, the explained class of each image.
        baselines: (B, C, H, W) float32, what "absent" looks like; Φ is the mean over them.
        method: "deeplift-shap" (exact for affine maps, element-wise functions, maxima, products of
            activations, softmax and normalisation, so for convolutional networks and transformers),
            "integrated-gradients" (any model, quadrature), "gradient-shap" (any model, random), the name of
            an entry point of the group `lvlm_va.attributions`, or any object with a method `attribute`.
        tolerance: largest completeness error allowed; None for the method's own: 1e-4 for DeepLIFT-SHAP,
            1e-2 for integrated gradients, none for gradient SHAP; on a GPU ten times as much.
        batch_size: images at a time.
        baseline_chunk: baselines at a time.
        steps: gradients per baseline (integrated gradients) or per image (gradient SHAP).
        progress: called with (images done, N) after every batch.
        note: told, in one sentence, when memory ran out and what is done about it.
        seed: of gradient SHAP's samples; the global generators are not touched.

    Returns:
        the attribution, on the images' device.

    Raises:
        ModelError: if outputs are not (R, K) finite logits or a target is not among the K classes.
        AttributionError: if the completeness error of an image exceeds the tolerance, or memory runs out
            with one image and one baseline at a time.
        DataError: if shapes do not fit together.
        ConfigError: if an option is not usable.
        ExtensionError: if somebody else's method raises or returns something else than Φ.
    """
    explainer = Explainer(
        model,
        baselines,
        len(images),
        method=method,
        tolerance=tolerance,
        batch_size=batch_size,
        baseline_chunk=baseline_chunk,
        steps=steps,
        note=note,
        seed=seed,
    )
    return explainer.explain(images, targets, progress=progress)


class Explainer:
    """`attribute` for those who explain N images a part at a time.

    A part's numbers are those of `attribute` on all N where parts begin at multiples of `batch_size`. What
    one part taught holds for the next: how the model lays out its rows, and how much fits into memory.

    Args:
        model: as `attribute` takes it; likewise
        baselines: what is compared with, and the options.
        total: N.

    Raises:
        ConfigError: if an option is not usable.
    """

    def __init__(
        self,
        model: nn.Module,
        baselines: Tensor,
        total: int,
        *,
        method: str | AttributionMethod | Method = "deeplift-shap",
        tolerance: float | None = None,
        batch_size: int = 6,
        baseline_chunk: int = 10,
        steps: int = 64,
        note: Callable[[str], None] = lambda _: None,
        seed: int = 0,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("baseline_chunk", baseline_chunk), ("steps", steps)):
            if value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1")
        self._method = find_method(method)
        self._model = adapted(_in_full_precision(model))
        self._baselines = baselines.detach()
        self._step = self._method.prepare(total, len(baselines), steps, seed)
        self._tolerance = tolerance
        self._rows = batch_size, baseline_chunk
        self._note = note

    def explain(
        self,
        images: Tensor,
        targets: Tensor,
        *,
        first: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Attribution:
        """Explain images number `first` and following of the N; for the rest see `attribute`.

        Raises:
            ModelError, AttributionError, DataError, ExtensionError: as `attribute`.
        """
        _check_shapes(images, targets, self._baselines)
        home, n, b = images.device, len(images), len(self._baselines)
        model, chosen = self._model, self._method
        device, dtype = device_and_dtype(model) or (home, images.dtype)
        allowed = chosen.tolerance
        if allowed is not None:
            more = GPU_ROUNDING if device.type == "cuda" else 1
            allowed = allowed * more if self._tolerance is None else self._tolerance
        baselines = self._baselines.to(device, dtype)

        def explain(batch: slice) -> tuple[Explained, Tensor]:
            x, t = shown(batch)
            parts = Parts(slice(first + batch.start, first + batch.stop), *self._rows)
            return self._step(model, x, t, baselines, parts), t

        def shown(batch: slice) -> tuple[Tensor, Tensor]:
            return images[batch].detach().to(device, dtype), targets[batch].to(device)

        def remedy(batch: slice) -> str:
            words = chosen.remedy
            return words if isinstance(words, str) else words(model, *shown(batch), baselines)

        values = torch.empty(n, *images.shape[2:], dtype=dtype, device=home)
        errors = torch.full((n,), torch.nan, dtype=torch.float64, device=home)
        done = 0
        with frozen(model), full_float32():
            while done < n:
                batch = slice(done, min(done + self._rows[0], n))
                try:
                    explained, t = explain(batch)
                except (RuntimeError, MemoryError) as failure:
                    if not is_out_of_memory(failure):
                        raise
                    why = reason(failure)
                else:
                    values[batch] = explained.values.to(home)
                    if allowed is not None:
                        require_finite(explained, first + done)
                        error = completeness_error(explained, t)
                        require_complete(error, allowed, first + done, partial(remedy, batch))
                        errors[batch] = error.to(home)
                    done = batch.stop
                    if progress is not None:
                        progress(done, n)
                    continue
                # Here the failure and the tensors that its traceback holds are gone.
                self._rows = _halved(batch.stop - done, min(self._rows[1], b), why)
                self._note(
                    f"Out of memory ({why}); going on with {self._rows[0]} images and {self._rows[1]} "
                    "baselines at a time."
                )
                free()
        return Attribution(values, errors, chosen.name)


def _halved(batch_size: int, baseline_chunk: int, why: str) -> tuple[int, int]:
    if batch_size == baseline_chunk == 1:
        raise AttributionError(
            f"out of memory even with one image and one baseline at a time ({why}); use smaller images, "
            "a smaller model or a machine with more memory"
        )
    return max(batch_size // 2, 1), max(baseline_chunk // 2, 1)


def _in_full_precision(model: nn.Module) -> nn.Module:
    """`model` itself, or a float32 copy of one in half precision, whose rounding no attribution survives."""
    half = any(p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters())
    return in_full_precision(copied(model)) if half else model


def _check_shapes(images: Tensor, targets: Tensor, baselines: Tensor) -> None:
    if images.ndim != 4:
        raise DataError(f"images must have shape (N, C, H, W), not {tuple(images.shape)}")
    if targets.shape != images.shape[:1] or targets.dtype != torch.int64:
        raise DataError(
            f"{len(images)} images need {len(images)} int64 targets, not {targets.dtype} of shape "
            f"{tuple(targets.shape)}"
        )
    if baselines.shape[1:] != images.shape[1:] or not len(baselines):
        raise DataError(
            f"baselines must be one or more images of shape {tuple(images.shape[1:])}, "
            f"not a tensor of shape {tuple(baselines.shape)}"
        )
