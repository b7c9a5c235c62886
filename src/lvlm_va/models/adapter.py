"""The user's classifier as everything else here expects it: images in [0, 1] → (n, K) logits.

People's models want normalised images and return a tensor, a tuple, a mapping or an object with `.logits`,
and not always one logit per class (`head`). `Adapted` stands between; the module inside keeps its names, so a
run's checkpoints are checkpoints of the user's own module.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lvlm_va.config.normalise import Normalise, read_normalise
from lvlm_va.errors import LvlmVaError, ModelError
from lvlm_va.io.raised import place
from lvlm_va.models.checkpointing import without_checkpointing
from lvlm_va.models.head import Head, LastFunction
from lvlm_va.models.memory import is_out_of_memory, reason

__all__ = [
    "Adapted",
    "ForwardFailed",
    "adapted",
    "in_full_precision",
    "is_compiled",
    "pick_logits",
    "several_outputs",
    "unwrapped",
]

_HALF = (torch.float16, torch.bfloat16)


class ForwardFailed(ModelError):
    """The user's forward pass raised.

    Attributes:
        said: what, and where.
    """

    def __init__(self, error: Exception) -> None:
        self.said = reason(error) + place(error)
        super().__init__(f"the model's forward pass fails: {self.said}")


class Adapted(nn.Module):
    """A classifier with its normalisation in front and its logits picked out behind.

    Args:
        module: the user's; held, not copied.
        normalise: how the module wants its images, see `Normalise`: (x − mean) / std.
        num_classes: K, which tells logits from other outputs; None where unknown.
        head: what the module's outputs are, see `Head`; `deciding.decide_head` decides what it leaves open.

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
        self,
        module: nn.Module,
        normalise: Normalise = None,
        num_classes: int | None = None,
        head: Head | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.num_classes = num_classes
        self.head = head or Head()
        mean_std = read_normalise(normalise)
        self.normalisation = mean_std and {"mean": [*mean_std[0]], "std": [*mean_std[1]]}
        device = next((p.device for p in module.parameters()), None)
        for name, values in zip(("mean", "std"), mean_std or (None, None), strict=True):
            column = None if values is None else torch.tensor(values, device=device)[:, None, None]
            self.register_buffer(name, column, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(n, C, H, W) in [0, 1] → (n, K) logits; computed in the module's own precision.

        Raises:
            ModelError: if the channels do not fit, the logits cannot be told from the other outputs, or the
                module raises.
        """
        x = self.normalised(images)
        head = self.head
        # Not len(x): that would fix the number of images where the model is traced.
        n = x.shape[0]
        position = head.position if self.module.training else None
        # Of use in plain training alone.
        checkpointing = torch.is_grad_enabled() and not images.requires_grad
        with (
            nullcontext() if checkpointing else without_checkpointing(),
            _differentiable_twice() if self._trained_through(images) else nullcontext(),
        ):
            if head.end is None:
                logits = pick_logits(self.outputs(x), n, head.widths(self.num_classes), position)
            else:
                with LastFunction() as last:
                    outputs = pick_logits(self.outputs(x), n, head.widths(self.num_classes), position)
                if (before := last.before(outputs)) is None or before[1] != head.end:
                    raise ModelError(
                        f"the model ended in a {head.end} when it was tried and does not now; let it return "
                        "logits, in training mode and in evaluation mode"
                    )
                logits = before[0]
        return head.logits(logits, n, self.num_classes)

    def outputs(self, x: Tensor) -> Any:
        """What the module returns for its own input.

        Raises:
            ForwardFailed: if it raises, but for memory that runs out.
        """
        try:
            return self.module(x)
        except Exception as error:  # a user's forward pass may raise anything
            if isinstance(error, LvlmVaError) or is_out_of_memory(error):
                raise
            raise ForwardFailed(error) from error

    def normalised(self, images: Tensor) -> Tensor:
        """The module's own input, a tensor that it may change.

        Raises:
            ModelError: if the channels do not fit.
        """
        x = images.to(self.precision or images.dtype)
        if self.mean is not None and self.std is not None:
            if len(self.mean) != x.shape[1]:
                raise ModelError(
                    f"model.normalise is given for {len(self.mean)} channels, but the images have "
                    f"{x.shape[1]}; set data.channels to {len(self.mean)}"
                )
            return (x - self.mean.to(x.dtype)) / self.std.to(x.dtype)
        # A module may begin with an in-place operation, which is for its own tensor, not the caller's.
        return x.clone() if x is images else x

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
    """The user's own module: not adapted, not compiled (`torch.compile`), of one device (`DataParallel`)."""
    if isinstance(model, Adapted | nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(model.module)
    within = model._orig_mod if is_compiled(model) else None
    return unwrapped(within) if isinstance(within, nn.Module) else model


def is_compiled(module: nn.Module) -> bool:
    """Whether `torch.compile` made it of another module."""
    # By name, since importing torch's compiler takes seconds.
    kind = type(module)
    return kind.__name__ == "OptimizedModule" and kind.__module__.startswith("torch._dynamo")


def in_full_precision(model: nn.Module) -> nn.Module:
    """`model` with float32 in place of float16 and bfloat16, in place; float64 stays.

    Fine-tuning and attribution need more digits than half precision has.
    """
    tensors = [*model.parameters(), *model.buffers()]
    return model.float() if any(t.dtype in _HALF for t in tensors) else model


def pick_logits(
    outputs: Any,
    n: int,
    num_classes: int | tuple[int, ...] | None = None,
    position: str | None = None,
) -> Tensor:
    """The logits among what a model returns for n images.

    A tensor is taken as it is; of an object or a mapping `logits`; of another mapping or a tuple the one
    tensor that can be logits: of shape (n, K).

    Args:
        outputs: whatever the model returned.
        n: how many images.
        num_classes: K, or several numbers, the first that fits; None where unknown, and then any (n, ·)
            tensor can be logits.
        position: which of several outputs is taken, by its name in `several_outputs`, where that is known.

    Raises:
        ModelError: naming what was returned, if no tensor or more than one can be the logits.
    """
    if isinstance(outputs, Tensor):
        return outputs
    named = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    if isinstance(named, Tensor):
        return named
    candidates = several_outputs(outputs)
    if position is not None and isinstance(chosen := candidates.get(position), Tensor):
        return chosen
    widths = num_classes if isinstance(num_classes, tuple) else (num_classes,)
    for width in widths:
        fitting = [value for value in candidates.values() if _may_be_logits(value, n, width)]
        if fitting:
            break
    if len(fitting) == 1:
        logits: Tensor = fitting[0]
        return logits
    kind = type(outputs).__name__
    held = "; ".join(f"{name}: {_described(value)}" for name, value in candidates.items())
    several = f"{len(fitting)} of which could be" if fitting else "none of which can be"
    listed = f" ({held}), {several} the" if candidates else " instead of"
    raise ModelError(
        f"the model answered {n} images with a {kind}{listed} logits of shape ({n}, "
        f"{widths[0] or 'number of classes'}); return the logits alone, or name them logits"
    )


def several_outputs(outputs: Any) -> dict[str, Any]:
    """What a model returns, by name or place; empty if it is neither a mapping nor a tuple."""
    if isinstance(outputs, Mapping):
        return {repr(key): value for key, value in outputs.items()}
    if isinstance(outputs, tuple | list):
        return {str(index): value for index, value in enumerate(outputs)}
    return {}


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
