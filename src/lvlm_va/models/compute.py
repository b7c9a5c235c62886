"""Where a model computes, in which number format, and in which memory format: decided in one place.

Measured with ResNet-50 at 224², per image and training step on a CPU with native bfloat16: float32 245 ms,
bfloat16 105 ms, bfloat16 with channels_last 55 ms. For the double backward pass of a right-reasons term it is
the other way round: 335 ms with contiguous tensors, 653 ms with channels_last.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

__all__ = ["Compute", "Precision", "choose_compute", "full_float32", "has_bfloat16"]

Precision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Compute:
    """How a model is trained on this machine.

    Attributes:
        device: where.
        dtype: of convolutions and matrix products, float32 or bfloat16; weights, gradients, the optimizer
            and the loss stay in float32.
        channels_last: memory format of ordinary training steps; double backward passes are contiguous.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    channels_last: bool = False

    def autocast(self) -> AbstractContextManager[object]:
        """Inside the block the model computes in `dtype`; without effect for float32.

        Outputs may be bfloat16: call `.float()` on them before the softmax.
        """
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def place(self, model: nn.Module, images: Tensor, *, twice: bool = False) -> Tensor:
        """Put a step's images and the model's convolutions in the memory format in which the step is fast.

        The weights keep their values and the order of their indices; only their strides change. An optimizer
        that has taken a step has state in the old strides, so keep to one `twice` while one optimizer lives.

        Args:
            model: on `device`; in float32 it is left as it is.
            images: (n, C, H, W) float32, anywhere.
            twice: True if the step differentiates a gradient.

        Returns:
            The images on `device`.
        """
        images = images.to(self.device)
        if not self.channels_last:
            return images
        layout = torch.contiguous_format if twice else torch.channels_last
        for parameter in model.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=layout)
        return images.contiguous(memory_format=layout)

    def settle(self, model: nn.Module) -> None:
        """After training: weights in the memory format in which checkpoints are read.

        What is measured then is to the bit what it is after reading the model again, and float32, in which
        everything is measured, need not go through kernels of the other format.
        """
        if self.channels_last:
            for parameter in model.parameters():
                parameter.data = parameter.data.contiguous()

    def __str__(self) -> str:
        return f"{self.device}, {str(self.dtype).removeprefix('torch.')}"


def choose_compute(model: nn.Module, precision: Precision = "auto") -> Compute:
    """How to train `model` where it is.

    Args:
        model: on its device.
        precision: "auto" is bfloat16 for convolutional networks on hardware that multiplies in it, else
            float32: a small perceptron gains nothing and loses digits.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
    low = precision == "bfloat16" or (precision == "auto" and convolutional and has_bfloat16(device))
    return Compute(device, torch.bfloat16 if low else torch.float32, low and convolutional)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies in bfloat16; where it is only emulated, it is slower than float32."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    # Older versions of torch do not say; then float32 is the safe answer.
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    flags = torch.cpu.get_capabilities()
    return bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))


@contextmanager
def full_float32() -> Iterator[None]:
    """Inside the block, float32 means float32 on a GPU too; afterwards every setting is as it was.

    By default torch lets cuDNN convolve in TensorFloat-32, which rounds float32 inputs to 10 bits: enough to
    train, but not for attributions that must add up to 1e-4. The settings are those of the whole process.
    """
    cudnn: Any = torch.backends.cudnn
    matmul = torch.backends.cuda.matmul
    try:
        before = cudnn.allow_tf32, torch.get_float32_matmul_precision()
    except RuntimeError:  # set in the way of torch 2.9, beside which the older one must not be used
        with _all_digits(cudnn.conv), _all_digits(cudnn.rnn), _all_digits(matmul):
            yield
        return
    try:
        cudnn.allow_tf32 = False
        torch.set_float32_matmul_precision("highest")
        yield
    finally:
        cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


@contextmanager
def _all_digits(operation: Any) -> Iterator[None]:
    before = operation.fp32_precision
    try:
        operation.fp32_precision = "ieee"
        yield
    finally:
        operation.fp32_precision = before
