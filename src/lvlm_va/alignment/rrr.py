"""Right for the right reasons: cross-entropy + λ · right reasons + γ · regularisation.

    L = CE + λ Σ_n Σ_i (A_ni ∂/∂x_ni Σ_k log ŷ_nk)² + γ Σ θ²

How the sums are taken, since λ and γ mean nothing without it:

* CE is the mean over all samples of a batch, alignment and training samples alike;
* the right-reasons term is *summed* over the pixels and channels i of an image and *averaged* over the
  alignment samples n of a batch;
* x is in units of the full pixel range: 0 is black and 1 is white, whatever normalisation the model
  applies inside; with pixels in 0..255, the same λ would be 255² times larger;
* Σ θ² runs over all trainable parameters, biases included, and is neither averaged nor halved.

Where an image may have several labels, k runs over presence and absence of the one that was explained,
log σ(z) and log σ(−z): see `Likelihood.log_probabilities`.

Source: Ross, Hughes and Doshi-Velez 2017, Eq. 2; Koebler et al., Sec. 4.2.
"""

import torch
from torch import Tensor, nn

__all__ = ["parameter_norm", "right_reasons"]


def right_reasons(log_probabilities: Tensor, images: Tensor, masks: Tensor) -> Tensor:
    """Σ_i (A_ni ∂/∂x_ni Σ_k log ŷ_nk)² for each image, differentiable a second time.

    Args:
        log_probabilities: (n, K) log ŷ, computed from `images`.
        images: (n, C, H, W) with `requires_grad`, in units of the full pixel range.
        masks: (n, H, W) correction masks A, bool or weights in [0, 1]; they hold for every channel.

    Returns:
        (n,) non-negative, zero where the mask is empty.
    """
    (gradient,) = torch.autograd.grad(log_probabilities.sum(), images, create_graph=True)
    return (gradient * masks.unsqueeze(1)).square().flatten(1).sum(1)


def parameter_norm(model: nn.Module) -> Tensor:
    """Σ θ² over all trainable parameters, a scalar."""
    squares = [p.square().sum() for p in model.parameters() if p.requires_grad]
    return torch.stack(squares).sum() if squares else torch.zeros(())
