"""What the method will do with a model, done once on a few images before anything is paid or trained.

`lvlm-va check` and every run do the same, so that what one lets pass the other can do.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import safetensors.torch
import torch
from torch import Tensor, nn

from lvlm_va.alignment.fine_tune import AlignmentSet, FineTuning, fine_tune
from lvlm_va.config.loading import Config
from lvlm_va.data.imageset import ArrayImageSet, ImageSet
from lvlm_va.data.labels import several_labels
from lvlm_va.errors import LvlmVaError, ModelError
from lvlm_va.explain.attribution import attribute, find_method
from lvlm_va.io.raised import place
from lvlm_va.models.adapter import ForwardFailed, adapted, unwrapped
from lvlm_va.models.checkpoint import check_outputs, tensors_of
from lvlm_va.models.compute import full_float32
from lvlm_va.models.copying import copied
from lvlm_va.models.memory import free, is_out_of_memory, reason
from lvlm_va.models.mode import evaluating
from lvlm_va.models.parts import check_parts
from lvlm_va.training.loop import UNDER_A_ROOT
from lvlm_va.training.process_group import ProcessGroup
from lvlm_va.training.seeding import seeded
from lvlm_va.training.train import train

__all__ = ["fine_tuning", "try_model"]

_FEW = 8  # images, from all over the training set
_APART = 1e-3
"""By how much answers about the same image may differ, in units of the largest: rounding is 1e-5."""
_PROBABLE = 1e-4  # by how much probabilities may miss a sum of 1

_RECIPE = ("learning_rate", "optimizer", "weight_decay", "precision", "flip", "seed")


def try_model(
    model: nn.Module, training: ImageSet, config: Config, *, to_train: bool, to_align: bool
) -> None:
    """Show `model` a few images, differentiate it, copy it, and do a step of what will be done with it.

    Args:
        model: from (n, C, H, W) in [0, 1] to (n, K) logits, on its device; its weights are not changed.
        training: the training set.
        config: the settings of training and alignment.
        to_train: whether it will be trained here.
        to_align: whether it will be aligned.

    Raises:
        ModelError: what cannot be done with it, and what to do.
        AttributionError: if it is to be explained by DeepLIFT, which has no rule for what it does.
    """
    check_parts(unwrapped(model))
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    few = torch.linspace(0, len(training) - 1, min(_FEW, len(training))).long()
    subset = ArrayImageSet(
        training.images(few), training.labels[few], [str(i) for i in few.tolist()], training.class_names
    )
    images = subset.pixels.to(device)
    with seeded(0, device), full_float32():
        answers = _tried_answers(model, images, len(training.class_names))
        twin = _tried_copy(model, images, answers)
        with _what("the model fails when it is differentiated"):
            _try_gradient(twin, images)
            _try_attribution(twin, subset, config)
        if to_train:
            with _what("the model cannot be trained: a step of training fails"):
                _try_state(_trained(twin, subset, config), model, images, "model.learning_rate")
        if to_align:
            with _what("the model cannot be aligned: a step of fine-tuning fails"):
                _try_state(_aligned(twin, subset, config), model, images, "align.learning_rate")


def fine_tuning(config: Config, lam: float) -> FineTuning:
    """What `align` says, for one λ."""
    return FineTuning(lam=lam, **config.align.model_dump(exclude={"lam", "mask", "keep", "choose_by"}))


@contextmanager
def _what(fails: str) -> Iterator[None]:
    """Whatever a user's module raises, as one sentence; memory that runs out is dealt with when it does."""
    try:
        yield
    except ForwardFailed as error:
        raise ModelError(f"{fails}: {error.said}{_alone(error.said)}") from error
    except ModelError as error:
        raise ModelError(f"{fails}: {error}" if "a step of" in fails else str(error)) from error
    except LvlmVaError:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            said = reason(error) + place(error)
            raise ModelError(f"{fails}: {said}{_alone(said)}") from error
    else:
        return
    free()


def _alone(said: str) -> str:
    """What to do where batch normalisation was given a single image."""
    if "more than 1 value per channel" not in said:
        return ""
    return (
        "; it normalises over the batch, so batches must have two images or more (model.batch, "
        "align.training_batch)"
    )


def _answers(model: nn.Module, images: Tensor) -> Tensor:
    """(n, K) logits in evaluation mode, without gradients."""
    with evaluating(model), torch.no_grad():
        answers: Tensor = model(images.clone())
    return answers


def _tried_answers(model: nn.Module, images: Tensor, num_classes: int) -> Tensor:
    check_outputs(model, images.clone(), num_classes)
    check_outputs(model, images[:1].clone(), num_classes)
    answers = _answers(model, images)
    if (gap := _gap(answers, _answers(model, images))) > _APART:
        raise ModelError(
            f"asked twice about the same images, the model gives different logits (by {gap:.0%} of the "
            "largest), so that nothing could be explained or repeated: noise stays on in evaluation mode "
            "(F.dropout without training=self.training?), or the model remembers what it was shown"
        )
    alone = torch.cat([_answers(model, images[i : i + 1]) for i in range(len(images))])
    if (gap := _gap(answers, alone)) > _APART:
        raise ModelError(
            f"about an image alone and among others, the model gives different logits (by {gap:.0%} of the "
            "largest): in evaluation mode too it uses the statistics of the batch (batch normalisation with "
            "track_running_stats=False?) or compares its images; the answer about an image must depend "
            "on it alone"
        )
    whole = (answers.sum(1) - 1).abs() <= _PROBABLE
    several = adapted(model).head.kind == "sigmoid"
    if num_classes > 1 and not several and bool(((answers >= 0) & (answers <= 1)).all() and whole.all()):
        raise ModelError(
            "the model returns probabilities (all between 0 and 1, with the sum 1), not logits, and would be "
            "trained and aligned through a second softmax; leave out the softmax at its end, or return the "
            "logarithm of the probabilities"
        )
    return answers


