"""The user's classifier as everything else here expects it: images in [0, 1] → (n, K) logits.

People's models want normalised images and return a tensor, a tuple, a mapping or an object with `.logits`.
`Adapted` stands between; the module inside keeps its names, so a run's checkpoints are checkpoints of the
user's own module.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lvlm_va.config.normalise import Normalise, read_normalise
from lvlm_va.errors import ModelError

__all__ = ["Adapted", "adapted", "in_full_precision", "pick_logits", "unwrapped"]

_HALF = (torch.float16, torch.bfloat16)


class Adapted(nn.Module):
    """A classifier with its normalisation in front and its logits picked out behind.

    Args:
        module: the user's; held, not copied.
        normalise: how the module wants its images, see `Normalise`: (x − mean) / std.
        num_classes: K, which tells logits from other outputs; None where unknown.

    Attributes:
        normalisation: what `normalise` came to, {"mean": [...], "std": [...]}; None where images are
            passed on as they are.

    Raises:
        ConfigError: if `normalise` cannot be used.
    """

    mean: Tensor | None
    std: Tensor | None
    normalisation: dict[str, list[float]] | None

    def __init__(
        self, module: nn.Module, normalise: Normalise = None, num_classes: int | None = None
    ) -> None:
        super().__init__()
        self.module = module
        self.num_classes = num_classes
        mean_std = read_normalise(normalise)
        self.normalisation = mean_std and {"mean": [*mean_std[0]], "std": [*mean_std[1]]}
        device = next((p.device for p in module.parameters()), None)
        for name, values in zip(("mean", "std"), mean_std or (None, None), strict=True):
            column = None if values is None else torch.tensor(values, device=device)[:, None, None]
            self.register_buffer(name, column, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(n, C, H, W) in [0, 1] → (n, K) logits; computed in the module's own precision.

        Raises:
            ModelError: if the channels do not fit, or the logits cannot be told from the other outputs.
        """
        x = images.to(self.precision or images.dtype)
        if self.mean is not None and self.std is not None:
            if len(self.mean) != x.shape[1]:
                raise ModelError(
                    f"model.normalise is given for {len(self.mean)} channels, but the images have "
                    f"{x.shape[1]}; set data.channels to {len(self.mean)}"
                )
            x = (x - self.mean.to(x.dtype)) / self.std.to(x.dtype)
        elif x is images:
            # A module may begin with an in-place operation, which is for its own tensor, not the caller's.
            x = x.clone()
        with _differentiable_twice() if self._trained_through(images) else nullcontext():
            outputs = self.module(x)
        # Not len(x): that would fix the number of images where the model is traced.
        return pick_logits(outputs, x.shape[0], self.num_classes)

    def _trained_through(self, images: Tensor) -> bool:
        """Whether the gradient at the images will itself be differentiated: a right-reasons term."""
        wanted = torch.is_grad_enabled() and images.requires_grad
        return wanted and any(p.requires_grad for p in self.module.parameters())

    @property
    def precision(self) -> torch.dtype | None:
        """The type of the module's first floating-point parameter; None without one."""
        return next((p.dtype for p in self.module.parameters() if p.is_floating_point()), None)


def adapted(model: nn.Module) -> Adapted:
    """`model` itself if it is adapted, else adapted without normalisation; nothing is copied."""
    return model if isinstance(model, Adapted) else Adapted(model)


def unwrapped(model: nn.Module) -> nn.Module:
    """The user's own module, whether adapted or not."""
    return unwrapped(model.module) if isinstance(model, Adapted) else model


def in_full_precision(model: nn.Module) -> nn.Module:
    """`model` with float32 in place of float16 and bfloat16, in place; float64 stays.

    Fine-tuning and attribution need more digits than half precision has.
    """
    tensors = [*model.parameters(), *model.buffers()]
    return model.float() if any(t.dtype in _HALF for t in tensors) else model


def pick_logits(outputs: Any, n: int, num_classes: int | None = None) -> Tensor:
    """The logits among what a model returns for n images.

    A tensor is taken as it is; of an object or a mapping `logits`; of another mapping or a tuple the one
    tensor that can be logits: of shape (n, K).

    Args:
        outputs: whatever the model returned.
        n: how many images.
        num_classes: K; None where unknown, and then any (n, ·) tensor can be logits.

    Raises:
        ModelError: naming what was returned, if no tensor or more than one can be the logits.
    """
    if isinstance(outputs, Tensor):
        return outputs
    named = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    if isinstance(named, Tensor):
        return named
    if isinstance(outputs, Mapping):
        candidates = {repr(key): value for key, value in outputs.items()}
    elif isinstance(outputs, tuple | list):
        candidates = {str(index): value for index, value in enumerate(outputs)}
    else:
        candidates = {}
    fitting = [value for value in candidates.values() if _may_be_logits(value, n, num_classes)]
    if len(fitting) == 1:
        logits: Tensor = fitting[0]
        return logits
    kind = type(outputs).__name__
    held = "; ".join(f"{name}: {_described(value)}" for name, value in candidates.items())
    several = f"{len(fitting)} of which could be" if fitting else "none of which can be"
    listed = f" ({held}), {several} the" if candidates else " instead of"
    raise ModelError(
        f"the model answered {n} images with a {kind}{listed} logits of shape ({n}, "
        f"{num_classes or 'number of classes'}); return the logits alone, or name them logits"
    )


def _differentiable_twice() -> AbstractContextManager[None]:
    """Attention by plain matrix products: torch's fused kernels have no second derivative."""
    context: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
    return context


def _may_be_logits(value: object, n: int, num_classes: int | None) -> bool:
    return (
        isinstance(value, Tensor)
        and value.ndim == 2
        and value.shape[0] == n
        and num_classes in (None, value.shape[1])
    )


def _described(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
