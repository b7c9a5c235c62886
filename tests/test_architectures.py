"""Common architectures, small: explained exactly or refused with advice that works, never changed."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.networks import NETWORKS, calibrated
from bench.zoo import REFUSED, ZOO, Refused, disturbed
from lvlm_va.alignment.fine_tune import AlignmentSet, FineTuning, fine_tune
from lvlm_va.data.imageset import ArrayImageSet
from lvlm_va.errors import AttributionError
from lvlm_va.explain.attribution import METHODS, attribute
from lvlm_va.models.adapter import Adapted
from lvlm_va.models.predict import logits

K, SIDE = 3, 32


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> tuple[str, nn.Module]:
    return request.param, calibrated(NETWORKS[request.param].small, K, SIDE)


def data() -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    images, baselines = torch.rand(2, 3, SIDE, SIDE, generator=g), torch.rand(2, 3, SIDE, SIDE, generator=g)
    return images, torch.tensor([0, 2]), baselines


def image_set() -> ArrayImageSet:
    images, labels, _ = data()
    return ArrayImageSet(images, labels, ["a", "b"], ("x", "y", "z"))


def test_deeplift_is_exact(network: tuple[str, nn.Module]) -> None:
    _, net = network
    model, (images, targets, baselines) = Adapted(net, "imagenet", K), data()
    found = attribute(model, images, targets, baselines)
    with torch.no_grad():
        gap = model(images).gather(1, targets[:, None])[:, 0] - model(baselines)[:, targets].mean(0)
    torch.testing.assert_close(found.values.sum((1, 2)), gap, rtol=1e-3, atol=1e-4)


FAMILIES = (
    "MobileNetV3-L", "ConvNeXtV2-T", "Swin-T", "SwinV2-T", "ViT-S/16, eager attention",
    "ViT-S/16 of torch's layers", "BiT-50", "BEiT-S", "DINOv2-S/14, SwiGLU", "CLIP", "CvT-13", "FocalNet-T",
    "Hiera-T", "PoolFormer-S12", "PVTv2, linear attention", "MLP-Mixer", "CBAM",
)  # fmt: skip


@pytest.mark.parametrize(
    "name", [n if n in FAMILIES else pytest.param(n, marks=pytest.mark.slow) for n in ZOO]
)
def test_deeplift_is_exact_for_the_zoo(name: str) -> None:
    """At weights, norms and scales that are not trivial."""
    torch.manual_seed(0)
    model = Adapted(disturbed(ZOO[name].small(K), SIDE), "imagenet", K)
    images, targets, baselines = data()
    found = attribute(model, images, targets, baselines)
    assert float(found.completeness_error.max()) <= 1e-4
    assert float(found.values.abs().max()) > 1e-3


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused_with_the_true_reason(name: str) -> None:
    middle, reason = REFUSED[name]
    torch.manual_seed(0)
    with pytest.raises(
        AttributionError, match=rf"(?s){reason}.*integrated-gradients or gradient-shap.*explain\.attribution"
    ):
        attribute(Refused(K, middle), *data())


def everything(model: nn.Module) -> dict[str, Any]:
    """All that could change in a module."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "modes": [module.training for module in model.modules()],
        "hooks": [[len(getattr(module, name)) for name in hooks] for module in model.modules()],
        "attributes": [sorted(module.__dict__) for module in model.modules()],
        "flags": [
            (n, t.requires_grad, t.dtype, t.device, t.data_ptr(), t._version, t.is_inference())
            for n, t in model.state_dict(keep_vars=True).items()
        ],
        "values": [t.clone() for t in model.state_dict().values()],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
    }


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


def test_the_users_module_is_never_left_changed(network: tuple[str, nn.Module]) -> None:
    _, net = network
    model = copy.deepcopy(net)
    # As a user's may be: training, one part frozen in evaluation mode, a gradient and a hook lying about.
    model.train()
    first, *_ = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    first.eval().requires_grad_(False)
    last = list(model.parameters())[-1]
    last.grad = torch.ones_like(last)
    model.register_forward_hook(lambda *_: None)
    images, targets, baselines = data()
    before, rng = everything(model), torch.get_rng_state()

    for method in METHODS:
        attribute(
            Adapted(model, "imagenet", K),
            images,
            targets,
            baselines,
            method=method,
            steps=2,
            tolerance=float("inf"),
        )
    logits(Adapted(model, "imagenet", K), image_set())
    masks = torch.zeros(2, SIDE, SIDE)
    masks[:, :8] = 1
    tuning = FineTuning(lam=0.1, epochs=1, training_batch=2, alignment_batch=2)
    aligned, _ = fine_tune(
        Adapted(model, "imagenet", K), image_set(), AlignmentSet(torch.arange(2), masks), tuning
    )

    assert_same(everything(model), before)
    assert torch.equal(torch.get_rng_state(), rng)
    pairs = list(zip(aligned.parameters(), model.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in pairs), "the copy was trained"
    assert all(torch.equal(a, b) for a, b in pairs if not b.requires_grad), "and what the user froze stayed"
