"""What logits say of labels: the likelihood from which loss, entropy, right reasons and answers follow.

    one class an image    p(y | x) = softmax(z)_y
    several labels        p(y | x) = Π_k σ(z_k)^{y_k} (1 − σ(z_k))^{1 − y_k},   over the labels that are known

The second is K independent yes-or-no questions, as networks with a sigmoid for each finding answer them; an
unknown label is left out of the product (Irvin et al. 2019, CheXpert, "U-Ignore"). The form of the labels
decides: (N,) or (N, K), see `data.labels`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lvlm_va.data.labels import known_labels, several_labels

__all__ = ["Likelihood"]


@dataclass(frozen=True)
class Likelihood:
    """Of one class an image, or of several labels.

    Attributes:
        several: which of the two.
    """

    several: bool

    @classmethod
    def of(cls, labels: Tensor) -> "Likelihood":
        """That of labels of this form, (N,) or (N, K)."""
        return cls(several_labels(labels))

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy: the mean of −log p(y | x) over the images, in nats; a scalar.

        For several labels that is the *sum* of the binary cross-entropies over an image's labels, so that
        every label weighs as it would in a network of its own, whatever their number.

        Args:
            outputs: (n, K) logits, n ≥ 1.
            labels: (n,) int64, or (n, K) of 1, 0 and unknown.
        """
        if not self.several:
            return F.cross_entropy(outputs, labels)
        known = known_labels(labels)
        wanted = torch.where(known, labels, 0).to(outputs.dtype)
        losses = F.binary_cross_entropy_with_logits(
            outputs, wanted, weight=known.to(outputs.dtype), reduction="none"
        )
        return losses.sum(1).mean()

    def entropy(self, outputs: Tensor) -> Tensor:
        """Entropy of p(· | x): (N, K) logits to (N,) float64, nats.

        Of one class in [0, log K]. Of several labels, which are independent given the image, it is the sum of
        theirs, in [0, K log 2] (Cover and Thomas 2006, Thm. 2.6.6): how sure the model is of *all* it says.

        In float64: in float32 the surest images, those that matter, would tie.
        """
        z = outputs.detach().double()
        if not self.several:
            entropy: Tensor = torch.special.entr(z.softmax(1)).sum(1)
            return entropy
        # H(σ(z)) = log(1 + e^−|z|) + |z| σ(−|z|), of two positive numbers.
        sure = z.abs()
        return (F.softplus(-sure) + sure * torch.sigmoid(-sure)).sum(1)

    def log_probabilities(self, outputs: Tensor, explained: Tensor) -> Tensor:
        """(n, ·) the log ŷ that right reasons sum, see `alignment.rrr`.

        Of one class all K. Of several labels those of presence and absence of the label that was *explained*:
        the verdict on a segment is about this label alone, and what must not tell a pneumothorax may well
        tell a chest tube.

        Args:
            outputs: (n, K) logits.
            explained: (n,) int64, the explained labels; not read for one class.
        """
        if not self.several:
            return F.log_softmax(outputs, 1)
        z = outputs.gather(1, explained[:, None])
        return torch.cat([F.logsigmoid(z), F.logsigmoid(-z)], 1)

    def right(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Whether the answers are right: (N,) bool of the largest logit; (N, K) of each label at p = ½.

        Where a label is unknown, it says nothing: see `known_labels`.
        """
        return (outputs > 0) == (labels == 1) if self.several else outputs.argmax(1) == labels

    @staticmethod
    def explained(outputs: Tensor, labels: Tensor, only: int | None = None) -> Tensor:
        """Which of several labels of an image is explained: of those that it has, the surest.

        An explanation is of one decision and a specification of one label, so that one of an image's labels
        is chosen. It is one that the image *has*: what shows a finding can be pointed at, and its
        specification says what that is; nothing shows that there is none. Of these the model's surest is the
        one in which a shortcut, if it has one, shows most (Sec. 4.1: low entropy).

        Args:
            outputs: (N, K) logits.
            labels: (N, K) of 1, 0 and unknown.
            only: the one label that is asked about; any when None.

        Returns:
            (N,) int64; −1 where the image has none, and so is not explained.
        """
        has = labels == 1
        if only is not None:
            has = has & (torch.arange(labels.shape[1]) == only)
        surest = torch.where(has, outputs, -torch.inf).argmax(1)
        return torch.where(has.any(1), surest, -1)

    @staticmethod
    def answers(outputs: Tensor, explained: Tensor | None) -> Tensor:
        """What is said of each image: (N,) int64.

        Args:
            outputs: (N, K) logits.
            explained: (N,) int64, the one of several labels that is meant; None for one class an image.

        Returns:
            the class; of several labels a number of `data.labels.label_answers`.
        """
        if explained is None:
            return outputs.argmax(1)
        z = outputs.gather(1, explained[:, None])[:, 0]
        return torch.where(z > 0, explained, explained + outputs.shape[1])
