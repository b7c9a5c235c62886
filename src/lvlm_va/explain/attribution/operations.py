"""Operations with a rule, as autograd functions: forward as ever, backward by the rule for pairs of rows.

In the backward pass row p of a gradient belongs to pair p of an image x and a baseline b. Each rule returns
multipliers with which Σ m Δin = Δout exactly, for every pair:

    element-wise f           m = Δf / Δx, f′ where Δx vanishes                      (`Elementwise`)
    maxima                   the whole Δ to one of the two maxima's places          (`Largest`)
    polynomials of degree 2  the gradient at (x + b) / 2                            (`Quadratic`)
        such as products: Δ(uv) = ū Δv + v̄ Δu with the midpoints ū and v̄
    softmax p of z           Δp = (diag(m) − m mᵀ / Σm) Δz, m_k = Δp_k / Δ log p_k   (`Softmax`)
    standardised c / √(v+ε)  r̄ Δc + c̄ Δr, Δr = −(r_x r_b)² / (r_x + r_b) Δv          (`Standardised`)

The first two are DeepLIFT's (Shrikumar et al. 2017, Sec. 3.5.2). The third is the Shapley value of a game
of two factors, each contributing its mean marginal over both orders (Lundberg & Lee 2017, Sec. 4.2). The
softmax's follows from the first two: exp is element-wise, p = exp(log p), so Δp_k = m_k (Δz_k − Δ lse) with
the logarithmic mean m_k of p_k at x and at b; Σ Δp = 0 fixes Δ lse = Σ m_k Δz_k / Σ m. It needs no choice of
what is subtracted for stability, does not change when z is shifted, and tends to the Jacobian diag(p) − ppᵀ.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input

from lvlm_va.explain.attribution.pairing import Keeper, Kept, Pairing
from lvlm_va.explain.attribution.secants import Multiplier, log_mean

__all__ = ["Active", "Conv2d", "Elementwise", "Largest", "Quadratic", "Softmax", "Standardised"]


class Active(Protocol):
    """The rules in force, as those see them who take an operation apart: a mode (`with`) and its keeper."""

    keeper: Keeper

    def __enter__(self) -> Any: ...
    def __exit__(self, *_: Any) -> None: ...

    def secant(
        self, x: Tensor, call: Callable[[Tensor], Tensor], m: Multiplier, shaped: bool = False
    ) -> Tensor:
        """call(x), element-wise, with the multiplier m, which must see the shape of x where `shaped`."""

    def quadratic(self, pure: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """pure(*args, **kwargs), of degree two at most in the arguments that depend on the batch."""

    def unknown(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function for which there is no rule, and remember its name."""


class _Ruled(Function):
    """What the rules for one kept operand share: `pair` says what becomes of a block's gradient."""

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        pairing: Pairing = ctx.pairing
        kept: Kept = ctx.kept
        grad = kept.layout.by_row(grad)
        out = grad.new_empty(len(grad), *kept.values.shape[1:])
        out[pairing.pairs :] = 0
        for rows, _, x, b in pairing.blocks(kept.values):
            ctx.pair(ctx, grad[rows], x, b, out[rows])
        return kept.layout.restored(out), *(None for _ in range(ctx.others))


class Elementwise(_Ruled):
    """y = f(x), in place where the call is; backward multiplies by Δy / Δx.

    The multiplier sees the dimensions as the function does where `shaped`: it may have a parameter a channel.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, keeper: Keeper, call: Callable[[Tensor], Tensor], m: Multiplier, shaped: bool
    ) -> Tensor:
        ctx.kept, ctx.pairing, ctx.multiplier, ctx.shaped, ctx.others = keeper.keep(x), keeper, m, shaped, 4
        ctx.pair = Elementwise.pair
        y = call(x)
        if y is x:
            ctx.mark_dirty(x)
        return y

    @staticmethod
    def pair(ctx: Any, grad: Tensor, x: Tensor, b: Tensor, out: Tensor) -> None:
        layout = ctx.kept.layout
        if ctx.shaped:
            m = layout.by_row(ctx.multiplier(layout.restored(x.expand_as(b)), layout.restored(b)))
        else:
            m = ctx.multiplier(x, b)
        torch.mul(grad, m, out=out)


class Largest(Function):
    """y = max over windows; backward gives each window's Δy to one position, adding where windows overlap.

    With p the maximum's position in the image, q in the baseline: if y_x ≥ y_b position p takes all of
    Δy = x_p − b_q, since there Δx_p = x_p − b_p ≥ Δy ≥ 0; otherwise q does, since Δx_q ≤ Δy < 0. So
    the multiplier Δy / Δx is in [0, 1] and contributions sum to Δy exactly (as in the SHAP package).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, keeper: Keeper, pool: Callable[[Tensor], tuple[Tensor, Tensor]], space: int
    ) -> Tensor:
        """`pool` answers with values and with positions in the last `space` dimensions of x, flattened."""
        y, where = pool(x)
        ctx.kept = keeper.keep(x)
        ctx.where = keeper.keep(where, ctx.kept.layout)
        ctx.pairing, ctx.shape, ctx.space = keeper, x.shape, space
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        k, pairing = ctx.space, ctx.pairing
        layout = ctx.kept.layout
        x, where, grad = (t.flatten(-k) for t in (ctx.kept.values, ctx.where.values, layout.by_row(grad)))
        out = grad.new_zeros(len(grad), *x.shape[1:])
        for (rows, _, at_x, at_b), (_, _, p, q) in zip(pairing.blocks(x), pairing.blocks(where), strict=True):
            at_x = at_x.expand_as(at_b)
            y_x, y_b = at_x.gather(-1, p.expand_as(q)), at_b.gather(-1, q)
            s = torch.where(y_x >= y_b, p, q)
            gap = at_x.gather(-1, s) - at_b.gather(-1, s)
            m = torch.where(gap == 0, 1, (y_x - y_b) / gap).clamp_(0, 1)
            out[rows].scatter_add_(-1, s, m * grad[rows])
        out = out.unflatten(-1, ctx.shape[-k:])  # type: ignore[no-untyped-call]
        return layout.restored(out), None, None, None


