"""DeepLIFT's rules, applied to whatever a model calls while it runs forward.

A multiplier m = Δout / Δin replaces the derivative of each non-linear operation (Shrikumar et al. 2017,
Sec. 3.5.2, the rescale rule). `Rules` is a mode: it sees each call of a function of torch, from a module or
not, reused or not, in place or not, so no module needs to be hooked, copied or rewritten.

All other operations must be affine and treat the rows of a batch alike, so that in the backward pass a row
may carry the multipliers of *any* pair of an image and a baseline: `pairing.Pairing` says which. Operations
that break the assumption (products of activations, normalisation over activations) break completeness, which
is checked for every batch.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input
from torch.overrides import TorchFunctionMode

from lvlm_va.explain.attribution.pairing import Pairing

__all__ = ["Rules"]

Multiplier = Callable[[Tensor, Tensor], Tensor]
"""(1, ...) at an image and (b, ...) at b baselines -> (b, ...) Δout / Δin."""


def _relu_multiplier(x: Tensor, b: Tensor) -> Tensor:
    """max(x, b) / |x − b| in [0, 1]: ReLU's Δout / Δin without cancellation, its derivative where x = b."""
    gap = (x - b).abs_().add_(torch.finfo(x.dtype).tiny)
    return torch.maximum(x, b).div_(gap).clamp_(0, 1)


def _quotient(f: Callable[[Tensor], Tensor]) -> Multiplier:
    """Δf / Δin for element-wise f; a central difference where x and b are too close for a quotient."""

    def multiplier(x: Tensor, b: Tensor) -> Tensor:
        step = torch.finfo(x.dtype).eps ** (1 / 3)
        middle = (x + b) / 2
        reach = step * middle.abs().clamp_min(1)
        close = (x - b).abs() <= step * reach
        high = torch.where(close, middle + reach, x)
        low = torch.where(close, middle - reach, b)
        return (f(high) - f(low)) / (high - low)

    return multiplier


def _by_row(x: Tensor, rows: int) -> Tensor:
    """(V · rows, C, ...), V views of a batch one after the other, as (rows, V · C, ...)."""
    if len(x) == rows:
        return x
    views = len(x) // rows
    return x.reshape(views, rows, *x.shape[1:]).transpose(0, 1).flatten(1, 2)


