"""DeepLIFT-SHAP against closed forms, captum, its axioms, and itself written in other ways."""

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lvlm_va.explain.attribution import Attribution, attribute
from lvlm_va.models.resnet import resnet18, resnet50

EXACT = 1e-10  # relative, in float64


class Lambda(nn.Module):
    """Any function as a module without parameters."""

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x)


def problem(n: int = 4, b: int = 3, shape: tuple[int, ...] = (3, 12, 12), classes: int = 4, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    images, baselines = (torch.randn(m, *shape, generator=g, dtype=torch.float64) for m in (n, b))
    return images, torch.randint(classes, (n,), generator=g), baselines


def conv_net(*activations: nn.Module, pool: nn.Module | None = None) -> nn.Sequential:
    """Two convolutions, batch norm with statistics of its own, an activation after each, a linear head."""
    torch.manual_seed(1)
    first, second = activations
    bn = nn.BatchNorm2d(6)
    nn.init.normal_(bn.weight)
    nn.init.normal_(bn.bias)
    nn.init.normal_(bn.running_mean)
    nn.init.uniform_(bn.running_var, 0.5, 2)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False), bn, first, pool or nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(6, 5, 3), second, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 4),
    )  # fmt: skip
    return net.double()


def gap(net: nn.Module, images: Tensor, targets: Tensor, baselines: Tensor) -> Tensor:
    """f(x) − E f(b), computed independently of the code under test."""
    with torch.no_grad():
        net = net.eval()
        f_x = torch.stack([net(x[None].clone())[0, t] for x, t in zip(images, targets, strict=True)])
        return f_x - net(baselines.clone())[:, targets].mean(0)


def assert_complete(net: nn.Module, *args: Tensor, tolerance: float = EXACT) -> Attribution:
    found = attribute(net, *args, tolerance=tolerance)
    expected = gap(net, *args)
    torch.testing.assert_close(found.values.sum((1, 2)), expected, rtol=0, atol=10 * tolerance)
    return found


def test_a_linear_network_gets_weight_times_difference():
    images, targets, baselines = problem()
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 144, 4)).double()
    weight = net[1].weight[targets].view(4, 3, 12, 12)
    expected = (weight * (images - baselines.mean(0))).sum(1)
    torch.testing.assert_close(attribute(net, images, targets, baselines).values, expected)


