"""DeepLIFT's rules, applied to whatever a model calls while it runs forward.

`Rules` is a mode: it sees each call of a function of torch, from a module or not, reused or not, in place or
not, so no module needs to be hooked, copied or rewritten. What has a rule (`operations`) is differentiated
by it; what is made of such operations is taken apart (`composites`).

All other operations must be affine and treat the rows of a batch alike, so that in the backward pass a row
may carry the multipliers of *any* pair of an image and a baseline: `pairing.Pairing` says which.
Completeness, which is checked for every batch, tells where that does not hold; `Rules` remembers names for
the reason.
"""

from collections.abc import Callable
from functools import lru_cache
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lvlm_va.explain.attribution.composites import COMPOSITES, clamped
from lvlm_va.explain.attribution.conditions import COMPARISONS, Conditions
from lvlm_va.explain.attribution.operations import Elementwise, Quadratic
from lvlm_va.explain.attribution.pairing import Keeper
from lvlm_va.explain.attribution.secants import CLOSED_FORMS, Multiplier, quotient, step
from lvlm_va.explain.attribution.tables import AFFINE, ELEMENTWISE, QUADRATIC, STEPS, in_place, tensors

__all__ = ["Rules"]


class Rules(TorchFunctionMode):
    """While active, operations on the batch are differentiated by DeepLIFT's rules.

    The model's parameters must not require gradients (see `frozen`).

    Args:
        keeper: where the rules keep what they need and find it again.

    Attributes:
        without_rule: names of the operations on the batch that have no rule and are not known to be affine.
        cut: names of those whose result depends on the batch and hides it from differentiation (`detach`).
    """

    def __init__(self, keeper: Keeper) -> None:
        super().__init__()
        self.keeper = keeper
        self.without_rule: set[str] = set()
        self.cut: set[str] = set()
        self._conditions = Conditions()
        self._open: list[Any] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = tensors((args, kwargs))
        batch = [v for v in given if v.requires_grad]
        if any(v in self._conditions for v in given):
            return self._conditions.used(self, func, args, kwargs)
        if not batch:
            return func(*args, **kwargs)
        if not torch.is_grad_enabled():
            self.cut.add("torch.no_grad, or an autograd.Function of its own")
        if func in ELEMENTWISE:
            return self._elementwise(func, batch, args, kwargs)
        if func in QUADRATIC and (len(batch) > 1 or func in _SQUARES):
            name, pure = QUADRATIC[func]
            if name == "einsum" and len(batch) > 2:
                return self.unknown(func, args, kwargs)
            y = self.quadratic(pure, args, kwargs)
            return args[0].copy_(y) if in_place(func) else y
        if func in COMPOSITES:
            if "input" in kwargs:
                args, kwargs = (kwargs["input"], *args), {k: v for k, v in kwargs.items() if k != "input"}
            answer = COMPOSITES[func](self, *args, **kwargs)
            if answer is not NotImplemented:
                return args[0].copy_(answer) if in_place(func) else answer
            return self.unknown(func, args, kwargs)
        if func in COMPARISONS:
            return self._conditions.made(self, func, args, kwargs)
        if func in AFFINE or func in QUADRATIC or getattr(func, "__name__", "") == "__get__":
            return func(*args, **kwargs)
        inside = None if func in self._open else _opened(func)
        if inside is not None:
            self._open.append(func)
            try:
                with self:
                    return inside(*args, **kwargs)
            finally:
                self._open.pop()
        return self.unknown(func, args, kwargs)

    def unknown(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function for which there is no rule, and remember its name."""
        answer = func(*args, **kwargs)
        name = str(getattr(func, "__name__", func)).strip("_")
        if any(x.is_complex() for x in tensors((args, kwargs))):
            name += " of complex numbers"
        for y in tensors(answer):
            if y.requires_grad:
                self.without_rule.add(name)
            else:
                self.cut.add(name)
        return answer

    def secant(
        self, x: Tensor, call: Callable[[Tensor], Tensor], m: Multiplier, shaped: bool = False
    ) -> Tensor:
        """call(x), element-wise, with the multiplier m, which must see the shape of x where `shaped`."""
        y: Tensor = Elementwise.apply(x, self.keeper, call, m, shaped)  # type: ignore[no-untyped-call]
        return y

    def _elementwise(
        self, func: Any, batch: list[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        name, pure = ELEMENTWISE[func]
        x, *rest = args or (kwargs.pop("input"),)
        if name in ("clamp", "clip", "clamp_min", "clamp_max") and any(v is not x for v in batch):
            y = clamped(self, name, x, *rest, **kwargs)
            return x.copy_(y) if in_place(func) else y
        if len(batch) > 1 or batch[0] is not x or x.is_complex():
            return self.unknown(func, (x, *rest), kwargs)
        options = {k: v for k, v in kwargs.items() if k != "inplace"}

        def f(a: Tensor) -> Tensor:
            y: Tensor = pure(a, *rest, **options)
            return y

        m = step(f) if name in STEPS else CLOSED_FORMS.get(name) or quotient(f)
        return self.secant(x, lambda a: func(a, *rest, **kwargs), m, bool(tensors((rest, options))))

    def quadratic(self, pure: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """pure(*args, **kwargs), of degree two at most in the arguments that depend on the batch."""
        operands = list({id(x): x for x in tensors((args, kwargs)) if x.requires_grad}.values())
        # The graph must hold what the call is made of, not the activations.
        slots = {id(x): _Slot(i) for i, x in enumerate(operands)}
        args, kwargs = _mapped((args, kwargs), lambda v: slots.get(id(v), v))

        def f(*values: Tensor) -> Any:
            filled, named = _mapped((args, kwargs), lambda v: values[v.number] if isinstance(v, _Slot) else v)
            return pure(*filled, **named)

        return Quadratic.apply(self.keeper, f, *operands)  # type: ignore[no-untyped-call]


_SQUARES = frozenset(way for way, (name, _) in QUADRATIC.items() if name in ("var", "var_mean"))
"""Of degree two in one operand."""


class _Slot(NamedTuple):
    """Where an operand stands among a call's arguments."""

    number: int


def _mapped(values: Any, f: Callable[[Any], Any]) -> Any:
    """The same arguments with f applied to each that is no list, tuple or dictionary."""
    if isinstance(values, dict):
        return {k: _mapped(v, f) for k, v in values.items()}
    if type(values) in (list, tuple):
        return type(values)(_mapped(v, f) for v in values)
    return f(values)


@lru_cache(maxsize=256)
def _opened(func: Any) -> Callable[..., Any] | None:
    """A function of torch written in Python, whose calls show one by one; None for any other."""
    if not isinstance(func, FunctionType) or not str(func.__module__).startswith("torch."):
        return None
    # As it asks whether to hand itself over to a mode, it would never come to its own calls.
    asked = [name for name in func.__globals__ if name.startswith("has_torch_function")]
    unasked = func.__globals__ | {name: lambda *_: False for name in asked}
    opened = FunctionType(func.__code__, unasked, func.__name__, func.__defaults__, func.__closure__)
    opened.__kwdefaults__ = func.__kwdefaults__
    return opened
