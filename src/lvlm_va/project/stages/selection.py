"""Select the N images that are explained and critiqued (Sec. 4.1)."""

from functools import partial

import torch
from torch import Tensor, nn

from lvlm_va.config.schema import ExplainConfig
from lvlm_va.data.imageset import images_on
from lvlm_va.data.splits import Splits
from lvlm_va.errors import ConfigError, DataError
from lvlm_va.explain.sampling import Selection, describe, select
from lvlm_va.io.hints import did_you_mean
from lvlm_va.project.fingerprints import weights_fingerprint
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.explaining import scoring
from lvlm_va.project.stages.shards import Work, forget_shards, model_to_share, parts_of, shards
from lvlm_va.run import artefacts
from lvlm_va.run.directory import fingerprint

__all__ = ["check_selection", "select_images"]

_SCORED = 512  # training images of one part


def select_images(context: Context, model: nn.Module) -> Selection:
    """Stage select.

    Raises:
        ConfigError, DataError: as `check_selection`.
    """
    settings, images = context.config.explain, context.splits.train
    check_selection(settings, context.splits)
    path = context.run.file("selection.csv")
    names, several = context.splits.class_names, context.splits.several_labels
    only = None if settings.label is None else names.index(settings.label)

    def described(indices: Tensor, chosen_entropy: Tensor, chosen_classes: Tensor) -> Selection:
        entropy = torch.zeros(len(images), dtype=torch.float64)
        entropy[indices] = chosen_entropy
        classes = torch.zeros(len(images), dtype=torch.int64)
        classes[indices] = chosen_classes
        truth, carries = images.spurious_masks(indices), None
        if truth is not None:
            carries = torch.zeros(len(images), dtype=torch.bool)
            carries[indices] = truth.flatten(1).any(1)
        return describe(
            indices,
            entropy,
            classes,
            strategy=settings.sampling,
            num_classes=len(names),
            spurious=carries,
        )

    def compute() -> Selection:
        with context.console.stage(f"Selecting {settings.num_images} images ({settings.sampling})"):
            # Entropies are kept, not K logits an image: of a million images and a thousand classes 4 GB.
            scored = torch.empty(2, len(images), dtype=torch.float64)
            for number, part in shards(context, scores):
                scored[:, rows[number]] = part
            entropy, classes = scored[0], scored[1].long()
            candidates = (classes >= 0).nonzero()[:, 0]
            chosen = select(
                entropy[candidates],
                classes[candidates],
                settings.num_images,
                strategy=settings.sampling,
                num_classes=len(names),
                seed=settings.seed,
            )
            indices = candidates[chosen]
            return described(indices, entropy[indices], classes[indices])

    def load() -> Selection:
        indices, entropy = artefacts.read_selection(path)
        if [i for i in indices.tolist() if not 0 <= i < len(images)] or len(indices) != settings.num_images:
            raise ValueError(f"{path}: is not the selection that was written there")
        return described(indices, entropy, artefacts.read_selected_classes(path))

    weights, home = weights_fingerprint(model), _home(context)
    rows = parts_of(len(images), _SCORED)
    scores = Work(
        "select",
        fingerprint("score", weights, context.inputs.training_data, *([settings.label] if several else [])),
        [part.stop - part.start for part in rows],
        lambda n: (
            images_on(images, torch.arange(rows[n].start, rows[n].stop), home),
            images.labels[rows[n]],
        ),
        partial(scoring, model_to_share(context, model), context.config.device, only),
        lambda scored: artefacts.tensors_file({"scored": scored}),
        lambda path: artefacts.read_tensors(path)[0]["scored"],
    )
    selection, _ = context.run.stage(
        "select",
        fingerprint(
            "select",
            weights,
            context.inputs.training_data,
            settings.model_dump(include={"num_images", "sampling", "seed"})
            | ({} if only is None else {"label": settings.label}),
        ),
        compute,
        save=lambda s: context.run.write("selection.csv", artefacts.selection_file(s, images.ids)),
        load=load,
        summarise=lambda s: {
            "images": len(s.indices),
            "strategy": s.strategy,
            "per_class": list(s.class_counts),
            "spurious_share": s.spurious_share,
        },
        together=lambda read: context.run.group.broadcast_read(read),
    )
    forget_shards(context, "select")
    return selection


def check_selection(settings: ExplainConfig, splits: Splits) -> None:
    """Make sure, before any work, that N images can be chosen.

    Raises:
        ConfigError: if `explain.label` names no label.
        DataError: if more images are asked for than there are, or than have a label.
    """
    images, wanted, name = splits.train, settings.num_images, settings.label
    if name is not None and not splits.several_labels:
        raise ConfigError(
            "explain.label is for images with several labels, but here every image has one class; leave it "
            "out"
        )
    if name is not None and name not in splits.class_names:
        raise ConfigError(
            f"explain.label: there is no label {name!r}; {did_you_mean(name, splits.class_names)}"
        )
    if wanted > len(images):
        raise DataError(
            f"explain.num_images asks for {wanted} images, but the training set has {len(images)}; choose at "
            "most that many"
        )
    if splits.several_labels:
        has = images.labels == 1
        n = int((has.any(1) if name is None else has[:, splits.class_names.index(name)]).sum())
        if wanted > n:
            raise DataError(
                f"explain.num_images asks for {wanted} images, but only {n} training images have "
                f"{'a label' if name is None else 'the label ' + name}, which is what is explained; choose "
                "at most that many"
            )


def _home(context: Context) -> torch.device:
    """Where images are wanted for a part that is shared out."""
    return context.inputs.device if context.config.scheduler is None else torch.device("cpu")
