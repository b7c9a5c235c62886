"""Settings of explanation and fine-tuning that follow network, image size and set: what `init` writes.

The defaults of a project file are the paper's for a small MLP on digits (Sec. 5.1). A deep network is aligned
as the presets knee and skin are (ResNet-50), which were chosen on validation sets; see the comments there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from lvlm_va.data.splits import Splits
from lvlm_va.models.adapter import unwrapped

__all__ = ["Suited", "explainable", "suited", "suited_to"]

_DEEP = 1_000_000  # parameters
_LARGE = 64  # pixels of the shorter side, from which J is the paper's 7 and not 3
_EPOCHS = (3, 10)  # three, as measured; of a small set more, up to ten, until as many samples were seen
_SEEN = 3_000  # as in three epochs of the knee's 1,000 images
_LAYERS = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.MultiheadAttention)

_AS_MEASURED: Mapping[str, Any] = {
    "explain.sampling": "balanced",
    "explain.baselines": 10,
    "align.lambda": 0.003,
    "align.counterfactual": 1.0,
    "align.mask": "objects",
    "align.learning_rate": 3e-5,
    "align.decay": "cosine",
    "evaluate.num_images": 200,
}


@dataclass(frozen=True)
class Suited:
    """What suits a network.

    Attributes:
        settings: "section.key" → value, for the keys on which something depends.
        because: the network and the set, in words.
    """

    settings: Mapping[str, Any]
    because: str

    def __str__(self) -> str:
        """One line: what the settings say, and why."""
        s = self.settings
        told = [f"J = {s['explain.segments']}", f"N = {s['explain.num_images']}"]
        if "align.learning_rate" in s:
            told.append(f"{s['align.epochs']} epochs at a step of {s['align.learning_rate']:g} that falls")
        if "align.statistics" in s:
            told.append(f"{s['align.statistics']} statistics")
        if "align.training_batch" in s:
            told.append(f"batches of {s['align.training_batch']} + {s['align.alignment_batch']}")
        return f"{self.because}: {', '.join(told)}"


def suited_to(model: nn.Module, splits: Splits) -> Suited:
    """What suits this network on these images, as they are read."""
    side = min(splits.in_shape[1:])
    return suited(
        model,
        side,
        len(splits.train),
        validation=splits.validation is not None,
        explainable=explainable(splits),
    )


def explainable(splits: Splits) -> int:
    """How many training images can be explained: all, or of several labels those that have one."""
    labels = splits.train.labels
    return int((labels == 1).any(1).sum()) if splits.several_labels else len(splits.train)


def suited(
    model: nn.Module, side: int, training: int, *, validation: bool, explainable: int | None = None
) -> Suited:
    """What suits this network on these images.

    Args:
        model: the classifier; its layers and the number of its parameters are looked at.
        side: the shorter side of the images that it is given, pixels.
        training: how many training images there are.
        validation: whether there are validation images, by which the best epoch can be told.
        explainable: how many of the training images can be explained; all when None.
    """
    module = unwrapped(model)
    parameters = sum(p.numel() for p in module.parameters() if not nn.parameter.is_lazy(p))
    layers = list(module.modules())
    deep = parameters >= _DEEP and any(isinstance(layer, _LAYERS) for layer in layers)
    normalised = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in layers)
    settings: dict[str, Any] = {
        "explain.num_images": min(256, training if explainable is None else max(explainable, 1)),
        "explain.segments": 7 if side >= _LARGE else 3,
    }
    largest = (24, 16) if deep else (64, 64)
    if deep:
        settings |= _AS_MEASURED
        settings["align.epochs"] = min(max(-(-_SEEN // training), _EPOCHS[0]), _EPOCHS[1])
        settings["align.keep"] = "best" if validation else "last"
    if normalised:
        settings["align.statistics"] = "frozen"
    # Several steps an epoch, in a small set too.
    fitting = max(4, training // 4)
    if deep or fitting < min(largest):
        settings["align.training_batch"], settings["align.alignment_batch"] = (
            min(size, fitting) for size in largest
        )
    kind = "a deep network" if deep else "a small network"
    with_norm = " with batch normalisation" if normalised else ""
    because = f"{kind}{with_norm} ({parameters:,} parameters), {side} pixels, {training:,} training images"
    return Suited(settings, because)