def test_one_relu_by_hand():
    """f = 5 ReLU(2 x1 − 3 x2 + 1): m = Δout / Δin, so Φ = 5 m (2 Δx1, −3 Δx2)."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 2)).double()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[2.0, -3.0]]))
        net[1].bias.fill_(1.0)
        net[3].weight.copy_(torch.tensor([[0.0], [5.0]]))
    x = torch.tensor([[[[2.0, 1.0]]]], dtype=torch.float64)  # in: 2, out: 2
    b = torch.tensor([[[[-1.0, 1.0]]]], dtype=torch.float64)  # in: −4, out: 0; so m = 2 / 6
    found = attribute(net, x, torch.tensor([1]), b).values
    torch.testing.assert_close(found, torch.tensor([[[5 * 2 / 6 * 2 * 3, 0.0]]], dtype=torch.float64))


def test_overlapping_windows_by_hand():
    """Windows of two over three pixels: the middle one, the maximum of both in x, takes both differences."""
    net = nn.Sequential(nn.MaxPool2d((1, 2), stride=1), nn.Flatten(), nn.Linear(2, 1)).double()
    nn.init.ones_(net[2].weight)
    x = torch.tensor([[[[1.0, 5.0, 2.0]]]], dtype=torch.float64)  # windows: 5 and 5, both at the middle
    b = torch.tensor([[[[3.0, 0.0, 1.0]]]], dtype=torch.float64)  # windows: 3 and 1
    found = attribute(net, x, torch.tensor([0]), b).values
    torch.testing.assert_close(found, torch.tensor([[[0.0, 2.0 + 4.0, 0.0]]], dtype=torch.float64))
    # Exchanged, the same pixel loses what it won: the rule is antisymmetric.
    torch.testing.assert_close(attribute(net, b, torch.tensor([0]), x).values, -found)


def test_captum_agrees_on_an_mlp_with_distinct_relus():
    captum = pytest.importorskip("captum.attr")
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(432, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 4)
    ).double()
    images, targets, baselines = problem(n=6, b=7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = captum.DeepLiftShap(net).attribute(images, baselines, target=targets).detach()
    found = attribute(net, images, targets, baselines).values
    torch.testing.assert_close(found, expected.sum(1))


@pytest.mark.parametrize("build", [resnet18, resnet50])
def test_stock_resnets_are_complete(build):
    torch.manual_seed(0)
    net = build(num_classes=4)
    with torch.no_grad():
        for _ in range(3):
            net.train()(torch.rand(8, 3, 32, 32))
    images, targets, baselines = problem(n=2, b=2, shape=(3, 40, 40))
    single = images.float(), targets, baselines.float()
    found = attribute(net, *single)
    assert float(found.completeness_error.max()) <= 1e-4
    assert found.values.dtype == torch.float32
    expected = gap(net, *single)
    assert float(expected.abs().min()) > 1e-3  # there is something to explain
    torch.testing.assert_close(found.values.sum((1, 2)), expected, rtol=1e-4, atol=1e-5)
    double = assert_complete(net.double(), images, targets, baselines)
    torch.testing.assert_close(found.values.double(), double.values, rtol=1e-3, atol=1e-5)


class Functional(nn.Module):
    """The layers of `conv_net`, with activations called by `relu` and pooling as a function."""

    def __init__(self, layers: nn.Sequential, relu: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layers, self.relu = layers, relu

    def forward(self, x: Tensor) -> Tensor:
        conv1, bn, _, _, conv2, _, _, _, head = self.layers
        x = F.max_pool2d(self.relu(bn(conv1(x))), 3, stride=2, padding=1)
        x = self.relu(conv2(x))
        return head(F.adaptive_avg_pool2d(x, 2).flatten(1))


def _overwrite(x: Tensor) -> Tensor:
    x.relu_()
    return x


REUSED = nn.ReLU(inplace=True)
RELUS = {
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "method": lambda x: x.relu(),
    "method in place, result unused": _overwrite,
    "clamp": lambda x: x.clamp(min=0),
    "clip_": lambda x: torch.clip_(x, 0),
    "prelu": lambda x: F.prelu(x, torch.zeros(1, dtype=x.dtype)),
    "overwritten afterwards": lambda x: (F.relu(x), x.zero_())[0],
    "keyword": lambda x: torch.relu(input=x),
    "module reused": REUSED,
}


@pytest.mark.parametrize("name", RELUS)
def test_every_way_of_calling_relu_is_the_same(name):
    data = problem()
    twin = attribute(conv_net(nn.ReLU(), nn.ReLU()), *data).values
    found = attribute(Functional(conv_net(nn.ReLU(), nn.ReLU()), RELUS[name]), *data).values
    torch.testing.assert_close(found, twin, rtol=1e-12, atol=1e-12)


def test_relu_as_the_first_operation_in_place():
    data = problem()
    inplace, outofplace = (
        nn.Sequential(nn.ReLU(inplace=flag), *conv_net(nn.ReLU(), nn.ReLU())) for flag in (True, False)
    )
    before = [t.clone() for t in data]
    torch.testing.assert_close(assert_complete(inplace, *data).values, attribute(outofplace, *data).values)
    attribute(inplace, *data, method="gradient-shap")
    assert all(torch.equal(now, then) for now, then in zip(data, before, strict=True))


@pytest.mark.parametrize(
    "activation",
    [
        nn.Sigmoid(), nn.Tanh(), nn.GELU(), nn.GELU(approximate="tanh"), nn.SiLU(), nn.SiLU(inplace=True),
        nn.LeakyReLU(0.2), nn.LeakyReLU(0.2, inplace=True), nn.ELU(), nn.ELU(inplace=True), nn.SELU(),
        nn.CELU(), nn.Mish(), nn.Hardswish(), nn.Hardsigmoid(inplace=True), nn.Hardtanh(), nn.Softplus(),
        nn.ReLU6(), nn.ReLU6(inplace=True), nn.PReLU(6), nn.RReLU(), nn.LogSigmoid(), nn.Softsign(),
        Lambda(torch.sigmoid_), Lambda(lambda x: x.tanh()), nn.Dropout(0.5),
        nn.Threshold(0.1, 0.0), nn.Hardshrink(), nn.Softshrink(), nn.Tanhshrink(), Lambda(torch.abs),
        Lambda(torch.square), Lambda(lambda x: x.exp_()), Lambda(torch.erf), Lambda(lambda x: x.sin()),
        Lambda(lambda x: torch.cat([F.silu(x[:, :3]), F.gelu(x[:, 3:])], 1)),
        Lambda(lambda x: F.dropout(x, 0.5, training=False)),
    ],
    ids=repr,
)  # fmt: skip
def test_elementwise_activations_are_complete(activation):
    found = assert_complete(conv_net(activation, nn.ReLU()), *problem())
    assert float(found.values.abs().max()) > 0


def test_where_image_and_baseline_agree_the_multiplier_is_the_derivative():
    """Δx → 0 at every activation: Φ / Δx tends to the gradient, with no quotient of rounding errors."""
    net = conv_net(nn.GELU(), nn.Sigmoid(), pool=nn.AvgPool2d(2))
    images, targets, _ = problem(n=1)
    step = torch.zeros_like(images)
    step[0, 0, 5, 5] = 1e-13
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net.eval()(x)[0, targets[0]], x)
    found = attribute(net, images + step, targets, images, tolerance=1e9).values[0, 5, 5]
    exact = gradient[0, 0, 5, 5] * ((images + step) - images)[0, 0, 5, 5]
    assert float(found / exact) == pytest.approx(1, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.integers(1, 4),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 2),
    ceil_mode=st.booleans(),
    ties=st.booleans(),
    seed=st.integers(0, 10**6),
    data=st.data(),
)
def test_max_pooling_is_complete(kernel, stride, dilation, ceil_mode, ties, seed, data):
    padding = data.draw(st.integers(0, kernel // 2))
    pool = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    torch.manual_seed(seed)
    images, targets, baselines = problem(n=2, b=2, shape=(2, 9, 8), seed=seed)
    if ties:
        images, baselines = images.round(), baselines.round()
    width = pool(images).flatten(1).shape[1]
    net = nn.Sequential(nn.ReLU(inplace=True), pool, nn.Flatten(), nn.Linear(width, 4)).double()
    assert_complete(net, images, targets, baselines)


@pytest.mark.parametrize(
    "pool",
    [
        nn.AdaptiveMaxPool2d(3),
        Lambda(lambda x: torch.max_pool2d(x, 3, 2, 1)),
        Lambda(lambda x: F.max_pool2d(x, 4)),
        Lambda(lambda x: torch.amax(x, (2, 3), keepdim=True).expand(-1, -1, 4, 4)),
        Lambda(lambda x: x.amax(dim=(-1, -2))[:, :, None, None].expand(-1, -1, 4, 4)),
    ],
    ids=["adaptive", "torch.max_pool2d", "F.max_pool2d", "torch.amax", "amax"],
)
def test_every_way_of_calling_max_pooling_is_complete(pool):
    assert_complete(conv_net(nn.ReLU(), nn.ReLU(), pool=pool), *problem())


@pytest.mark.parametrize(("batch_size", "baseline_chunk"), [(1, 1), (2, 3), (3, 2), (7, 9), (1, 5), (5, 1)])
def test_chunks_do_not_matter(batch_size, baseline_chunk):
    net, data = conv_net(nn.ReLU(), nn.SiLU()), problem(n=7, b=5)
    expected = attribute(net, *data, batch_size=7, baseline_chunk=5)
    done: list[tuple[int, int]] = []
    found = attribute(
        net, *data, batch_size=batch_size, baseline_chunk=baseline_chunk, progress=lambda *a: done.append(a)
    )
    torch.testing.assert_close(found.values, expected.values)
    assert done == [(min(i + batch_size, 7), 7) for i in range(0, 7, batch_size)]


def test_shap_is_the_mean_over_baselines():
    net, (images, targets, baselines) = conv_net(nn.ReLU(), nn.Tanh()), problem()
    single = [attribute(net, images, targets, b[None]).values for b in baselines]
    torch.testing.assert_close(attribute(net, images, targets, baselines).values, torch.stack(single).mean(0))


def test_dummy_and_symmetric_pixels():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 4)).double()
    images, targets, baselines = problem(shape=(1, 3, 3))
    with torch.no_grad():
        net[1].weight[:, 4] = 0  # pixel (1, 1) changes nothing
        net[1].weight[:, 8] = net[1].weight[:, 0]  # pixels (0, 0) and (2, 2) do the same
    for batch in (images, baselines):
        batch[:, :, 2, 2] = batch[:, :, 0, 0]
    values = attribute(net, images, targets, baselines).values
    assert torch.equal(values[:, 1, 1], torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(values[:, 2, 2], values[:, 0, 0])
    assert float(values[:, 0, 0].abs().min()) > 0


def test_an_image_that_is_its_baseline_gets_zero():
    images, targets, _ = problem(n=1)
    found = attribute(conv_net(nn.ReLU(), nn.GELU()), images, targets, images)
    assert torch.equal(found.values, torch.zeros_like(found.values))
    assert found.completeness_error.tolist() == [0.0]


def test_no_images_give_no_attributions():
    images, targets, baselines = problem()
    found = attribute(conv_net(nn.ReLU(), nn.ReLU()), images[:0], targets[:0], baselines)
    assert found.values.shape == (0, 12, 12)
    assert found.completeness_error.shape == (0,)
