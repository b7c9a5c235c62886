"""The user's classifier: what it may return, how it wants its images, whose its checkpoints are."""

import copy
from collections import namedtuple
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

import lvlm_va
import small
from lvlm_va.data.imageset import ArrayImageSet
from lvlm_va.errors import ConfigError, ModelError
from lvlm_va.evaluate.accuracy import accuracy
from lvlm_va.models.adapter import Adapted, in_full_precision, pick_logits, unwrapped
from lvlm_va.models.checkpoint import check_outputs, load_checkpoint, load_pretrained, save_checkpoint
from lvlm_va.models.predict import logits
from lvlm_va.models.resnet import resnet18
from lvlm_va.project.fingerprints import weights_fingerprint

N, K = 4, 3
Y, FEATURES = torch.arange(12.0).view(N, K), torch.zeros(N, 8)
Outputs = namedtuple("Outputs", ["logits", "aux_logits"])


@pytest.mark.parametrize(
    "outputs",
    [
        Y,
        (Y,),
        [FEATURES, Y],
        (torch.zeros(()), Y, {"attention": FEATURES}),
        {"logits": Y, "other": Y + 1},
        {"features": FEATURES, "scores": Y},
        Outputs(Y, Y + 1),
        SimpleNamespace(logits=Y, loss=None),
    ],
)
def test_the_logits_are_found(outputs: object) -> None:
    assert pick_logits(outputs, N, K) is Y


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        (
            (Y, Y + 1),
            r"a tuple \(0: \(4, 3\); 1: \(4, 3\)\), 2 of which could be the logits of shape \(4, 3\)",
        ),
        ({"a": Y, "b": Y}, r"a dict \('a': \(4, 3\); 'b': \(4, 3\)\), 2 of which could be"),
        ({"a": FEATURES, "b": 1}, r"\('a': \(4, 8\); 'b': int\), none of which can be"),
        ({"logits": None, "x": Y[:2]}, r"'logits': NoneType; 'x': \(2, 3\)"),
        ((), "a tuple instead of logits"),
        (None, "a NoneType instead of logits"),
        (SimpleNamespace(prediction=Y), "a SimpleNamespace instead of logits"),
    ],
)
def test_logits_that_cannot_be_told(outputs: object, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        pick_logits(outputs, N, K)


def test_without_the_number_of_classes_two_matrices_are_ambiguous() -> None:
    assert pick_logits((torch.zeros(N, 2, 2), Y), N) is Y
    with pytest.raises(ModelError, match="2 of which could be"):
        pick_logits((FEATURES, Y), N)


def test_normalisation_by_its_formula() -> None:
    mean, std = [0.5, 0.25, 0.0], [0.5, 0.25, 2.0]
    x = torch.rand(2, 3, 4, 5)
    model = Adapted(nn.Flatten(), {"mean": mean, "std": std})
    expected = torch.stack([(x[:, c] - mean[c]) / std[c] for c in range(3)], 1).flatten(1)
    torch.testing.assert_close(model(x), expected)
    assert model.normalisation == {"mean": mean, "std": std}
    imagenet = Adapted(nn.Flatten(), "imagenet")
    grey = torch.tensor([0.485, 0.456, 0.406])[:, None, None].expand(1, 3, 2, 2)
    torch.testing.assert_close(imagenet(grey), torch.zeros(1, 12))
    for nothing in (None, "none"):
        assert torch.equal(Adapted(nn.Flatten(), nothing)(x), x.flatten(1))


@pytest.mark.parametrize(
    "wrong",
    [
        "imagnet", {"mean": [0.5]}, {"mean": [0.5], "std": [0.0]}, {"mean": [], "std": []},
        {"mean": 1, "std": 1},
        {"mean": [0.5], "std": [0.5, 0.5]}, {"mean": ["a"], "std": [1]}, {"mean": [float("nan")], "std": [1]},
        {"mean": [0.5], "std": [1], "scale": [1]},
    ],
)  # fmt: skip
def test_normalisations_that_cannot_be_used(wrong: object) -> None:
    with pytest.raises(ConfigError, match=r"none, imagenet, or \{mean: "):
        Adapted(nn.Flatten(), wrong)


def conv_net(channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, K))


