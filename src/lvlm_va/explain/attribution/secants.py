"""Multipliers of element-wise functions: the secant's slope Δf / Δx, the derivative where Δx vanishes.

The rescale rule of Shrikumar et al. 2017 (Sec. 3.5.2). Where a closed form exists it is written out, since a
quotient of two small differences loses digits and its limit needs points beside x that the function may not
have (the root of a negative number).
"""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["CLOSED_FORMS", "Multiplier", "log_mean", "power", "quotient", "step"]

Multiplier = Callable[[Tensor, Tensor], Tensor]
"""(1, ...) at an image and (b, ...) at b baselines -> (b, ...) Δout / Δin."""


def quotient(f: Callable[[Tensor], Tensor], least: float = 1.0) -> Multiplier:
    """Δf / Δin for element-wise f; a central difference where x and b are too close for a quotient.

    Args:
        f: the function.
        least: size of an argument below which a relative distance means nothing.
    """

    def multiplier(x: Tensor, b: Tensor) -> Tensor:
        step = torch.finfo(x.dtype).eps ** (1 / 3)
        middle = (x + b) / 2
        reach = step * middle.abs().clamp_min(least)
        close = (x - b).abs() <= step * reach
        high = torch.where(close, middle + reach, x)
        low = torch.where(close, middle - reach, b)
        return (f(high) - f(low)) / (high - low)

    return multiplier


def step(f: Callable[[Tensor], Tensor]) -> Multiplier:
    """Δf / Δin for a function that jumps; zero where x = b."""

    def multiplier(x: Tensor, b: Tensor) -> Tensor:
        gap = x - b
        return torch.where(gap == 0, 0, (f(x) - f(b)) / gap)

    return multiplier


def log_mean(a: Tensor, b: Tensor, log_a: Tensor, log_b: Tensor) -> Tensor:
    """The logarithmic mean (a − b) / (log a − log b) of non-negative numbers, a where they are equal."""
    gap = (log_a - log_b).abs()
    share = torch.where(gap == 0, 1, -torch.expm1(-gap) / gap)
    return torch.maximum(a, b) * torch.where(gap.isnan(), 0, share)  # both are log 0


def power(exponent: float) -> Multiplier | None:
    """Of x^exponent in closed form; None where there is none."""
    if exponent == 0.5:
        return _sqrt
    if exponent == -0.5:
        return _rsqrt
    if exponent == -1:
        return lambda x, b: -1 / (x * b)
    if exponent == int(exponent) and 1 <= exponent <= 8:
        n = int(exponent)
        return lambda x, b: sum((x**i * b ** (n - 1 - i) for i in range(n)), start=torch.zeros_like(b))
    return None


def _relu(x: Tensor, b: Tensor) -> Tensor:
    """max(x, b) / |x − b| in [0, 1]: ReLU's Δout / Δin without cancellation, its derivative where x = b."""
    gap = (x - b).abs_().add_(torch.finfo(x.dtype).tiny)
    return torch.maximum(x, b).div_(gap).clamp_(0, 1)


def _sqrt(x: Tensor, b: Tensor) -> Tensor:
    total = x.sqrt() + b.sqrt()
    return torch.where(total == 0, 0, 1 / total)


def _rsqrt(x: Tensor, b: Tensor) -> Tensor:
    r, s = x.rsqrt(), b.rsqrt()
    return -(r * s) * (r * s / (r + s))


def _log(x: Tensor, b: Tensor) -> Tensor:
    return 1 / log_mean(x, b, x.log(), b.log())


def _log1p(x: Tensor, b: Tensor) -> Tensor:
    return 1 / log_mean(1 + x, 1 + b, x.log1p(), b.log1p())


def _exp(x: Tensor, b: Tensor) -> Tensor:
    return log_mean(x.exp(), b.exp(), x, b)


def _times(scale: float, m: Multiplier) -> Multiplier:
    return lambda x, b: m(x, b) * scale


_LN2, _LN10 = 0.6931471805599453, 2.302585092994046

CLOSED_FORMS: dict[str, Multiplier] = {
    "relu": _relu,
    "sqrt": _sqrt,
    "rsqrt": _rsqrt,
    "reciprocal": lambda x, b: -1 / (x * b),
    "square": lambda x, b: x + b,
    "log": _log,
    "log1p": _log1p,
    "log2": _times(1 / _LN2, _log),
    "log10": _times(1 / _LN10, _log),
    "exp": _exp,
    "expm1": _exp,
    "exp2": lambda x, b: _LN2 * log_mean(x.exp2(), b.exp2(), _LN2 * x, _LN2 * b),
}
"""By the function's name."""
