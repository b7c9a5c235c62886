"""What anybody's attribution method must have: a name, and one method.

    class Gradient:
        name = "gradient"

        def attribute(self, model, images, targets, baselines):
            x = images.clone().requires_grad_()
            model(x).gather(1, targets[:, None]).sum().backward()
            return (x.grad * x).sum(1)

An object like this is taken wherever a method's name is, and so is a function of these arguments; neither
needs to import anything of this package. Another package offers one by name with an entry point in the group
`lvlm_va.attributions`.
"""

from typing import Protocol, runtime_checkable

from torch import Tensor, nn

__all__ = ["AttributionMethod"]


@runtime_checkable
class AttributionMethod(Protocol):
    """Says of each pixel how much it speaks for a class.

    Two attributes are optional. `complete = True` claims that the attribution of an image sums to
    f(x) − E f(b); this is then checked, image by image, as for the methods of this package, within 1e-2 or
    `explain.tolerance`. `version` says which of its kind it is: with another one everything is computed anew.

    Attributes:
        name: stands beside every number.
    """

    name: str

    def attribute(self, model: nn.Module, images: Tensor, targets: Tensor, baselines: Tensor) -> Tensor:
        """Φ of a few images.

        Args:
            model: from (n, C, H, W) to (n, K) logits, in evaluation mode with constant parameters; to be left
                as it is found.
            images: (n, C, H, W), on the model's device and of its dtype, in [0, 1].
            targets: (n,) int64, the class to explain of each image.
            baselines: (B, C, H, W), what "absent" looks like.

        Returns:
            (n, H, W) floating point and finite: positive where a pixel speaks for the target.

        Out-of-memory errors may pass: fewer images are asked about then.
        """
        ...
