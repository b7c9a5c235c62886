"""The last linear layer of a classifier: what goes into it, and another one in its place."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lvlm_va.data.imageset import ImageSet
from lvlm_va.errors import ModelError
from lvlm_va.models.adapter import Adapted
from lvlm_va.models.checkpoint import check_outputs
from lvlm_va.models.copying import copied
from lvlm_va.models.predict import logits

__all__ = ["Head", "find_head", "penultimate", "with_head"]

_FIRST = 8  # images with which the head is looked for


@dataclass(frozen=True, eq=False)
class Head:
    """The linear layer whose outputs are the logits, as `models.head` makes them.

    Attributes:
        name: of the layer in the model, e.g. "fc".
        layer: (n, F) features → (n, K) outputs; the model's own, not a copy.
    """

    name: str
    layer: nn.Linear


def find_head(model: nn.Module, images: ImageSet) -> Head:
    """The last `nn.Linear` that is executed, if its outputs are the logits.

    Args:
        model: maps (n, C, H, W) in [0, 1] to (n, K); not changed.
        images: the first few are shown to the model.

    Raises:
        ModelError: if the model's outputs do not fit the classes, or there is no such layer: naming what is
            there instead.
    """
    first = torch.arange(min(_FIRST, len(images)))
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    check_outputs(model, images.images(first).to(device), len(images.class_names))
    names = {layer: name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    executed: list[tuple[nn.Linear, Tensor]] = []
    hooks = [
        # A copy, since what follows may change the outputs in place.
        layer.register_forward_hook(lambda layer, _, output: executed.append((layer, output.clone().cpu())))
        for layer in names
    ]
    try:
        outputs = logits(model, images, first)
    finally:
        for hook in hooks:
            hook.remove()
    if not executed:
        raise ModelError(
            f"no linear layer (nn.Linear) is executed in {type(model).__name__}; its last layer cannot be "
            "retrained. DFR needs a classifier that ends with one"
        )
    layer, given = executed[-1]
    if isinstance(model, Adapted):
        given = model.head.logits(given, len(given), len(images.class_names))
    if given.shape != outputs.shape or not torch.equal(given.float(), outputs.float()):
        raise ModelError(
            f"the outputs of the last linear layer of {type(model).__name__} ({names[layer]}) are not the "
            "logits: something follows it. DFR needs a classifier that ends with a linear layer"
        )
    if sum(one is layer for one, _ in executed) > 1:
        raise ModelError(
            f"the last linear layer of {type(model).__name__} ({names[layer]}) is executed more than once "
            "for each image; DFR needs a classifier whose last layer is of its own"
        )
    return Head(names[layer], layer)


def penultimate(model: nn.Module, head: Head, images: ImageSet) -> Tensor:
    """(N, F) float64 on the CPU: what goes into the head, in evaluation mode.

    Args:
        model: not changed.
        head: from `find_head` on the same model.
        images: the set of N images.
    """
    features: list[Tensor] = []

    def keep(_: nn.Module, arguments: tuple[Tensor, ...], named: dict[str, Tensor], __: Tensor) -> None:
        given = arguments[0] if arguments else named["input"]
        features.append(given.cpu().double().clone())

    # A part that memory did not suffice for is shown again; it failed before it came to the last layer.
    hook = head.layer.register_forward_hook(keep, with_kwargs=True)
    try:
        logits(model, images)
    finally:
        hook.remove()
    return torch.cat(features)


def with_head(model: nn.Module, head: Head, weight: Tensor, bias: Tensor) -> nn.Module:
    """A copy of the model, in evaluation mode, with another linear layer in place of its head.

    Args:
        model: not changed.
        head: from `find_head` on the same model.
        weight: (K, F), in the precision of the old one then.
        bias: (K,)
    """
    old = head.layer.weight
    if isinstance(model, Adapted):
        was = head.layer.bias if head.layer.bias is not None else old.new_zeros(len(old))
        weight, bias = model.head.parts(weight, old.detach()), model.head.parts(bias, was.detach())
    layer = nn.Linear(weight.shape[1], weight.shape[0], device=old.device, dtype=old.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    layer.requires_grad_(old.requires_grad)
    twin = copied(model)
    replaced = twin.get_submodule(head.name)
    if replaced is twin:
        return layer.eval()
    # Under every name that it has: a module may hold it twice.
    for name, module in list(twin.named_modules(remove_duplicate=False)):
        if module is replaced:
            twin.set_submodule(name, layer)
    return twin.eval()