def _tried_copy(model: nn.Module, images: Tensor, answers: Tensor) -> nn.Module:
    """A copy that gives the same answers, without any tensor that was kept from before."""
    twin = copied(model, without_kept=True)
    with _what("a copy of the model fails"):
        if not _gap(answers, _answers(twin, images)) <= _APART:
            raise ModelError(
                "a copy of the model gives other logits than the model itself: its forward pass uses a "
                "tensor that was computed before, from its weights or from earlier images, or something "
                "that is not copied with it; compute it in the forward pass, or keep it in a buffer "
                "(register_buffer)"
            )
    return copied(model)


def _try_gradient(model: nn.Module, images: Tensor) -> None:
    """The gradient at images and weights, as attribution and training need it."""
    with evaluating(model), torch.enable_grad():
        at = images.clone().requires_grad_()
        answers = model(at.clone())
        if not answers.requires_grad:
            raise ModelError(
                "the model's logits do not depend differentiably on its input; remove `detach`, `no_grad` "
                "and `inference_mode` from its forward pass"
            )
        weights = [p for p in model.parameters() if p.requires_grad]
        of_images, *of_weights = torch.autograd.grad(answers.sum(), [at, *weights], allow_unused=True)
    if of_images is None:
        raise ModelError(
            "the model's logits do not depend differentiably on its input; remove `detach` and `no_grad` "
            "from its forward pass"
        )
    if not bool(of_images.isfinite().all()):
        bad = int((~of_images.isfinite()).flatten(1).any(1).sum())
        raise ModelError(
            f"the derivative of the model's logits with respect to the image is NaN or infinite for {bad} "
            f"of {len(images)} images; {UNDER_A_ROOT}"
        )
    if weights and all(gradient is None for gradient in of_weights):
        raise ModelError(
            "no weight of a copy of the model has a part in its logits: its forward pass refers to another "
            "module (a function put in its place?), or cuts the gradient (detach, no_grad)"
        )


def _try_attribution(model: nn.Module, images: ArrayImageSet, config: Config) -> None:
    """Whether DeepLIFT has a rule for all that the model does, whatever its weights are.

    How exact the other methods are depends on the weights, which may be still to be trained.
    """
    explain, n = config.explain, len(images) // 2
    if explain.attribution != "deeplift-shap" or n == 0:
        return
    allowed = explain.tolerance or find_method(explain.attribution).tolerance
    assert allowed is not None
    some = images.pixels[:n]
    # A wrong rule misses by far more than the rounding of weights that nobody has trained yet.
    classes = torch.zeros(n, dtype=torch.int64) if several_labels(images.labels) else images.labels[:n]
    attribute(model, some, classes, images.pixels[n:], tolerance=10 * allowed)


def _trained(twin: nn.Module, images: ArrayImageSet, config: Config) -> nn.Module:
    settings = config.model
    model, some = copied(twin), _first(images, settings.batch)
    recipe = {key: getattr(settings, key) for key in _RECIPE}
    train(model, some, epochs=1, batch=len(some), **recipe, group=ProcessGroup())
    return model


def _aligned(twin: nn.Module, images: ArrayImageSet, config: Config) -> nn.Module:
    """With everything condemned in half of the images, and the largest λ."""
    settings = config.align
    some = _first(images, settings.training_batch)
    n = -(-len(some) // 2)
    masks = torch.ones(n, *some.pixels.shape[2:], dtype=torch.bool)
    critiqued = AlignmentSet(torch.arange(n), masks, torch.zeros(n, dtype=torch.int64))
    tuning = fine_tuning(config, max(settings.lam))
    # What is pasted where is left out: its term is a cross-entropy like the other.
    one = {"epochs": 1, "counterfactual": 0.0, "training_batch": len(some)}
    tuning = FineTuning(**vars(tuning) | one | {"alignment_batch": min(n, settings.alignment_batch)})
    return fine_tune(twin, some, critiqued, tuning, group=ProcessGroup())[0]


def _try_state(changed: nn.Module, model: nn.Module, images: Tensor, rate: str) -> None:
    """Whether another copy, filled from a file of the changed model's weights, gives its answers."""
    wanted = _answers(changed, images)
    if not bool(wanted.isfinite().all()):
        raise ModelError(f"after it the model gives NaN or infinite logits; choose a smaller {rate}")
    blank = copied(model)
    own = unwrapped(blank)
    with torch.no_grad():
        for tensor in own.state_dict().values():
            tensor.zero_()  # so that what is not filled shows
    own.load_state_dict(safetensors.torch.load(safetensors.torch.save(tensors_of(changed))), strict=False)
    if not _gap(wanted, _answers(blank, images)) <= _APART:
        raise ModelError(
            "what a step of training changes in the model is not all in its state_dict, so that a checkpoint "
            "of it gives other logits; keep what changes in parameters and in persistent buffers"
        )


def _first(images: ArrayImageSet, n: int) -> ArrayImageSet:
    return ArrayImageSet(images.pixels[:n], images.labels[:n], images.ids[:n], images.class_names)


def _gap(one: Tensor, other: Tensor) -> float:
    """The largest difference in units of the largest number; NaN where one is."""
    scale = float(one.abs().max())
    difference = float((one - other).abs().max())
    return difference / scale if scale > 0 else difference
