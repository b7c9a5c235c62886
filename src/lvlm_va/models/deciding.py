"""What `model.head: auto` leaves open, decided by what the network returns and what it called last."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from lvlm_va.errors import ModelError
from lvlm_va.models.adapter import Adapted, ForwardFailed, pick_logits, several_outputs
from lvlm_va.models.copying import copied
from lvlm_va.models.head import Head, LastFunction
from lvlm_va.models.mode import evaluating

__all__ = ["decide_head"]

_FEW = 8  # images
_OF_THE_BATCH = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


def decide_head(model: Adapted, in_shape: tuple[int, int, int], *, said: bool = False) -> None:
    """Settle `model.head`: one logit or several, a softmax or sigmoid to take off, which output in training.

    The model is shown a few images of noise. Where it fails on them nothing is decided: whoever uses it next
    is told why.

    Args:
        model: its `head` is replaced; otherwise not changed.
        in_shape: (C, H, W) of the images.
        said: whether somebody said what the outputs are, so that they are not taken for probabilities.

    Raises:
        ModelError: if the outputs can be taken in more than one way, saying what to write.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    images = torch.rand(_FEW, *in_shape, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        try:
            with evaluating(model), LastFunction() as last:
                returned = model.outputs(model.normalised(images))
        except (ForwardFailed, RuntimeError, MemoryError):
            return
        outputs = pick_logits(returned, _FEW, model.head.widths(model.num_classes))
        head = _settled(model.head, model.num_classes, outputs, last, said=said)
        model.head = replace(head, position=_position(model, images, outputs))


def _settled(head: Head, K: int | None, outputs: Tensor, last: LastFunction, *, said: bool) -> Head:
    """The head, but for training mode."""
    found = last.before(outputs)
    end = None if found is None else found[1]
    columns = outputs.numel() // _FEW if head.outputs is None else len(head.outputs)
    single = head.kind == "single-logit" or (head.kind == "auto" and columns == 1 and K == 2)
    several = head.kind == "sigmoid"
    if head.kind == "auto" and not single and end in ("sigmoid", "log-sigmoid"):
        raise ModelError(
            f"the model ends in a sigmoid for each of its {columns} outputs, as for images with several "
            "labels, but here each image has one class: say model.head: softmax to take the sigmoid off and "
            "choose between the classes by its logits"
        )
    within = outputs.is_floating_point() and bool(((outputs >= 0) & (outputs <= 1)).all())
    if head.kind == "auto" and single and end is None and within and outputs is not last.linear:
        raise ModelError(
            "the model gives one output, and it cannot be told whether that is a probability (all are "
            "between 0 and 1) or a logit: say model.head: single-logit if it is a logit, else let the model "
            "return it without the sigmoid"
        )
    if several and end in ("softmax", "log-softmax"):
        raise ModelError(
            f"the model ends in a {end} over its {columns} outputs, by which only one of them can be likely, "
            "but here an image may have several labels; let it return its logits and train it with a sigmoid "
            "for each label. To set aside the rows of a manifest that have not exactly one label, say "
            "data.labels: one"
        )
    if several and not said and end is None and within and outputs is not last.linear:
        raise ModelError(
            "it cannot be told whether the model's outputs are probabilities (all are between 0 and 1, and "
            "no sigmoid was seen that could be taken off) or logits: say model.head: sigmoid if they are "
            "logits, else let the model return them, or torch.logit of the probabilities"
        )
    return replace(head, kind=head.kind if several else "single-logit" if single else "softmax", end=end)


def _position(model: Adapted, images: Tensor, outputs: Tensor) -> str | None:
    """Which of several outputs in training mode is that of evaluation mode; None where there is no doubt.

    What is random or of the batch (dropout, batch normalisation) stays in evaluation mode meanwhile.
    """
    try:
        twin = copied(model)
        for part in twin.module.modules():
            part.training = not isinstance(part, _OF_THE_BATCH)
        returned = several_outputs(twin.outputs(twin.normalised(images)))
    except (ModelError, RuntimeError, MemoryError):
        return None
    same = [
        name for name, value in returned.items() if isinstance(value, Tensor) and _is_same(value, outputs)
    ]
    return same[0] if same else None


def _is_same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-5)