def test_grey_images_and_a_colour_model_name_the_key() -> None:
    grey = torch.rand(2, 1, 8, 8)
    with pytest.raises(ModelError, match=r"data\.channels to 3"):
        check_outputs(Adapted(conv_net()), grey, K)
    with pytest.raises(ModelError, match=r"3 channels, but the images have 1; set data\.channels to 3"):
        check_outputs(Adapted(conv_net(), "imagenet"), grey, K)


def test_a_forward_pass_that_raises_anything() -> None:
    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("my images are\n384 wide")

    with pytest.raises(
        ModelError, match=r"fails on images of shape \(2, 3, 8, 8\): my images are \(.*in forward\)$"
    ):
        check_outputs(Picky(), torch.rand(2, 3, 8, 8), K)


def test_checkpoints_are_those_of_the_module_inside(tmp_path: Path) -> None:
    mine, path = conv_net(), tmp_path / "m.safetensors"
    model = Adapted(mine, "imagenet", K)
    save_checkpoint(model, path)
    assert load_file(path).keys() == mine.state_dict().keys()
    other = Adapted(conv_net(), "imagenet")
    nn.init.zeros_(unwrapped(other)[0].weight)
    load_checkpoint(other, path)
    assert torch.equal(unwrapped(other)[0].weight, mine[0].weight)
    plain = conv_net()
    plain.load_state_dict(load_file(path), strict=True)
    assert weights_fingerprint(Adapted(plain)) == weights_fingerprint(plain) == weights_fingerprint(mine)
    assert weights_fingerprint(model) != weights_fingerprint(mine), "another function of the images"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_precision(tmp_path: Path, dtype: torch.dtype) -> None:
    """float64 stays and is given float64 images; half precision is computed in float32."""
    half = conv_net().eval().to(dtype)
    expected = copy.deepcopy(half).double()
    model = Adapted(in_full_precision(copy.deepcopy(half)), "imagenet")
    x = torch.rand(2, 3, 8, 8)
    y = model(x)
    assert y.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(y.double(), Adapted(expected, "imagenet")(x), rtol=1e-4, atol=1e-5)
    assert half[0].weight.dtype == dtype
    assert len(weights_fingerprint(half)) == 24
    save_checkpoint(half, tmp_path / "half.safetensors")
    load_checkpoint(model, tmp_path / "half.safetensors")
    assert unwrapped(model)[0].weight.dtype in (torch.float32, torch.float64)


class Attention(nn.Module):
    """Torch's fused attention over an image's rows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.head = nn.Linear(8, 24), nn.Linear(8, K)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.head(F.scaled_dot_product_attention(q, k, v).mean((1, 2)))


def test_attention_can_be_differentiated_twice() -> None:
    """As a right-reasons term needs; against the same by finite differences of the first derivative."""
    model, x = Adapted(Attention().double()), torch.rand(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)

    def penalty() -> Tensor:
        (gradient,) = torch.autograd.grad(model(x).log_softmax(1).sum(), x, create_graph=True)
        return gradient.square().sum()

    weight = unwrapped(model).qkv.weight
    (found,) = torch.autograd.grad(penalty(), weight)
    step = 1e-5
    with torch.no_grad():
        weight[3, 2] += step
    above = penalty().detach()
    with torch.no_grad():
        weight[3, 2] -= 2 * step
    slope = (above - penalty().detach()) / (2 * step)
    torch.testing.assert_close(found[3, 2], slope, rtol=1e-5, atol=1e-10)


@cache
def decider() -> nn.Module:
    return small.trained()


class Transformer(nn.Module):
    """A user's model: wants normalised images, answers with a mapping, frozen in part."""

    def __init__(self) -> None:
        super().__init__()
        self.net = copy.deepcopy(decider())
        # What the normalisation below undoes, so that this is the same function of images in [0, 1].
        self.register_buffer("scale", torch.tensor(0.25))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = self.net.layers[:-1](x * self.scale + 0.5)
        return {"hidden": hidden, "scores": self.net.layers[-1](hidden)}


