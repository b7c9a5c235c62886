"""Counterfactual images: what the prediction must not depend on is taken away, or put where it was not.

The right-reasons term penalises a derivative at the alignment samples. It says nothing about images some
way off, and a decision can rest on a condemned segment while its derivative is small. A counterfactual
image asks the question itself: would the answer be the same without the segment, or with another's? Both
use the verdicts and their masks A and nothing else:

* taken away: x with the masked pixels replaced by plausible background (`inpainting.fill`);
* put in: any training image with the masked pixels of an alignment sample pasted in, at their place.

Its class stays that of the image, whatever was taken away or put in. Of several labels that holds of the one
that the segment was condemned for, and of the others nothing is said: they are unknown. Source: ours; the
idea of editing what a label must not depend on is that of Kaushik et al. 2020 ("Learning the Difference that
Makes a Difference with Counterfactually-Augmented Data") for texts, and of CDEP and RRR's critics for images.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from lvlm_va.alignment.inpainting import fill
from lvlm_va.data.held import HeldImages, hold
from lvlm_va.data.imageset import ImageSet
from lvlm_va.data.labels import several_labels

__all__ = ["LARGEST", "Counterfactuals"]

LARGEST = 0.25
"""Share of an image above which a mask is neither filled nor pasted: it would take the object with it."""


@dataclass(frozen=True, eq=False)
class Counterfactuals:
    """What can be taken away and put in.

    Attributes:
        labels: (D,) int64, the classes of the alignment samples that have a usable mask; or (D, K), of which
            the explained one is known.
        pieces: those samples; an index gives (n, C, H, W) float32.
        masks: (D, H, W), their masks A.
        explained: (D,) int64, of several labels the one that each mask is about; None for one class.
    """

    labels: Tensor
    pieces: Tensor | HeldImages
    masks: Tensor
    explained: Tensor | None = None

    @classmethod
    def of(
        cls, images: Tensor, labels: Tensor, masks: Tensor, explained: Tensor | None = None
    ) -> "Counterfactuals":
        """Prepare the counterfactuals of an alignment set.

        Args:
            images: (N, C, H, W) float32 in [0, 1].
            labels: (N,) int64; or (N, K) of 1, 0 and unknown.
            masks: (N, H, W) correction masks A, bool or weights in [0, 1]. A sample whose mask is empty, or
                covers more than a quarter of the image, is left out.
            explained: (N,) int64, of several labels the one that each mask is about.
        """
        usable = _usable(masks)
        kept, about = _about(labels[usable], explained, usable)
        return cls(kept, images[usable], masks[usable], about)

    @classmethod
    def of_set(
        cls,
        images: ImageSet,
        indices: Tensor,
        masks: Tensor,
        device: torch.device,
        explained: Tensor | None = None,
    ) -> "Counterfactuals":
        """The same of (N,) int64 `indices` of a set, of which only the usable images are read."""
        usable = _usable(masks)
        chosen = indices[usable]
        labels, about = _about(images.labels[chosen].to(device), explained, usable)
        return cls(labels, hold(images, chosen, device), masks[usable].to(device), about)

    @cached_property
    def without(self) -> Tensor:
        """(D, C, H, W) float32, the samples with what is masked filled."""
        everything = torch.arange(len(self), device=self.labels.device)
        return fill(self.pieces[everything], _grown(self.masks.float()))

    def __len__(self) -> int:
        return len(self.labels)

    def pasted(self, images: Tensor, donors: Tensor) -> Tensor:
        """Other images with the donors' condemned pixels put in.

        Args:
            images: (n, C, H, W) float32, the recipients.
            donors: (n,) int64 positions in 0..D−1.

        Returns:
            (n, C, H, W): the donor's pixels where its mask is, the recipient's elsewhere, one pixel of seam.
        """
        donors = donors.to(self.labels.device)
        pieces, masks = self.pieces[donors].to(images.device), self.masks[donors].to(images.device)
        return torch.lerp(images, pieces, _seams(masks.float()))

    def draw(
        self, images: Tensor, labels: Tensor, n: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """About half of n images with something taken away, the others with something put in.

        Args:
            images: (m, C, H, W) float32, from which recipients are drawn.
            labels: (m,) int64 or (m, K), their classes or labels, on the same device.
            n: how many.
            generator: of the draw, on the CPU.

        Returns:
            (n, C, H, W) images and (n,) their classes, where the images are; none where D = 0.
        """
        if not len(self):
            return images[:0], labels[:0]
        taken = torch.randint(len(self), (n // 2,), generator=generator)
        donors = torch.randint(len(self), (n - n // 2,), generator=generator)
        recipients = torch.randint(len(images), (len(donors),), generator=generator)
        kept = labels[recipients]
        if self.explained is not None:
            kept = _only(kept, self.explained[donors].to(labels.device))
        return (
            torch.cat([self.without[taken].to(images.device), self.pasted(images[recipients], donors)]),
            torch.cat([self.labels[taken].to(labels.device), kept]),
        )


def _usable(masks: Tensor) -> Tensor:
    """(D,) int64: which of (N, H, W) masks are not empty, and not too large."""
    share = torch.cat([part.float().flatten(1).mean(1) for part in torch.split(masks, 256)])
    return ((share > 0) & (share <= LARGEST)).nonzero().flatten()


def _seams(masks: Tensor) -> Tensor:
    """(n, 1, H, W) in [0, 1]: (n, H, W) masks with a soft edge."""
    soft = F.avg_pool2d(masks.unsqueeze(1), 3, stride=1, padding=1, count_include_pad=False)
    return torch.maximum(soft, masks.unsqueeze(1))


def _about(labels: Tensor, explained: Tensor | None, usable: Tensor) -> tuple[Tensor, Tensor | None]:
    """Classes as they are; of several labels those that the masks are about, and which these are."""
    if explained is None or not several_labels(labels):
        return labels, None
    about = explained.to(labels.device)[usable]
    return _only(labels, about), about


def _only(labels: Tensor, about: Tensor) -> Tensor:
    """(n, K) labels of which one an image is kept, (n,) `about`, and the others are unknown."""
    wanted = torch.arange(labels.shape[1], device=labels.device) == about[:, None]
    return torch.where(wanted, labels, torch.nan)


def _grown(masks: Tensor) -> Tensor:
    """(n, H, W) masks and one pixel around them, so that no rim of what was there guides the filling."""
    return F.max_pool2d(masks.unsqueeze(1), 3, stride=1, padding=1).squeeze(1)
