"""Which of torch's functions are element-wise, quadratic or affine, in every way they can be called."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["AFFINE", "ELEMENTWISE", "QUADRATIC", "STEPS", "in_place", "tensors", "ways"]

# fmt: off
_ELEMENTWISE = (
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish",
    "hardswish", "hardsigmoid", "hardtanh", "sigmoid", "tanh", "softplus", "logsigmoid", "softsign",
    "threshold", "hardshrink", "softshrink", "tanhshrink", "clamp", "clamp_min", "clamp_max", "clip",
    "abs", "absolute", "square", "sqrt", "rsqrt", "reciprocal", "exp", "exp2", "expm1", "log", "log2",
    "log10", "log1p", "erf", "erfc", "expit", "atan", "arctan", "sin", "cos", "sinc", "sinh", "cosh",
    "asinh", "nan_to_num",
)
STEPS = ("sign", "sgn", "round", "floor", "ceil", "trunc", "fix", "frac")

_QUADRATIC = (
    "mul", "multiply", "matmul", "bmm", "mm", "mv", "dot", "vdot", "inner", "outer", "linear", "bilinear",
    "addmm", "baddbmm", "addbmm", "addmv", "addr", "addcmul", "lerp", "einsum", "tensordot", "var",
    "var_mean", "kron", "conv1d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
)
_AFFINE = (
    "add", "sub", "subtract", "rsub", "neg", "negative", "positive", "pos", "sum", "mean", "nansum",
    "cumsum", "diff", "cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack",
    "column_stack", "block_diag", "view", "view_as", "reshape", "reshape_as", "flatten", "unflatten",
    "ravel", "squeeze", "unsqueeze", "expand", "expand_as", "broadcast_to", "broadcast_tensors", "repeat",
    "repeat_interleave", "tile", "permute", "transpose", "t", "swapaxes", "swapdims", "movedim",
    "moveaxis", "adjoint", "contiguous", "clone", "to", "type", "type_as", "float", "double", "half",
    "bfloat16", "cpu", "cuda", "alias", "requires_grad_", "as_strided", "getitem", "setitem", "select",
    "narrow", "slice", "index_select", "gather", "take", "take_along_dim", "index", "index_add",
    "index_copy", "index_put", "scatter", "scatter_add", "masked_select", "masked_scatter", "chunk",
    "split", "split_with_sizes", "tensor_split", "hsplit", "vsplit", "unbind", "flip", "fliplr", "flipud",
    "rot90", "roll", "tril", "triu", "diag", "diagonal", "diag_embed", "trace", "unfold", "fold",
    "im2col", "col2im", "pad", "constant_pad_nd", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
    "native_channel_shuffle", "interpolate", "upsample", "upsample_nearest", "upsample_bilinear",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_avg_pool3d", "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout",
    "feature_alpha_dropout", "identity", "copy", "fill", "zero", "where", "masked_fill", "fill_diagonal",
    "real", "imag", "complex", "view_as_real", "view_as_complex", "conj", "resolve_conj", "fft_fft",
    "fft_ifft", "fft_rfft", "fft_irfft", "fft_fft2", "fft_ifft2", "fft_rfft2", "fft_irfft2", "fft_fftn",
    "fft_ifftn", "fft_rfftn", "fft_irfftn", "fft_fftshift", "fft_ifftshift", "atleast_1d", "atleast_2d",
    "atleast_3d", "affine_grid", "empty_like", "zeros_like", "ones_like", "full_like", "new_zeros",
    "new_ones", "new_empty", "new_full", "size", "dim", "numel", "stride", "is_floating_point",
    "is_complex", "is_contiguous", "get_device", "ndimension", "nelement", "element_size",
    "storage_offset", "data_ptr", "len", "format", "repr", "str", "meshgrid", "register_hook",
    "retain_grad", "backward",
)
# fmt: on

_SPACES: tuple[Any, ...] = (torch, F, Tensor, torch.special, torch.linalg, torch.fft)


def ways(name: str) -> Iterable[Callable[..., Any]]:
    """Every function that is called so, in place or not, as a function, a method or an operator."""
    names = (name, f"{name}_", f"__{name}__", f"__r{name}__", f"__i{name}__", f"special_{name}")
    found = [getattr(space, way, None) for space in _SPACES for way in names]
    stripped = name.removeprefix("fft_")
    if stripped != name:
        found.append(getattr(torch.fft, stripped, None))
    return [function for function in found if function is not None]


def in_place(function: Any) -> bool:
    """Whether it is called for what it does to its first argument: `mul_`, `*=`."""
    name = str(getattr(function, "__name__", ""))
    return (name.endswith("_") and not name.endswith("__")) or name in _AUGMENTED


_AUGMENTED = frozenset(
    f"__i{name}__" for name in ("add", "sub", "mul", "div", "truediv", "pow", "and", "or", "xor")
)


def tensors(values: Any) -> list[Tensor]:
    """All tensors among the arguments of a call."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, list | tuple):
        return []
    return [found for value in values for found in tensors(value)]


def _pure(name: str) -> Callable[..., Any]:
    """Out of place."""
    spaces = (F, torch, torch.special, Tensor)
    found: Callable[..., Any] = next(getattr(space, name) for space in spaces if hasattr(space, name))
    return found


def _table(names: Iterable[str]) -> dict[Any, tuple[str, Callable[..., Any]]]:
    return {way: (name, _pure(name)) for name in names for way in ways(name)}


ELEMENTWISE = _table((*_ELEMENTWISE, *STEPS))
"""Each way of calling it -> its name, and the same out of place."""

QUADRATIC = _table(_QUADRATIC)
"""The same of polynomials of degree at most two, when two of their arguments depend on the input."""

AFFINE = frozenset(way for name in _AFFINE for way in ways(name))
"""Functions that need no rule."""