def test_align_hands_back_the_users_kind_of_module(tmp_path: Path) -> None:
    model, parts = Transformer().double(), small.splits()
    before = copy.deepcopy(model.state_dict())
    settings = small.settings(
        explain__num_images=12, align__epochs=1, model__normalise={"mean": [0.5], "std": [0.25]}
    )
    run = lvlm_va.align(
        model,
        parts,
        small.SPECIFICATIONS,
        critic="ground-truth",
        run=tmp_path / "run",
        settings=settings,
        quiet=True,
    )
    assert type(run.model) is Transformer
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    test = parts.tests["test"]
    normalise = {"mean": [0.5], "std": [0.25]}
    for mine, name in ((model, "original"), (run.model, "aligned")):
        outputs = logits(Adapted(mine, normalise, len(small.CLASSES)), test)
        assert accuracy(outputs, test.labels) == run.metrics.models[name].accuracy["test"]
    for name in ("model", "aligned"):
        Transformer().load_state_dict(load_file(tmp_path / f"run/{name}.safetensors"), strict=True)
    assert run.metrics.model.normalise == normalise
    assert run.metrics.model.initial_weights == "given"


def test_logits_leave_every_module_in_its_mode_and_go_on_when_memory_runs_out() -> None:
    class Full(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.seen = small.untrained(), []

        def forward(self, x: Tensor) -> Tensor:
            self.seen.append(len(x))
            if len(x) > 40:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return self.net(x)

    model = Full().train()
    model.net.eval()
    images = small.shapes(90, seed=1, betrayed=False)
    assert isinstance(images, ArrayImageSet)
    found = logits(model, images)
    torch.testing.assert_close(found, model.net(images.pixels).detach())
    assert model.seen == [90, 45, 22, 22, 22, 22, 2]
    assert model.training
    assert not model.net.training
    with pytest.raises(torch.OutOfMemoryError):
        logits(Broken(), images)


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")


def backbone(path: Path, classes: int = 1000, **options: int) -> nn.Module:
    torch.manual_seed(7)
    net = resnet18(num_classes=classes, **options)
    torch.save({n: t.half() if t.is_floating_point() else t for n, t in net.state_dict().items()}, path)
    return net


def test_a_backbone_lends_everything_but_its_head(tmp_path: Path) -> None:
    source, path = backbone(tmp_path / "w.pth"), tmp_path / "w.pth"
    torch.manual_seed(0)
    model = Adapted(resnet18(num_classes=2), "imagenet")
    head = unwrapped(model).fc.weight.detach().clone()
    sha256 = load_pretrained(model, path)
    assert len(sha256) == 64
    mine = unwrapped(model).state_dict()
    assert torch.equal(mine["fc.weight"], head)
    for name, tensor in source.state_dict().items():
        if not name.startswith("fc."):
            torch.testing.assert_close(mine[name], tensor, rtol=1e-3, atol=1e-4)
            assert mine[name].dtype == tensor.dtype
    same = resnet18(num_classes=1000)
    load_pretrained(same, path)
    torch.testing.assert_close(same.fc.weight, source.fc.weight, rtol=1e-3, atol=1e-4)


def test_a_backbone_without_head_or_batch_counters(tmp_path: Path) -> None:
    source, path = resnet18(num_classes=5), tmp_path / "w.pth"
    torch.save(
        {n: t for n, t in source.state_dict().items() if not n.startswith("fc.") and "num_batches" not in n},
        path,
    )
    model = resnet18(num_classes=2)
    load_pretrained(model, path)
    assert torch.equal(model.layer4[1].conv2.weight, source.layer4[1].conv2.weight)


def test_a_backbone_that_does_not_fit_names_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    backbone(path)
    grey = resnet18(num_classes=2, in_channels=1)
    before = copy.deepcopy(grey.state_dict())
    with pytest.raises(ModelError, match=r"conv1\.weight is \(64, 3, 7, 7\).*set data\.channels to 3"):
        load_pretrained(grey, path)
    assert all(torch.equal(value, before[name]) for name, value in grey.state_dict().items())
    state = resnet18(2).state_dict()
    torch.save({("head." if n == "fc.bias" else "backbone.") + n: t for n, t in state.items()}, path)
    with pytest.raises(
        ModelError, match=r"missing: conv1\.weight.*unexpected: backbone\.conv1\.weight.*head \(fc\)"
    ):
        load_pretrained(resnet18(2), path)
