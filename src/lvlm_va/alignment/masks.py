"""Correction masks A: where the aligned model's decision must not rest (Sec. 4.2).

The paper penalises the whole of every condemned segment, A = Σ_j R_j · 1[C = j]. A segment reaches as far
as no other component explains a pixel better, often far beyond the attribution that made it. `tighten`
first cuts each segment to its core, and what is cut off belongs to no segment (0); `objects_within` instead
cuts the finished mask to the objects in the image that it covers.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import ConfigError, DataError
from lvlm_va.explain.segmentation import Segmentation
from lvlm_va.vision.scenes import read_scenes, scene_of

__all__ = [
    "MaskKind",
    "attribution_cores",
    "component_cores",
    "correction_masks",
    "cut_masks",
    "objects_within",
    "tighten",
    "verdict_matrix",
]

MaskKind = Literal["segment", "component", "attribution", "objects"]
"""How much of a condemned segment is penalised: all of it (the paper), its component, its attribution, or
the objects in the image that it covers."""


def verdict_matrix(verdicts: Iterable[Verdict], image_ids: Sequence[str], J: int) -> Tensor:
    """R: (N, J) bool, True where segment j + 1 of image n is spurious.

    Unscored segments and segments without a verdict are False: nothing is penalised unless condemned. Of
    several verdicts on one segment the last holds.

    Raises:
        DataError: if a verdict names an image or a segment that is not there.
    """
    R = torch.zeros(len(image_ids), J, dtype=torch.bool)
    row = {image_id: n for n, image_id in enumerate(image_ids)}
    for verdict in verdicts:
        if verdict.image_id not in row or not 1 <= verdict.segment <= J:
            raise DataError(
                f"a verdict names segment {verdict.segment} of image {verdict.image_id!r}, which is not "
                f"among the {len(image_ids)} segmented images with segments 1 to {J}"
            )
        R[row[verdict.image_id], verdict.segment - 1] = verdict.spurious is True
    return R


def correction_masks(labels: Tensor, verdicts: Tensor) -> Tensor:
    """A = Σ_j R_j · 1[C = j].

    Args:
        labels: (N, H, W) integer, C in 0..J, as segmented or tightened; 0 belongs to no segment.
        verdicts: (N, J) bool, R; True condemns segment j + 1.

    Returns:
        (N, H, W) bool, True where the input gradient is penalised.

    Raises:
        DataError: if shapes or types do not fit, or a label exceeds J.
    """
    if verdicts.dtype != torch.bool or verdicts.ndim != 2 or len(verdicts) != len(labels):
        raise DataError(
            f"verdicts must be bool of shape ({len(labels)}, J), one row per image, not {verdicts.dtype} "
            f"of shape {tuple(verdicts.shape)}"
        )
    J = verdicts.shape[1]
    if labels.numel() and not (0 <= int(labels.min()) and int(labels.max()) <= J):
        raise DataError(
            f"labels run from {int(labels.min())} to {int(labels.max())}, but the verdicts are on {J} "
            "segments: segment and judge with the same J"
        )
    condemned = pad(verdicts, (1, 0))  # label 0 is never condemned
    return condemned.gather(1, labels.flatten(1).long()).view(labels.shape)


def cut_masks(
    segmentation: Segmentation,
    attribution: Tensor,
    verdicts: Tensor,
    images: Callable[[], Tensor],
    *,
    kind: MaskKind,
) -> Tensor:
    """A = Σ_j R_j · 1[C = j], cut to `kind`: what is penalised of N images.

    Args:
        segmentation: of the images.
        attribution: (N, H, W) float, the Φ that was segmented.
        verdicts: (N, J) bool, R.
        images: gives the images as a person sees them, (N, H, W, 3) uint8; called for "objects" only.
        kind: see `tighten` and `objects_within`. Where "objects" finds none in what is condemned (a stretch
            of ground, say), what the model saw there is penalised: the attribution.

    Returns:
        (N, H, W) bool.
    """

    def masks(kind: MaskKind) -> Tensor:
        return correction_masks(tighten(segmentation, attribution, kind=kind), verdicts)

    if kind != "objects":
        return masks(kind)
    objects = objects_within(images(), masks("segment"))
    without = ~objects.flatten(1).any(1)
    return torch.where(without[:, None, None], masks("attribution"), objects)


def tighten(segmentation: Segmentation, attribution: Tensor, *, kind: MaskKind) -> Tensor:
    """Labels C with every segment cut to `kind`: (N, H, W) int16 in 0..J.

    Args:
        segmentation: of N images.
        attribution: (N, H, W) float, the Φ that was segmented; read by "attribution" only.
        kind: "segment" leaves C as it is (the paper), and so does "objects", which is cut later;
            "component" see `component_cores`; "attribution" see `attribution_cores`.

    Raises:
        ConfigError: if the mask is unknown.
        DataError: if the attribution has another shape than the labels.
    """
    if kind in ("segment", "objects"):
        return segmentation.labels
    if kind == "component":
        return component_cores(segmentation)
    if kind == "attribution":
        return attribution_cores(segmentation.labels, attribution)
    raise ConfigError(f"unknown mask {kind!r}: choose one of {', '.join(get_args(MaskKind))}")


def component_cores(segmentation: Segmentation, *, mass: float = 0.95) -> Tensor:
    """Cut each segment to the ellipse that holds `mass` of its Gaussian component.

    These are the pixels z with (z − μ_j)ᵀ Σ_j⁻¹ (z − μ_j) ≤ d². In two dimensions d² is χ² with two
    degrees of freedom, so d² = −2 log(1 − mass), 5.99 for 0.95. A segment that lies wholly outside its
    component's ellipse keeps no pixel.

    Returns:
        (N, H, W) int16 in 0..J: the label where it is kept, else 0.

    Raises:
        ConfigError: if the segments are no components of a mixture.
    """
    if segmentation.method != "ppeps-wgm":
        raise ConfigError(
            f"segments found by {segmentation.method} are regions of the image and have no component; "
            "choose another mask"
        )
    cores = torch.zeros_like(segmentation.labels)
    H, W = cores.shape[1:]
    v, u = torch.meshgrid(
        *(torch.arange(side, dtype=torch.float64, device=cores.device) for side in (H, W)), indexing="ij"
    )
    z = torch.stack([u, v], -1).view(1, H * W, 2)
    for n, labels in enumerate(segmentation.labels):
        if n in segmentation.set_aside:
            continue
        offset = z - segmentation.mu[n, :, None]
        squared_distance = (offset @ segmentation.sigma[n].inverse() * offset).sum(-1).view(-1, H, W)
        # A pixel counts for its own segment's component only.
        own = squared_distance.gather(0, labels[None].long() - 1)[0]
        cores[n] = labels * (own <= -2 * math.log1p(-mass))
    return cores


def attribution_cores(labels: Tensor, attribution: Tensor, *, mass: float = 0.95) -> Tensor:
    """Cut each segment to its fewest pixels that hold `mass` of its positive attribution.

    Args:
        labels: (N, H, W) int16 in 0..J, C.
        attribution: (N, H, W) float, the Φ that was segmented.
        mass: share of the segment's positive attribution to keep, 0 < mass < 1.

    Returns:
        (N, H, W) int16 in 0..J: the label where it is kept, else 0. A segment without positive attribution
        keeps no pixel.

    Raises:
        DataError: if the shapes differ.
    """
    if labels.shape != attribution.shape:
        raise DataError(
            f"labels of shape {tuple(labels.shape)} and an attribution of shape {tuple(attribution.shape)}: "
            "they must be of the same images"
        )
    cores = torch.zeros_like(labels)
    for n, C in enumerate(labels):
        for j in C.unique().tolist():
            segment = C == j
            positive = torch.where(segment, attribution[n].detach(), 0.0).clamp_min(0).flatten().double()
            value, pixel = positive.sort(descending=True, stable=True)
            held_before = value.cumsum(0) - value
            kept = (held_before < mass * value.sum()) & (value > 0)
            core = torch.zeros_like(kept).scatter_(0, pixel, kept).view(C.shape)
            cores[n] += j * (core & segment)
    return cores


def objects_within(images: Tensor, masks: Tensor, *, share: float = 0.8) -> Tensor:
    """Cut each mask to the objects in the image that lie in it.

    An object is a region that stands out from the ground (see `vision.regions`). It is penalised whole if at
    least `share` of its pixels are masked, else not at all: a segment that holds a whole patch and one arm
    of the object beside it then condemns the patch only.

    Args:
        images: (N, H, W, 3) uint8, the images as a person sees them.
        masks: (N, H, W) bool, A of the paper.
        share: of an object's pixels that must be masked, 0 < share ≤ 1.

    Returns:
        (N, H, W) bool; empty for an image whose mask covers no object.

    Raises:
        ConfigError: if `share` is out of range.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share = {share}: it must be above 0 and at most 1")
    cut = torch.zeros_like(masks)
    masked = masks.flatten(1).any(1).nonzero().flatten().tolist()
    read_scenes([images[n].numpy() for n in masked])
    for n in masked:
        image = images[n].numpy()
        for region in scene_of(image).regions:
            pixels = torch.from_numpy(region.mask)
            if region.role != "ground" and int((pixels & masks[n]).sum()) >= share * int(pixels.sum()):
                cut[n] |= pixels
    return cut