class Quadratic(Function):
    """A polynomial of degree at most two in its operands; backward is its gradient at the midpoints.

    q(x) − q(b) = ∇q((x + b) / 2) · (x − b) holds for these, and for no other polynomials.
    """

    @staticmethod
    def forward(ctx: Any, keeper: Keeper, f: Callable[..., Any], *operands: Tensor) -> Any:
        ctx.kept, ctx.pairing, ctx.f = [keeper.keep(x) for x in operands], keeper, f
        return f(*operands)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        middles = [ctx.pairing.middles(kept).requires_grad_() for kept in ctx.kept]
        with torch.enable_grad():
            y = ctx.f(*middles)
        outputs = (y,) if isinstance(y, Tensor) else tuple(y)
        return None, None, *torch.autograd.grad(outputs, middles, grads)


class Softmax(_Ruled):
    """Softmax, log-softmax or the logarithm of the sum of exponentials over the last dimension.

    With weights w = m / Σm: Δ lse = Σ w Δz, Δ log p = Δz − Δ lse, Δp = m Δ log p.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, keeper: Keeper, f: Callable[..., Tensor]) -> Tensor:
        """F is `torch.softmax`, `torch.log_softmax` or `torch.logsumexp`, which keeps the dimension."""
        ctx.kept, ctx.pairing, ctx.f, ctx.pair, ctx.others = keeper.keep(z), keeper, f, Softmax.pair, 2
        return torch.logsumexp(z, -1, keepdim=True) if f is torch.logsumexp else f(z, -1)

    @staticmethod
    def pair(ctx: Any, grad: Tensor, x: Tensor, b: Tensor, out: Tensor) -> None:
        log_x, log_b = x.log_softmax(-1), b.log_softmax(-1)
        m = log_mean(log_x.exp(), log_b.exp(), log_x, log_b)
        w = m / m.sum(-1, keepdim=True)
        if ctx.f is torch.softmax:
            torch.mul(m, grad - (w * grad).sum(-1, keepdim=True), out=out)
        elif ctx.f is torch.log_softmax:
            torch.sub(grad, w * grad.sum(-1, keepdim=True), out=out)
        else:
            torch.mul(w, grad, out=out)


class Standardised(_Ruled):
    """(x − μ) / √(v + ε) over the last dimension, or x / √(mean x² + ε) if not `centred`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, keeper: Keeper, eps: float, centred: bool) -> Tensor:
        ctx.kept, ctx.pairing, ctx.eps, ctx.centred = keeper.keep(x), keeper, eps, centred
        ctx.pair, ctx.others = Standardised.pair, 3
        c, r = Standardised.parts(x, eps, centred)
        return c * r

    @staticmethod
    def parts(x: Tensor, eps: float, centred: bool) -> tuple[Tensor, Tensor]:
        """C and r = (v + ε)^(-1/2)."""
        c = x - x.mean(-1, keepdim=True) if centred else x
        return c, c.square().mean(-1, keepdim=True).add_(eps).rsqrt_()

    @staticmethod
    def pair(ctx: Any, grad: Tensor, x: Tensor, b: Tensor, out: Tensor) -> None:
        (c, r), (d, s) = (Standardised.parts(side, ctx.eps, ctx.centred) for side in (x, b))
        middle = (c + d) / 2
        # Δv = 2 mean(c̄ Δc), and the secant of v ↦ v^(-1/2) without cancellation.
        slope = -(r * s) * (r * s / (r + s))
        torch.mul(grad, (r + s) / 2, out=out)
        out += middle * (2 * slope * (middle * grad).mean(-1, keepdim=True))
        if ctx.centred:
            out -= out.mean(-1, keepdim=True)


class Conv2d(Function):
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
