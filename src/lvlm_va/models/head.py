"""From what a network's last layer gives to one logit per class: the one place that knows about heads.

A single logit z stands for the two logits (−z/2, z/2). Their softmax is (1 − σ(z), σ(z)), so that loss,
entropy, attributions and right-reasons term are those of a sigmoid, and nothing else has to know.

With several labels an image there is one logit for each label; `likelihood` says what follows from them.

A softmax or a sigmoid at the network's end is taken off: the logits are what goes into it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lvlm_va.errors import ConfigError, ModelError
from lvlm_va.io.hints import did_you_mean

__all__ = ["Head", "HeadKind", "LastFunction"]

HeadKind = Literal["auto", "softmax", "single-logit", "sigmoid"]
End = Literal["softmax", "log-softmax", "sigmoid", "log-sigmoid"]


@dataclass(frozen=True)
class Head:
    """What the outputs of a network are.

    Attributes:
        kind: "softmax" (one logit per class), "single-logit" (one for two classes), "sigmoid" (one for each
            of several labels), or "auto": the second where there is one output and two classes, else the
            first.
        outputs: which outputs are the classes, in their order, or the one that is the single logit, counted
            from 0; all of them when None.
        of_first: whether the single logit speaks for the first of the two classes instead of the second.
        end: the function at the network's end that is taken off; None where there is none.
        position: which of several outputs the logits are where the network returns more in training mode than
            in evaluation mode; None where it does not.
    """

    kind: HeadKind = "auto"
    outputs: tuple[int, ...] | None = None
    of_first: bool = False
    end: End | None = None
    position: str | None = None

    @classmethod
    def named(
        cls,
        kind: HeadKind,
        outputs: Sequence[int] | Sequence[str] | None,
        classes: Sequence[str],
        *,
        several: bool = False,
    ) -> "Head":
        """What `model.head` and `model.outputs` say.

        Args:
            kind: see `Head`.
            outputs: the positions of the classes among the outputs, or the names of *all* outputs, among
                which the classes are found by theirs. One position, or one name that is a class of two: a
                single logit.
            classes: the K class names.
            several: whether an image may have several labels, or none: "auto" is then "sigmoid".

        Raises:
            ConfigError: if they do not fit the classes.
        """
        if several and kind == "auto":
            kind = "sigmoid"
        if several != (kind == "sigmoid"):
            raise ConfigError(_of_other_labels(kind, several=several))
        if kind == "single-logit" and len(classes) != 2:
            raise ConfigError(
                f"model.head is single-logit, which is for two classes, but there are {len(classes)}; leave "
                "it out, or say softmax"
            )
        if outputs is None:
            return cls(kind)
        positions, names = _positions(outputs, classes)
        if kind == "auto":
            wanted: tuple[int, ...] = (len(classes), 1)
        else:
            wanted = (1,) if kind == "single-logit" else (len(classes),)
        if len(classes) != 2:
            wanted = (len(classes),)
        if len(positions) not in wanted:
            raise ConfigError(_misfit(kind, outputs, positions, classes))
        single = len(positions) == 1 and len(classes) == 2
        return cls(
            "single-logit" if single else "sigmoid" if several else "softmax",
            positions,
            of_first=single and names[:1] == [classes[0]],
        )

    def widths(self, num_classes: int | None) -> tuple[int, ...] | None:
        """How many outputs the network may have; None where any number will do."""
        if num_classes is None or self.outputs is not None:
            return None
        if self.kind == "single-logit":
            return (1,)
        return (2, 1) if self.kind == "auto" and num_classes == 2 else (num_classes,)

    def logits(self, outputs: Tensor, n: int, num_classes: int | None) -> Tensor:
        """(n, K) logits from a network's outputs for n images.

        Args:
            outputs: (n, M), with or without dimensions of 1 (a `squeeze` that took too many is undone).
            n: number of images.
            num_classes: K; None where unknown: then a single output is left alone under "auto".

        Raises:
            ModelError: if the outputs that are wanted are not there.
        """
        x = outputs
        if x.ndim < 2:
            # Not for a tensor of another length, of which `check_outputs` tells.
            x = x.reshape(n, -1) if _divides(n, x) else x
        elif x.ndim > 2 and all(side == 1 for side in x.shape[2:]):
            x = x.flatten(1)
        if self.outputs is not None:
            if x.ndim != 2 or x.shape[1] <= max(self.outputs):
                raise ModelError(
                    f"model.outputs names output {max(self.outputs)} (counted from 0), but the model returns "
                    f"{tuple(x.shape)} for {n} images"
                )
            x = x[:, list(self.outputs)]
        single = self.kind == "single-logit" or (self.kind == "auto" and num_classes == 2)
        if single and x.ndim == 2 and x.shape[1] == 1:
            half = x / 2
            return torch.cat([half, -half] if self.of_first else [-half, half], 1)
        return x

    def parts(self, logits: Tensor, outputs: Tensor) -> Tensor:
        """The outputs with which `logits` gives (K, ·) rows: the other way round, exact for their softmax.

        Args:
            logits: (K, ·), row k for class k, linear in what the outputs' rows are linear in.
            outputs: (M, ·), the rows as they are; those of no class are kept.
        """
        rows = logits[1:] - logits[:1] if self.kind == "single-logit" else logits
        if self.of_first:
            rows = -rows
        if self.outputs is None:
            return rows
        changed = outputs.clone()
        changed[list(self.outputs)] = rows.to(outputs)
        return changed

    @property
    def plain(self) -> bool:
        """Whether the network's outputs are the logits as they are."""
        return (self.kind, self.outputs, self.end) in (("auto", None, None), ("softmax", None, None))

    def words(self, classes: Sequence[str]) -> str:
        """What was decided, in one line."""
        positions = self.outputs
        if self.kind == "single-logit":
            what = "the single output" if positions is None else f"output {positions[0]} (from 0)"
            text = f"{what} is the log-odds of {classes[0 if self.of_first else 1]} (single-logit)"
        elif self.kind == "sigmoid" and positions is None:
            text = (
                f"one output for each of {len(classes)} labels, of which an image may have several or none "
                "(sigmoid)"
            )
        elif positions is None:
            text = f"one output for each of {len(classes)} classes (softmax)"
        else:
            pairs = ", ".join(f"{p} {name}" for p, name in zip(positions, classes, strict=True))
            text = f"of the outputs, counted from 0, {pairs} ({self.kind})"
        if self.end is not None:
            text += f"; the {self.end} at the network's end is taken off: logits are explained and trained"
        if self.position is not None:
            text += f"; in training mode the network returns more, of which output {self.position} is taken"
        return text


