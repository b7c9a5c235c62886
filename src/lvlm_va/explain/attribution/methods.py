"""The attribution methods by name, and anybody's: how a few images are explained, and how exactly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lvlm_va.config.names import ATTRIBUTIONS, Foreign
from lvlm_va.errors import LvlmVaError
from lvlm_va.explain.attribution.completeness import Explained
from lvlm_va.explain.attribution.deeplift import Learnt, deeplift_shap
from lvlm_va.explain.attribution.frozen import logits_of
from lvlm_va.explain.attribution.gradients import (
    Paths,
    integrated_gradients_paths,
    path_gradients,
    sampled_paths,
)
from lvlm_va.explain.attribution.protocol import AttributionMethod
from lvlm_va.explain.attribution.refusal import why_not_exact
from lvlm_va.io.raised import place
from lvlm_va.models.memory import is_out_of_memory

__all__ = ["METHODS", "Method", "Parts", "find_method"]

_MORE_STEPS = (
    "Raise steps (slower, more exact; explain.steps in a project), or the tolerance if this error is "
    "acceptable (explain.tolerance)"
)


@dataclass(frozen=True)
class Parts:
    """The images of one step among all N, and how many rows the model may see at once.

    Attributes:
        images: which of the N.
        batch_size: images at a time.
        baseline_chunk: baselines at a time.
    """

    images: slice
    batch_size: int
    baseline_chunk: int


Explain = Callable[[nn.Module, Tensor, Tensor, Tensor, Parts], Explained]
"""(model, images (n, C, H, W), targets (n,), baselines (B, C, H, W), parts) → Φ of these images."""


Remedy = str | Callable[[nn.Module, Tensor, Tensor, Tensor], str]
"""Words, or (model, images, targets, baselines) → words."""


@dataclass(frozen=True)
class Method:
    """How Φ is computed.

    Attributes:
        name: of the method.
        prepare: (N, B, steps, seed) → what explains a few of the N images.
        tolerance: default of the largest completeness error allowed; None where the method does not claim to
            be complete, and nothing is checked.
        remedy: why an error is larger and what the user can do about it.
        takes_steps: whether `explain.steps` means anything to it.
        version: of somebody else's method.
    """

    name: str
    prepare: Callable[[int, int, int, int], Explain]
    tolerance: float | None
    remedy: Remedy
    takes_steps: bool = True
    version: str | None = None


def find_method(method: "str | AttributionMethod | Method") -> Method:
    """The method called so, or anybody's.

    Raises:
        ExtensionError: naming the nearest, if there is none of that name; or if an object or another
            package's method cannot be used.
    """
    if isinstance(method, Method):
        return method
    if not isinstance(method, str):
        return _foreign(ATTRIBUTIONS.given(method))
    return _OURS[method] if method in _OURS else _foreign(ATTRIBUTIONS.load(method))


def _deeplift(_n: int, _b: int, _steps: int, _seed: int) -> Explain:
    learnt = Learnt()

    def explain(model: nn.Module, x: Tensor, t: Tensor, baselines: Tensor, parts: Parts) -> Explained:
        return deeplift_shap(model, x, t, baselines, baseline_chunk=parts.baseline_chunk, learnt=learnt)

    return explain


def _along(paths: Paths) -> Explain:
    def explain(model: nn.Module, x: Tensor, t: Tensor, baselines: Tensor, parts: Parts) -> Explained:
        index, alpha, weight = (p[parts.images] for p in paths)
        rows = parts.batch_size + parts.baseline_chunk
        return path_gradients(model, x, t, baselines, (index, alpha, weight), rows=rows)

    return explain


_METHODS = (
    Method(
        "deeplift-shap",
        _deeplift,
        tolerance=1e-4,
        remedy=why_not_exact,
        takes_steps=False,
    ),
    Method(
        "integrated-gradients",
        lambda n, b, steps, _: _along(integrated_gradients_paths(n, b, steps)),
        tolerance=1e-2,
        remedy=_MORE_STEPS,
    ),
    # A random sample, whose error is shown, not judged.
    Method(
        "gradient-shap",
        lambda n, b, steps, seed: _along(sampled_paths(n, b, steps, seed)),
        tolerance=float("inf"),
        remedy=_MORE_STEPS,
    ),
)
_OURS: Mapping[str, Method] = {method.name: method for method in _METHODS}
METHODS = tuple(_OURS)
"""The names of the methods of this package."""


def _foreign(foreign: Foreign) -> Method:
    """Anybody's method; its answers are checked."""
    complete = foreign.ability("complete", False) is True

    def explain(model: nn.Module, x: Tensor, t: Tensor, baselines: Tensor, parts: Parts) -> Explained:
        try:
            with torch.enable_grad():
                values = foreign.call(model, x.clone(), t.clone(), baselines.clone())
        except LvlmVaError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise foreign.complaint(
                f"attribute raised {type(error).__name__}: {error}{place(error)}"
            ) from error
        values = _checked(foreign, values, x)
        if not complete:
            nothing = values.new_zeros(1, 0)
            return Explained(values, nothing, nothing)
        with torch.no_grad():
            rows = parts.batch_size + parts.baseline_chunk
            logits, baseline_logits = (
                torch.cat([logits_of(model, some.clone(), t) for some in torch.split(batch, rows)])
                for batch in (x, baselines)
            )
        return Explained(values, logits, baseline_logits)

    return Method(
        foreign.name,
        lambda _n, _b, _steps, _seed: explain,
        tolerance=1e-2 if complete else None,
        remedy=(
            f"{foreign.name} says that it is complete: mend it, let it say complete = False, or allow a "
            "larger error (explain.tolerance)"
        ),
        takes_steps=False,
        version=foreign.version,
    )


def _checked(foreign: Foreign, values: object, images: Tensor) -> Tensor:
    """What `attribute` returned, as it must be.

    Raises:
        ExtensionError: saying what is wrong with it.
    """
    shape = (len(images), *images.shape[2:])
    said = f"attribute must return a floating-point tensor of shape (n, H, W) = {shape}"
    if not isinstance(values, Tensor):
        raise foreign.complaint(f"{said}, not {type(values).__name__}")
    if tuple(values.shape) != shape or not values.is_floating_point():
        raise foreign.complaint(f"{said}, not {values.dtype} of shape {tuple(values.shape)}")
    values = values.detach()
    if not bool(values.isfinite().all()):
        raise foreign.complaint("attribute returned NaN or infinite values")
    return values.to(images.device, images.dtype)