def _by_view(x: Tensor, views: int) -> Tensor:
    """Back from `_by_row`."""
    if views == 1:
        return x
    rows, channels, *rest = x.shape
    return x.reshape(rows, views, channels // views, *rest).transpose(0, 1).flatten(0, 1)


def _of_views(m: Multiplier, views: int) -> Multiplier:
    """A multiplier for what `_by_row` made: the function may have parameters of C channels."""

    def multiplier(x: Tensor, b: Tensor) -> Tensor:
        return _by_row(m(_by_view(x.expand_as(b), views), _by_view(b, views)), len(b))

    return multiplier


class _Elementwise(Function):
    """y = f(x), in place where the call is; backward multiplies by Δy / Δx."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, pairing: Pairing, call: Callable[[Tensor], Tensor], m: Multiplier
    ) -> Tensor:
        ctx.kept, ctx.pairing, ctx.multiplier = pairing.keep(_by_row(x, pairing.rows)), pairing, m
        ctx.views = len(x) // pairing.rows
        if ctx.views > 1:
            ctx.multiplier = _of_views(m, ctx.views)
        y = call(x)
        if y is x:
            ctx.mark_dirty(x)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad = _by_row(grad, len(grad) // ctx.views)
        out = torch.empty_like(grad)
        out[ctx.pairing.pairs :] = 0
        for rows, _, x, b in ctx.pairing.blocks(ctx.kept):
            torch.mul(grad[rows], ctx.multiplier(x, b), out=out[rows])
        return _by_view(out, ctx.views), None, None, None


class _MaxPool(Function):
    """y = max over windows; backward gives each window's Δy to one position, adding where windows overlap.

    With p the maximum's position in the image, q in the baseline: if y_x ≥ y_b position p takes all of
    Δy = x_p − b_q, since there Δx_p = x_p − b_p ≥ Δy ≥ 0; otherwise q does, since Δx_q ≤ Δy < 0. So
    the multiplier Δy / Δx is in [0, 1] and contributions sum to Δy exactly (as in the SHAP package).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, pairing: Pairing, pool: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> Tensor:
        y, where = pool(x)
        ctx.kept = tuple(pairing.keep(_by_row(part, pairing.rows)) for part in (x, where))
        ctx.pairing, ctx.shape, ctx.views = pairing, x.shape, len(x) // pairing.rows
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, where = (kept.flatten(2) for kept in ctx.kept)
        carried = len(grad) // ctx.views
        grad = _by_row(grad, carried).flatten(2)
        out = _by_row(grad.new_zeros(ctx.shape), carried).flatten(2)
        pairing: Pairing = ctx.pairing
        for (rows, _, at_x, at_b), (_, _, p, q) in zip(pairing.blocks(x), pairing.blocks(where), strict=True):
            at_x = at_x.expand_as(at_b)
            y_x, y_b = at_x.gather(2, p.expand_as(q)), at_b.gather(2, q)
            s = torch.where(y_x >= y_b, p, q)
            gap = at_x.gather(2, s) - at_b.gather(2, s)
            m = torch.where(gap == 0, 1, (y_x - y_b) / gap).clamp_(0, 1)
            out[rows].scatter_add_(2, s, m * grad[rows])
        return _by_view(out, ctx.views).view(ctx.shape), None, None


class _Conv2d(Function):
    """Convolution that forgets its input: the gradient of an affine map does not depend on it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *options: Any) -> Tensor:
        ctx.shape, ctx.weight, ctx.options = x.shape, weight, options
        return torch.conv2d(x, weight, bias, *options)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        out = conv2d_input(ctx.shape, ctx.weight, grad, *ctx.options)  # type: ignore[no-untyped-call]
        return out, None, None, *(None for _ in ctx.options)


def _conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    if isinstance(padding, str) or weight.requires_grad:
        return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)
    y: Tensor = _Conv2d.apply(  # type: ignore[no-untyped-call]
        x, weight, bias, stride, padding, dilation, groups
    )
    return y


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch normalisation by running statistics as scale and shift, which need not keep x."""
    if training or running_mean is None or running_var is None:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    scale = (running_var + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -running_mean * scale if bias is None else bias - running_mean * scale
    shape = (1, -1, *(1 for _ in x.shape[2:]))
    return torch.addcmul(shift.view(shape), x, scale.view(shape))


_AFFINE: dict[Any, Callable[..., Tensor]] = {torch.conv2d: _conv2d, F.batch_norm: _batch_norm}

_POOLS: dict[Any, Callable[..., tuple[Tensor, Tensor]]] = {
    torch.max_pool2d: F.max_pool2d_with_indices,
    F.max_pool2d: F.max_pool2d_with_indices,
    F.adaptive_max_pool2d: F.adaptive_max_pool2d_with_indices,
}

# fmt: off
_ACTIVATIONS = (
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish",
    "hardswish", "hardsigmoid", "hardtanh", "sigmoid", "tanh", "softplus", "logsigmoid", "softsign",
    "threshold", "hardshrink", "softshrink", "tanhshrink", "clamp", "clamp_min", "clamp_max", "clip",
    "abs", "square", "exp", "erf", "atan", "sin", "cos",
)
# fmt: on


def _activations() -> dict[Any, Callable[..., Tensor]]:
    """Each way of calling an activation -> the same out of place."""
    spaces, table = (F, torch, Tensor), {}
    for name in _ACTIVATIONS:
        pure = getattr(F, name, None) or getattr(torch, name)
        ways = [getattr(space, way, None) for space in spaces for way in (name, name + "_")]
        table.update({way: pure for way in ways if way is not None})
    return table


_ELEMENTWISE = _activations()

_AMAX = (torch.amax, Tensor.amax)

_RULED = frozenset(_ELEMENTWISE) | frozenset(_POOLS) | frozenset(_AFFINE) | frozenset(_AMAX)


class Rules(TorchFunctionMode):
    """While active, activations and max-pools on the batch are differentiated by DeepLIFT's rules.

    The model's parameters must not require gradients (see `frozen`).

    Args:
        pairing: where the rules keep what they need and find it again.
    """

    def __init__(self, pairing: Pairing) -> None:
        super().__init__()
        self.pairing = pairing

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func not in _RULED or not self._is_batch(*args, *kwargs.values()):
            return func(*args, **kwargs)
        x, *rest = args or (kwargs.pop("input"),)
        if func in _AFFINE:
            return _AFFINE[func](x, *rest, **kwargs)
        if func in _AMAX:
            return self._amax(x, *rest, **kwargs)
        if func in _POOLS:

            def pool(a: Tensor) -> tuple[Tensor, Tensor]:
                return _POOLS[func](a, *rest, **kwargs)

            return _MaxPool.apply(x, self.pairing, pool)  # type: ignore[no-untyped-call]
        options = {k: v for k, v in kwargs.items() if k != "inplace"}

        def call(a: Tensor) -> Tensor:
            y: Tensor = func(a, *rest, **kwargs)
            return y

        def f(a: Tensor) -> Tensor:
            return _ELEMENTWISE[func](a, *rest, **options)

        m = _relu_multiplier if _ELEMENTWISE[func] is F.relu else _quotient(f)
        return _Elementwise.apply(x, self.pairing, call, m)  # type: ignore[no-untyped-call]

    def _amax(self, x: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
        """`amax` over all pixels is a max-pool; over anything else it is left as it is."""
        dims = (dim,) if isinstance(dim, int) else tuple(dim)
        if x.ndim != 4 or sorted(d % 4 for d in dims) != [2, 3]:
            return torch.amax(x, dim, keepdim)
        y: Tensor = _MaxPool.apply(  # type: ignore[no-untyped-call]
            x, self.pairing, lambda a: F.adaptive_max_pool2d_with_indices(a, 1)
        )
        return y if keepdim else y.flatten(1)

    def _is_batch(self, *values: Any) -> bool:
        """Whether one of a call's arguments, and no other, depends on the model's input, row by row.

        It may hold several views of the batch, one whole batch after the other, see `_by_row`.
        """
        tensors = [v for v in values if isinstance(v, Tensor) and v.requires_grad]
        if len(tensors) != 1 or tensors[0].ndim < 2 or tensors[0].is_complex():
            return False  # complex numbers have no order and no quotient; completeness tells what that costs
        return len(tensors[0]) > 0 and len(tensors[0]) % self.pairing.rows == 0