def _of_other_labels(kind: HeadKind, *, several: bool) -> str:
    if several:
        return (
            f"model.head is {kind}, which is for one class an image, but here an image may have several "
            "labels or none; leave it out, or say sigmoid. To set aside the rows of a manifest that have not "
            "exactly one label, say data.labels: one"
        )
    return (
        "model.head is sigmoid, which is for images with several labels, but here every image has one class; "
        "leave it out, or say softmax. To read a manifest's labels as several, say data.labels: several"
    )


def _positions(
    outputs: Sequence[int] | Sequence[str], classes: Sequence[str]
) -> tuple[tuple[int, ...], list[str]]:
    """Where the classes are among the outputs, and the names by which they were found."""
    named = [value for value in outputs if isinstance(value, str)]
    if len(named) < len(outputs):
        numbers = [value for value in outputs if not isinstance(value, str)]
        return tuple(numbers), []
    found = [name for name in classes if name in named]
    if not found:
        raise ConfigError(
            f"model.outputs names none of the classes {', '.join(classes)}; {did_you_mean(classes[0], named)}"
        )
    return tuple(named.index(name) for name in found), found


def _misfit(
    kind: str, outputs: Sequence[int] | Sequence[str], positions: Sequence[int], classes: Sequence[str]
) -> str:
    named = [value for value in outputs if isinstance(value, str)]
    if named and (missing := [name for name in classes if name not in named]) and kind != "single-logit":
        return (
            f"model.outputs does not name {', '.join(missing)}; give the names of all outputs of the network "
            "in their order, the classes among them"
        )
    wanted = "one, the single logit" if kind == "single-logit" else f"{len(classes)}, one per class"
    return f"model.outputs gives {len(positions)} outputs instead of {wanted} ({', '.join(classes)})"


def _divides(n: int, tensor: Tensor) -> bool:
    return tensor.numel() > 0 and tensor.numel() % n == 0


class LastFunction(TorchFunctionMode):
    """While active, remembers the softmax or sigmoid that was called last, and what went into it.

    Attributes:
        linear: what the last linear map gave.
    """

    linear: Tensor | None = None
    _last: tuple[Tensor, Tensor, End] | None = None

    def before(self, outputs: Tensor) -> tuple[Tensor, End] | None:
        """What went into the function whose result is `outputs`, and its name; None without one."""
        if self._last is None or self._last[0] is not outputs:
            return None
        return self._last[1:]

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given = args[0] if args else kwargs.get("input")
        if func in _ENDS and isinstance(given, Tensor):
            if _over_classes(func, result, args[1:], kwargs):
                self._last = result, given, _ENDS[func]
        elif func in _RESHAPING and self._last is not None and given is self._last[0]:
            before, end = self._last[1:]
            rest = {key: value for key, value in kwargs.items() if key != "input"}
            self._last = result, func(before, *args[1:], **rest), end
        elif func in _LINEAR or (func in _RESHAPING and given is self.linear and given is not None):
            self.linear = result
        return result


def _over_classes(func: Any, result: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a softmax is over the classes of each image, not over the images; a sigmoid is over nothing."""
    if _ENDS[func] in ("sigmoid", "log-sigmoid"):
        return True
    dim = args[0] if args else kwargs.get("dim")
    return dim == 1 or (dim in (-1, None) and result.ndim == 2)


def _called(*names: str) -> list[Any]:
    """Torch's functions and methods of these names."""
    spaces: tuple[Any, ...] = (torch, F, Tensor, torch.special)
    return [getattr(space, name) for space in spaces for name in names if hasattr(space, name)]


_NAMES: dict[End, tuple[str, ...]] = {
    "softmax": ("softmax",),
    "log-softmax": ("log_softmax",),
    "sigmoid": ("sigmoid", "expit"),
    "log-sigmoid": ("logsigmoid",),
}
_ENDS: dict[Any, End] = {function: end for end, names in _NAMES.items() for function in _called(*names)}
_RESHAPING = frozenset(
    _called("squeeze", "unsqueeze", "flatten", "view", "reshape", "contiguous", "float", "double", "to")
)
"""What keeps every number where it is, so that it may as well be done before a softmax or sigmoid."""
_LINEAR = frozenset(_called("linear", "addmm", "matmul", "mm"))
