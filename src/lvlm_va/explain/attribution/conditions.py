"""Conditions on activations: x > 0 and what is chosen, masked or counted by it.

A condition is a boolean tensor, which carries no gradient. It is remembered with its mirror, a tensor of
zeros and ones that depends on the activations by a step whose multiplier is the secant's slope.
`torch.where(c, a, b)` is then c·a + (1 − c)·b, products that have a rule, and so exact wherever both a and b
are finite.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lvlm_va.explain.attribution.operations import Active
from lvlm_va.explain.attribution.secants import step
from lvlm_va.explain.attribution.tables import AFFINE, QUADRATIC, in_place, tensors, ways

__all__ = ["COMPARISONS", "Conditions"]

_TESTS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "gt": torch.gt, "greater": torch.gt, "ge": torch.ge, "greater_equal": torch.ge, "lt": torch.lt,
    "less": torch.lt, "le": torch.le, "less_equal": torch.le, "eq": torch.eq, "ne": torch.ne,
    "not_equal": torch.ne,
}  # fmt: skip
COMPARISONS = {way: test for name, test in _TESTS.items() for way in ways(name) if not in_place(way)}
"""Each way of comparing -> the test of the difference against zero."""

_LOGIC: dict[str, Callable[..., Tensor]] = {
    "and": lambda a, b: a * b,
    "or": lambda a, b: a + b - a * b,
    "xor": lambda a, b: a + b - 2 * (a * b),
    "not": lambda a: 1 - a,
}
_LOGICAL = {
    way: logic
    for name, logic in _LOGIC.items()
    for form in (name, f"logical_{name}", f"bitwise_{name}", *(("invert",) if name == "not" else ()))
    for way in ways(form)
}
_WHERE, _FILL = frozenset(ways("where")), frozenset(ways("masked_fill"))


_INDEXING = frozenset(
    way
    for name in ("getitem", "setitem", "masked_select", "masked_scatter", "index_put")
    for way in ways(name)
)
_NUMERIC = AFFINE | frozenset(QUADRATIC) | frozenset(ways("div"))


class Conditions:
    """The conditions of one forward pass."""

    def __init__(self) -> None:
        self._mirrors: dict[int, tuple[Tensor, Tensor]] = {}

    def __contains__(self, value: Tensor) -> bool:
        return id(value) in self._mirrors

    def made(self, rules: Active, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A comparison of activations."""
        if kwargs or len(args) != 2 or not all(isinstance(v, Tensor | int | float) for v in args):
            return rules.unknown(func, args, kwargs)
        answer = func(*args)
        with rules:
            gap = self._mirror(args[0]) - self._mirror(args[1])
        if gap.is_floating_point():
            test = COMPARISONS[func]

            def f(a: Tensor) -> Tensor:
                return test(a, 0).to(a.dtype)

            self._put(answer, rules.secant(gap, f, step(f)))
        return answer

    def used(self, rules: Active, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call with a condition among its arguments."""
        if func in COMPARISONS:
            return self.made(rules, func, args, kwargs)
        if func in _LOGICAL:
            answer = func(*args, **kwargs)
            with rules:
                self._put(answer, _LOGICAL[func](*map(self._mirror, args)))
            return answer
        if func in _WHERE or func in _FILL:
            if kwargs or len(args) != 3 or any(isinstance(v, float) and abs(v) == torch.inf for v in args):
                return rules.unknown(func, args, kwargs)
            if func in _FILL:
                b, c, a = args
            else:
                a, c, b = args if func is Tensor.where else (args[1], args[0], args[2])
            with rules:
                c, a, b = map(self._mirror, (c, a, b))
                chosen = c * a + (1 - c) * b
            return args[0].copy_(chosen) if in_place(func) else chosen
        if func not in _NUMERIC or (func in _INDEXING and any(v in self for v in tensors(args[1:]))):
            return rules.unknown(func, args, kwargs)
        plain = func(*args, **kwargs)
        if not isinstance(plain, Tensor):
            return plain
        with rules:
            value = func(*map(self._mirror, args), **kwargs)
        if plain.is_floating_point():
            return value
        if plain.dtype == torch.bool and value.is_floating_point():
            self._put(plain, value)
            return plain
        return rules.unknown(func, args, kwargs)  # counted: an integer, which carries no gradient

    def _put(self, condition: Tensor, mirror: Tensor) -> None:
        self._mirrors[id(condition)] = (condition, mirror)  # held, so that no other has its id

    def _mirror(self, value: Any) -> Any:
        if isinstance(value, Tensor) and value in self:
            return self._mirrors[id(value)][1]
        if isinstance(value, Tensor) and value.dtype == torch.bool:
            return value.to(torch.get_default_dtype())
        return value
