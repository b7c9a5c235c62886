"""What is made of operations with a rule, taken apart; and how each is called.

Every function takes the rules in force and the call's own arguments. It answers NotImplemented where the call
has no rule after all.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lvlm_va.explain.attribution.operations import Active, Conv2d, Largest, Softmax, Standardised
from lvlm_va.explain.attribution.secants import power, quotient
from lvlm_va.explain.attribution.tables import ways

__all__ = ["COMPOSITES", "clamped"]


# Affine maps that need not keep their input.


def _conv2d(
    rules: Active,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    options = (stride, padding, dilation, groups)
    if weight.requires_grad or (bias is not None and bias.requires_grad):
        z: Tensor = rules.quadratic(torch.conv2d, (x, weight, bias, *options), {})
        return z
    if isinstance(padding, str):  # "same"
        return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)
    y: Tensor = Conv2d.apply(x, weight, bias, *options)  # type: ignore[no-untyped-call]
    return y


def _batch_norm(
    _: Active,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch normalisation by running statistics as scale and shift."""
    if training or running_mean is None or running_var is None:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    scale = (running_var + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -running_mean * scale if bias is None else bias - running_mean * scale
    shape = (1, -1, *(1 for _ in x.shape[2:]))
    return torch.addcmul(shift.view(shape), x, scale.view(shape))


# Maxima.


def _pool(pure: Callable[..., tuple[Tensor, Tensor]], space: int) -> Callable[..., Any]:
    def handler(rules: Active, x: Tensor, *rest: Any, return_indices: bool = False, **kwargs: Any) -> Any:
        if return_indices:
            return NotImplemented
        return Largest.apply(x, rules.keeper, lambda a: pure(a, *rest, **kwargs), space)  # type: ignore[no-untyped-call]

    return handler


def _over_last(rules: Active, x: Tensor) -> Tensor:
    """The maximum over the last dimension, which stays with length one."""
    y: Tensor = Largest.apply(x, rules.keeper, lambda a: a.max(-1, keepdim=True), 1)  # type: ignore[no-untyped-call]
    return y


def _amax(rules: Active, x: Tensor, dim: Any = (), keepdim: bool = False) -> Any:
    dims = sorted({d % x.ndim for d in ([dim] if isinstance(dim, int) else dim)})
    if not dims or x.is_complex():
        return NotImplemented  # over the rows, too
    last = list(range(-len(dims), 0))
    y = _over_last(rules, x.movedim(dims, last).flatten(-len(dims)))
    y = y.unflatten(-1, [1] * len(dims)).movedim(last, dims)  # type: ignore[no-untyped-call]
    return y if keepdim else y.squeeze(dims)


def _amin(rules: Active, x: Tensor, dim: Any = (), keepdim: bool = False) -> Any:
    y = _amax(rules, -x, dim, keepdim)
    return y if y is NotImplemented else -y


def _max(rules: Active, x: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    dim = other if dim is None else dim
    if isinstance(dim, Tensor):
        return _maximum(rules, x, dim)
    if not isinstance(dim, int):
        return NotImplemented
    where = x.detach().argmax(dim, keepdim)
    return torch.return_types.max((_amax(rules, x, dim, keepdim), where))


def _min(rules: Active, x: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    dim = other if dim is None else dim
    if isinstance(dim, Tensor):
        return _minimum(rules, x, dim)
    if not isinstance(dim, int):
        return NotImplemented
    where = x.detach().argmin(dim, keepdim)
    return torch.return_types.min((_amin(rules, x, dim, keepdim), where))


def _maximum(rules: Active, x: Tensor, other: Tensor) -> Tensor:
    both = torch.broadcast_tensors(x, other)  # type: ignore[no-untyped-call]
    return _over_last(rules, torch.stack(both, -1)).squeeze(-1)


def _minimum(rules: Active, x: Tensor, other: Tensor) -> Tensor:
    return -_maximum(rules, -x, -other)


def clamped(rules: Active, name: str, x: Tensor, *bounds: Any, min: Any = None, max: Any = None) -> Tensor:
    """`clamp` and its kin with bounds that depend on the batch."""
    if bounds and name == "clamp_max":
        max = bounds[0]
    elif bounds:
        min, max = (*bounds, max)[:2]
    with rules:
        for bound, pick in ((min, torch.maximum), (max, torch.minimum)):
            if bound is not None:
                x = pick(x, torch.as_tensor(bound).to(x))
        return x


# Quotients, powers, norms.


def _div(rules: Active, x: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    if rounding_mode is not None:
        return NotImplemented
    if not (isinstance(other, Tensor) and other.requires_grad):
        return torch.div(x, other)
    with rules:
        return x * other.reciprocal()


def _rdiv(rules: Active, x: Tensor, other: Any) -> Any:
    with rules:
        return other * x.reciprocal()


def _pow(rules: Active, x: Any, exponent: Any) -> Any:
    if isinstance(exponent, Tensor) and exponent.requires_grad:
        with rules:
            return (exponent * torch.as_tensor(x).log()).exp()
    if x.is_complex():
        return NotImplemented
    m = power(float(exponent)) if isinstance(exponent, int | float) else None
    # Without a closed form the step must stay on x's side of zero.
    m = m or quotient(lambda a: a**exponent, least=torch.finfo(x.dtype).tiny)
    return rules.secant(x, lambda a: a**exponent, m, isinstance(exponent, Tensor))


def _rpow(rules: Active, exponent: Any, x: Any) -> Any:
    return _pow(rules, x, exponent)


def _vector_norm(
    rules: Active, x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    if dim is None or dtype is not None:
        return NotImplemented
    with rules:
        if ord == 2:
            return x.square().sum(dim, keepdim).sqrt()
        if ord == 1:
            return x.abs().sum(dim, keepdim)
        if ord == math.inf:
            return x.abs().amax(dim, keepdim)
    return NotImplemented


def _std(rules: Active, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    with rules:
        return torch.var(x, *args, **kwargs).sqrt()


def _std_mean(rules: Active, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    with rules:
        variance, mean = torch.var_mean(x, *args, **kwargs)
        return variance.sqrt(), mean


def _cosine_similarity(rules: Active, x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    with rules:
        a, b = (v / torch.linalg.vector_norm(v, 2, dim, True).clamp_min(eps) for v in (x1, x2))
        y: Tensor = (a * b).sum(dim)
        return y


def _addcdiv(rules: Active, x: Tensor, a: Tensor, b: Tensor, *, value: float = 1) -> Tensor:
    with rules:
        return x + value * (a / b)


# Gates.


def _glu(rules: Active, x: Tensor, dim: int = -1) -> Tensor:
    with rules:
        a, b = x.chunk(2, dim)
        return a * b.sigmoid()


# Softmax and attention.


def _softmax(f: Callable[..., Tensor], sign: int = 1) -> Callable[..., Any]:
    def handler(rules: Active, x: Tensor, dim: Any = None, *rest: Any, dtype: Any = None, **_: Any) -> Any:
        dtype = next((v for v in rest if isinstance(v, torch.dtype)), dtype)
        if not isinstance(dim, int):
            return NotImplemented
        x = sign * (x if dtype is None else x.to(dtype))
        y: Tensor = Softmax.apply(x.movedim(dim, -1), rules.keeper, f)  # type: ignore[no-untyped-call]
        return y.movedim(-1, dim)

    return handler


def _logsumexp(rules: Active, x: Tensor, dim: Any, keepdim: bool = False) -> Any:
    dims = [dim] if isinstance(dim, int) else list(dim)
    if len(dims) != 1:
        return NotImplemented
    y: Tensor = _softmax(torch.logsumexp)(rules, x, dims[0])
    return y if keepdim else y.squeeze(dims[0])


def _attention(
    rules: Active,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    if dropout_p > 0:
        return NotImplemented
    with rules:
        if enable_gqa:
            times = query.shape[-3] // key.shape[-3]
            key, value = key.repeat_interleave(times, -3), value.repeat_interleave(times, -3)
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        scores = (query * scale) @ key.transpose(-2, -1)
        if is_causal:
            attn_mask = scores.new_ones(scores.shape[-2:], dtype=torch.bool).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(attn_mask.logical_not(), -math.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        return scores.softmax(-1) @ value


# Normalisation over activations.


def _standardised(rules: Active, x: Tensor, dims: int, eps: float, centred: bool = True) -> Tensor:
    """Over the last `dims` dimensions."""
    flat = x.flatten(-dims)
    y: Tensor = Standardised.apply(flat, rules.keeper, eps, centred)  # type: ignore[no-untyped-call]
    return y.view(x.shape)


def _scaled(rules: Active, y: Tensor, weight: Tensor | None, bias: Tensor | None = None) -> Tensor:
    with rules:
        y = y if weight is None else y * weight
        return y if bias is None else y + bias


def _layer_norm(
    rules: Active,
    x: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    return _scaled(rules, _standardised(rules, x, len(normalized_shape), eps), weight, bias)


def _rms_norm(
    rules: Active, x: Tensor, normalized_shape: Any, weight: Any = None, eps: float | None = None
) -> Tensor:
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    return _scaled(rules, _standardised(rules, x, len(normalized_shape), eps, centred=False), weight)


def _group_norm(
    rules: Active,
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    grouped: Tensor = x.unflatten(1, (num_groups, -1))  # type: ignore[no-untyped-call]
    y = _standardised(rules, grouped, grouped.ndim - 2, eps).view(x.shape)
    shape = (-1, *(1 for _ in x.shape[2:]))
    return _scaled(rules, y, *(v if v is None else v.view(shape) for v in (weight, bias)))


def _instance_norm(
    rules: Active,
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats:
        return _batch_norm(rules, x, running_mean, running_var, weight, bias, False, momentum, eps)
    return _group_norm(rules, x, x.shape[1], weight, bias, eps)


def _called(*names: str) -> list[Any]:
    return [way for name in names for way in ways(name)]


_BY_NAME: dict[tuple[str, ...], Callable[..., Any]] = {
    ("conv2d",): _conv2d,
    ("batch_norm",): _batch_norm,
    ("max_pool1d", "max_pool1d_with_indices"): _pool(F.max_pool1d_with_indices, 1),
    ("max_pool2d",): _pool(F.max_pool2d_with_indices, 2),
    ("max_pool3d",): _pool(F.max_pool3d_with_indices, 3),
    ("adaptive_max_pool1d",): _pool(F.adaptive_max_pool1d_with_indices, 1),
    ("adaptive_max_pool2d",): _pool(F.adaptive_max_pool2d_with_indices, 2),
    ("adaptive_max_pool3d",): _pool(F.adaptive_max_pool3d_with_indices, 3),
    ("amax",): _amax,
    ("amin",): _amin,
    ("max",): _max,
    ("min",): _min,
    ("maximum", "fmax"): _maximum,
    ("minimum", "fmin"): _minimum,
    ("div", "divide", "true_divide", "truediv"): _div,
    ("pow", "float_power"): _pow,
    ("linalg_vector_norm", "vector_norm"): _vector_norm,
    ("std",): _std,
    ("std_mean",): _std_mean,
    ("cosine_similarity",): _cosine_similarity,
    ("addcdiv",): _addcdiv,
    ("glu",): _glu,
    ("softmax",): _softmax(torch.softmax),
    ("softmin",): _softmax(torch.softmax, -1),
    ("log_softmax",): _softmax(torch.log_softmax),
    ("logsumexp",): _logsumexp,
    ("scaled_dot_product_attention",): _attention,
    ("layer_norm",): _layer_norm,
    ("rms_norm",): _rms_norm,
    ("group_norm",): _group_norm,
    ("instance_norm",): _instance_norm,
}
COMPOSITES: dict[Any, Callable[..., Any]] = {
    way: handler for names, handler in _BY_NAME.items() for way in _called(*names)
} | {
    Tensor.__rdiv__: _rdiv,
    Tensor.__rtruediv__: _rdiv,
    Tensor.__rpow__: _rpow,
}
"""Each way of calling it -> what takes it apart."""
