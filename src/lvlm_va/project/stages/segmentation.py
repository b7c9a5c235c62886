"""Divide what was explained into segments, by the name of a segmentation or anybody's (Sec. 4.1)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lvlm_va.config.names import Foreign
from lvlm_va.explain.own_segments import own_segments
from lvlm_va.explain.partition import segments_of_regions
from lvlm_va.explain.segmentation import (
    Segmentation,
    check_attribution,
    joined,
    parts_to_segment,
    ppeps_wgm,
)
from lvlm_va.models.memory import preferably_on
from lvlm_va.project.fingerprints import tensor_fingerprint
from lvlm_va.project.inputs import choose_device
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.regions import REGION_FINDERS, RegionFinder, regions_of
from lvlm_va.project.stages.shards import Work, forget_shards, in_shards
from lvlm_va.run import artefacts
from lvlm_va.run.directory import fingerprint
from lvlm_va.run.files import SEGMENTS

__all__ = ["require_methods", "segment"]


@dataclass(frozen=True)
class _Way:
    """How segments are found.

    Attributes:
        title: of the stage.
        inputs: what they depend on beside the attribution.
        recipe: numbers worth showing.
        divide: Φ (N, H, W) → segments.
        shared: whether all processes divide together.
    """

    title: str
    inputs: list[Any]
    recipe: Mapping[str, Any]
    divide: Callable[[Tensor], Segmentation]
    shared: bool = False


def require_methods(context: Context) -> None:
    """Say what attribution and segmentation lack before hours of training, not after.

    Raises:
        ConfigError, ModelError: if a package or weights are missing.
        ExtensionError: if somebody else's method cannot be loaded or used.
    """
    _ = context.method
    if context.own_segmentation is None:
        _finder(context)


def segment(context: Context, images: Callable[[], Tensor], attribution: Tensor) -> Segmentation:
    """Stage segment.

    Args:
        context: the run, and how segments are found.
        images: makes the images as a person would see them, (N, H, W, 3) uint8; the mixture never looks.
        attribution: (N, H, W) float, Φ.

    Raises:
        ConfigError, ModelError, ExtensionError: as `require_methods`; and if somebody else's segmentation
            raises or returns something else than segments.
    """
    if context.own_segmentation is not None:
        way = _own(context, images(), context.own_segmentation)
    elif (finder := _finder(context)) is not None:
        way = _regions(context, images(), finder)
    else:
        way = _mixture(context)

    def compute() -> Segmentation:
        with context.console.stage(way.title):
            return way.divide(attribution)

    segmentation, _ = context.run.stage(
        "segment",
        fingerprint("segment", tensor_fingerprint(attribution), *way.inputs),
        compute,
        save=lambda s: context.run.write(SEGMENTS, artefacts.segmentation_pieces(s)),
        load=lambda: artefacts.read_segmentation(context.run.file(SEGMENTS)),
        summarise=lambda s: {
            "J": context.config.explain.segments,
            **way.recipe,
            "set_aside": len(s.set_aside),
            "not_converged": int((~s.converged).sum()) - len(s.set_aside),
        },
        together=(lambda read: context.run.group.broadcast_read(read)) if way.shared else None,
    )
    forget_shards(context, "segment")
    return segmentation


def _finder(context: Context) -> RegionFinder | None:
    """What finds regions, nothing loaded yet; None where segments are the paper's, which need none."""
    make = REGION_FINDERS.get(context.config.explain.segmentation)
    return None if make is None else make(context.config.explain, context.inputs.device)


def _mixture(context: Context) -> _Way:
    settings = context.config.explain
    options = settings.model_dump(include={"segments", "n_init", "seed"})

    def divide(attribution: Tensor) -> Segmentation:
        J = settings.segments
        check_attribution(attribution, J)
        # What is one batch on a GPU is many on a CPU, so the batches are those of the device.
        parts = preferably_on(
            _device_of_mixtures(context.config.device),
            lambda device: [part.cpu() for part in parts_to_segment(attribution.to(device), J)],
        )
        segmentations = in_shards(
            context,
            Work(
                "segment",
                fingerprint("parts of the mixture", tensor_fingerprint(attribution), options),
                [len(part) for part in parts],
                lambda n: (attribution[parts[n]],),
                partial(_segmenting, context.config.device, options),
                artefacts.segmentation_file,
                artefacts.read_segmentation,
            ),
        )
        return joined(attribution, J, parts, segmentations)

    return _Way(
        f"Segmenting the positive attribution (J = {settings.segments})",
        [options],
        {"method": "ppeps-wgm"},
        divide,
        shared=True,
    )


def _device_of_mixtures(device: str) -> torch.device:
    """The mixture needs float64, which of all accelerators only CUDA's have."""
    chosen = choose_device(device)
    return chosen if chosen.type == "cuda" else torch.device("cpu")


def _segmenting(
    device: str, options: Mapping[str, int], note: Callable[[str], None]
) -> Callable[[Tensor], Segmentation]:
    """What segments a part of the images by their attribution."""
    chosen = _device_of_mixtures(device)
    J, n_init, seed = options["segments"], options["n_init"], options["seed"]

    def segment(attribution: Tensor) -> Segmentation:
        def on(device: torch.device) -> Segmentation:
            return ppeps_wgm(attribution.to(device), J, n_init=n_init, seed=seed)

        return preferably_on(chosen, on, note).to(attribution.device)

    return segment


def _regions(context: Context, images: Tensor, finder: RegionFinder) -> _Way:
    settings = context.config.explain

    def divide(attribution: Tensor) -> Segmentation:
        regions = regions_of(context, images, finder)
        return segments_of_regions(regions, attribution, settings.segments, method=settings.segmentation)

    return _Way(
        f"Segmenting the images ({settings.segmentation}, J = {settings.segments})",
        [settings.segments, finder.recipe, tensor_fingerprint(images)],
        finder.recipe,
        divide,
    )


def _own(context: Context, images: Tensor, method: Foreign) -> _Way:
    J = context.config.explain.segments
    recipe = {"by": method.name, "version": method.version}

    def divide(attribution: Tensor) -> Segmentation:
        return own_segments(method, images, attribution, J, progress=context.console.progress)

    return _Way(
        f"Segmenting the images ({method.name}, J = {J})",
        # Under a name of its own: somebody else's recipe may look like ours.
        ["own", J, recipe, tensor_fingerprint(images)],
        recipe,
        divide,
    )
