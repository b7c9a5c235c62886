"""DeepLIFT's rules for products, softmax, normalisation, maxima and conditions: closed forms and twins."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lvlm_va.explain.attribution import Attribution, attribute
from lvlm_va.explain.attribution.secants import CLOSED_FORMS, power, quotient

CLASSES = 4
Middle = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """A convolution, `middle` on its (n, 6, 4, 4) activations, a linear head."""

    def __init__(self, middle: Middle, width: int = 96) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.middle = nn.Conv2d(3, 6, 3), nn.Linear(width, CLASSES), middle

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.conv(x)).flatten(1))


def data(n: int = 5, b: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    images, baselines = (torch.randn(m, 3, 6, 6, generator=g, dtype=torch.float64) for m in (n, b))
    return images, torch.arange(n) % CLASSES, baselines


def explained(middle: Middle, *, width: int = 96, tolerance: float = 1e-9) -> Attribution:
    found = attribute(Net(middle, width).double(), *data(), tolerance=tolerance)
    assert float(found.values.abs().max()) > 0
    return found


class Pixels(nn.Module):
    """f of the flattened image as the logit of class 0."""

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.f = f

    def forward(self, x: Tensor) -> Tensor:
        y = self.f(x.flatten(1))
        return torch.stack([y, torch.zeros_like(y)], 1)


def of_pixels(f: Callable[[Tensor], Tensor], x: Tensor, b: Tensor) -> Tensor:
    """Φ of f at x (d,) against one baseline b (d,)."""
    images, baselines = (v.double().view(1, 1, 1, -1) for v in (x, b))
    return attribute(Pixels(f), images, torch.tensor([0]), baselines, tolerance=1e-9).values[0, 0]


G = torch.Generator().manual_seed(7)
W, V, X, B = (torch.randn(6, generator=G, dtype=torch.float64) for _ in range(4))


def test_a_product_of_linear_functions_has_its_factors_shapley_values():
    """u v with u = w·x + 1, v = v·x − 2: each factor's mean marginal over both orders, shared linearly."""
    found = of_pixels(lambda x: (x @ W + 1) * (x @ V - 2), X, B)
    at = {"u": (X @ W + 1, B @ W + 1), "v": (X @ V - 2, B @ V - 2)}

    def game(present: set[str]) -> Tensor:
        return math.prod(
            (at[name][0] if name in present else at[name][1] for name in at), start=torch.tensor(1.0)
        )

    shapley = {"u": 0.0, "v": 0.0}
    for order in itertools.permutations("uv"):
        for position, name in enumerate(order):
            before = set(order[:position])
            shapley[name] += float(game(before | {name}) - game(before)) / 2
    share = {name: weight * (X - B) / (weight @ (X - B)) for name, weight in (("u", W), ("v", V))}
    torch.testing.assert_close(found, shapley["u"] * share["u"] + shapley["v"] * share["v"])


def test_a_quotient_is_a_product_with_the_reciprocal():
    found = of_pixels(lambda x: (x @ W) / (x @ V).exp(), X, B)
    u, v = (X @ W, B @ W), ((X @ V).exp(), (B @ V).exp())
    by_u = W * (X - B) * (1 / v[0] + 1 / v[1]) / 2
    by_v = (u[0] + u[1]) / 2 * (1 / v[0] - 1 / v[1]) * V * (X - B) / (V @ (X - B))
    torch.testing.assert_close(found, by_u + by_v)


def test_softmax_of_two_is_a_sigmoid_of_the_difference():
    found = of_pixels(lambda x: torch.stack([x @ W, x @ V], 1).softmax(1)[:, 0], X, B)
    torch.testing.assert_close(found, of_pixels(lambda x: (x @ (W - V)).sigmoid(), X, B))


def test_softmax_by_its_formula_whatever_is_added_to_all_logits():
    found = of_pixels(lambda x: x.softmax(1)[:, 2], X, B)
    p, q = X.softmax(0), B.softmax(0)
    m = (p - q) / (p.log() - q.log())
    row = m[2] * ((torch.arange(6) == 2).double() - m / m.sum())
    torch.testing.assert_close(found, row * (X - B))
    shifted = of_pixels(lambda x: (x + 3 * (x @ W)[:, None]).softmax(1)[:, 2], X, B)
    torch.testing.assert_close(shifted, found)


def test_a_square_and_a_variance_take_the_gradient_at_the_midpoint():
    middle = (X + B) / 2
    torch.testing.assert_close(of_pixels(lambda x: (x * x).sum(1), X, B), 2 * middle * (X - B))
    expected = 2 * (middle - middle.mean()) / 5 * (X - B)
    torch.testing.assert_close(of_pixels(lambda x: x.var(1), X, B), expected)


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def attention(x: Tensor) -> Tensor:
    q = tokens(x)
    return (q @ q.transpose(1, 2) / 6**0.5).softmax(-1) @ q


class Heads(nn.Module):
    """torch's multi-head attention over the pixels, batch first or tokens first."""

    def __init__(self, batch_first: bool, weights: bool) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.mha = nn.MultiheadAttention(6, 2, batch_first=batch_first).double()
        self.weights = weights

    def forward(self, x: Tensor) -> Tensor:
        x = tokens(x) if self.mha.batch_first else x.flatten(2).permute(2, 0, 1)
        y = self.mha(x, x, x, need_weights=self.weights)[0]
        return y if self.mha.batch_first else y.transpose(0, 1)


def by_hand(x: Tensor) -> Tensor:
    """The same as `Heads`."""
    mha = Heads(True, False).mha
    q, k, v = (
        t.unflatten(-1, (2, 3)).transpose(1, 2)
        for t in F.linear(tokens(x), mha.in_proj_weight.detach(), mha.in_proj_bias.detach()).chunk(3, -1)
    )
    y = ((q @ k.transpose(-2, -1)) * 3**-0.5).softmax(-1) @ v
    y = y.transpose(1, 2).flatten(2)
    return F.linear(y, mha.out_proj.weight.detach(), mha.out_proj.bias.detach())


def normalised(dims: tuple[int, ...], shape: Callable[[Tensor], Tensor] = lambda x: x) -> Middle:
    def f(x: Tensor) -> Tensor:
        y = shape(x)
        y = y - y.mean(dims, keepdim=True)
        return (y / (y.square().mean(dims, keepdim=True) + 1e-5).sqrt()).view_as(x)

    return f


def in_place(name: str) -> Middle:
    def f(x: Tensor) -> Tensor:
        gate = x.sigmoid()
        getattr(x, name)(gate)
        return x

    return f


TWINS: dict[str, tuple[Middle, Middle]] = {
    "attention": (lambda x: F.scaled_dot_product_attention(*[tokens(x)] * 3), attention),
    "attention, scale and mask": (
        lambda x: F.scaled_dot_product_attention(
            *[tokens(x)] * 3, torch.eye(16, dtype=torch.float64), scale=1.0
        ),
        lambda x: (tokens(x) @ tokens(x).mT + torch.eye(16)).softmax(-1) @ tokens(x),
    ),
    "attention, causal": (
        lambda x: F.scaled_dot_product_attention(*[tokens(x)] * 3, is_causal=True),
        lambda x: F.scaled_dot_product_attention(*[tokens(x)] * 3, torch.ones(16, 16).tril().bool()),
    ),
    "heads": (Heads(True, False), by_hand),
    "heads with weights": (Heads(True, True), by_hand),
    "heads, tokens first": (Heads(False, False), by_hand),
    "einsum": (
        lambda x: torch.einsum("bti,bsi->bts", tokens(x), tokens(x)).mean(1).repeat(1, 6),
        lambda x: (tokens(x) @ tokens(x).mT).mean(1).repeat(1, 6),
    ),
    "layer norm": (lambda x: F.layer_norm(x, x.shape[1:]), normalised((1, 2, 3))),
    "group norm": (
        lambda x: F.group_norm(x, 3), normalised((2, 3, 4), lambda x: x.unflatten(1, (3, 2)))
    ),
    "instance norm": (F.instance_norm, normalised((2, 3))),
    "rms norm": (
        lambda x: F.rms_norm(x, x.shape[1:], eps=1e-3),
        lambda x: x * (x.pow(2).mean((1, 2, 3), keepdim=True) + 1e-3).rsqrt(),
    ),
    "normalize": (F.normalize, lambda x: x / x.pow(2).sum(1, keepdim=True).sqrt()),
    "std": (lambda x: x / x.std(1, keepdim=True), lambda x: x / torch.var(x, 1, keepdim=True) ** 0.5),
    "silu": (F.silu, lambda x: x * x.sigmoid()),
    "gate in place": (F.silu, in_place("mul_")),
    "divided in place": (lambda x: x / x.sigmoid(), in_place("div_")),
    "number over": (lambda x: 2 / (1 + x.exp()), lambda x: 2 * torch.sigmoid(-x)),
    "glu": (lambda x: F.glu(torch.cat([x, x], 1), 1), F.silu),
    "softmin": (lambda x: F.softmin(x, 1), lambda x: torch.softmax(-x, 1)),
    "log-softmax": (lambda x: F.log_softmax(x, 1), lambda x: x - x.logsumexp(1, keepdim=True)),
    "leaky": (lambda x: F.leaky_relu(x, 0.1), lambda x: torch.where(x > 0, x, 0.1 * x)),
    "leaky, maximum": (lambda x: F.leaky_relu(x, 0.1), lambda x: torch.maximum(x, 0.1 * x)),
    "leaky by a method": (lambda x: F.leaky_relu(x, 0.1), lambda x: x.where(x > 0, 0.1 * x)),
    "relu by its mask": (F.relu, lambda x: x * (x > 0)),
    "relu by a float mask": (F.relu, lambda x: x * (x >= 0).to(x.dtype)),
    "relu by filling": (F.relu, lambda x: x.masked_fill(x < 0, 0.0)),
    "hardtanh by conditions": (
        F.hardtanh, lambda x: torch.where((x > -1) & ~(x > 1), x, (x > 1).double() - (x <= -1).double())
    ),
    "relu by minimum": (F.relu, lambda x: -torch.minimum(-x, torch.zeros(()))),
    "relu by clamp": (F.relu, lambda x: x.clamp(min=torch.zeros(1).to(x))),
    "amax": (
        lambda x: F.adaptive_max_pool2d(x, 1).expand(-1, -1, 4, 4),
        lambda x: x.flatten(2).max(2)[0].repeat(1, 16).view(-1, 16, 6).mT,
    ),
    "max over channels": (
        lambda x: x - x.amax(1, keepdim=True), lambda x: x - x.max(1, keepdim=True).values
    ),
    "min over channels": (lambda x: x - x.amin(1, keepdim=True), lambda x: x + (-x).amax(1, keepdim=True)),
    "powers": (lambda x: x**3, lambda x: x * x * x.square() / x),
    "views as batches": (
        lambda x: F.gelu(x) + F.gelu(x.flip(3)),
        lambda x: F.gelu(torch.cat([x, x.flip(3)])).unflatten(0, (2, -1)).sum(0),
    ),
    "views of each image": (
        lambda x: F.gelu(x) + F.gelu(x.flip(3)),
        lambda x: F.gelu(torch.stack([x, x.flip(3)], 1).flatten(0, 1)).unflatten(0, (-1, 2)).sum(1),
    ),
    "windows": (
        lambda x: x.unflatten(2, (2, 2)).softmax(3).flatten(2),
        lambda x: x.unflatten(2, (2, 2)).permute(0, 2, 1, 3, 4).reshape(-1, 6, 2, 4).softmax(2)
        .unflatten(0, (-1, 2)).permute(0, 2, 1, 3, 4).flatten(2),
    ),
    "kernels made from the image": (
        lambda x: F.conv2d(
            x.flatten(0, 1)[None], x.mean((2, 3)).view(-1, 1, 1, 1), groups=x.shape[0] * 6
        ).view_as(x),
        lambda x: x * x.mean((2, 3), keepdim=True),
    ),
}  # fmt: skip
"""Two ways of writing one function."""
NOT_THE_SAME_SPLIT = {"powers", "log-softmax", "leaky, maximum"}
"""Products of one number with itself more than once, or differences of large shares: the same sum, split
between the same pixels in another way."""


@pytest.mark.parametrize("name", TWINS)
def test_two_ways_of_writing_a_function_are_explained_alike(name):
    one, other = (explained(middle) for middle in TWINS[name])
    torch.testing.assert_close(one.values.sum((1, 2)), other.values.sum((1, 2)))
    if name not in NOT_THE_SAME_SPLIT:
        torch.testing.assert_close(one.values, other.values, rtol=1e-6, atol=1e-9)


DOMAINS = dict.fromkeys(("rsqrt", "reciprocal", "log", "log2", "log10"), 1e-3) | {"sqrt": 0, "log1p": -0.9}


@pytest.mark.parametrize("name", CLOSED_FORMS)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_closed_secants(name, data):
    number = st.floats(DOMAINS.get(name, -20.0), 20.0, allow_subnormal=False)
    x = torch.tensor([data.draw(number)], dtype=torch.float64)
    b = x.clone() if data.draw(st.booleans()) else torch.tensor([data.draw(number)], dtype=torch.float64)
    f = getattr(torch, name)
    m = CLOSED_FORMS[name](x, b)
    assert bool(m.isfinite())
    torch.testing.assert_close(
        m * (x - b), f(x) - f(b), rtol=1e-9, atol=1e-9 * float(f(x).abs() + f(b).abs()) + 1e-12
    )
    if torch.equal(x, b) and not (name in ("sqrt", "relu") and float(x) == 0):
        point = x.clone().requires_grad_()
        (derivative,) = torch.autograd.grad(f(point), point)
        torch.testing.assert_close(m, derivative)


@pytest.mark.parametrize("exponent", [1, 2, 3, 5, 0.5, -0.5, -1])
def test_powers_agree_with_the_quotient(exponent):
    x, b = torch.tensor([[0.3], [2.0], [1.5]]).double(), torch.tensor([[1.1], [0.2], [1.5]]).double()
    closed, plain = power(exponent), quotient(lambda a: a**exponent, least=1e-300)
    assert closed is not None
    torch.testing.assert_close(closed(x, b), plain(x, b), rtol=1e-6, atol=0)


W6 = torch.randn(6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64) / 6**0.5
STEPS: dict[str, Middle] = {
    "channels": lambda x: torch.einsum("oc,nchw->nohw", W6.to(x), x),
    "gate": lambda x: x * torch.sigmoid(2 * x.mean((2, 3), keepdim=True)),
    "attention": lambda x: attention(x).mT.reshape(x.shape),
    "attention of torch": lambda x: F.scaled_dot_product_attention(*[tokens(x)] * 3).mT.reshape(x.shape),
    "layer norm": lambda x: F.layer_norm(x.movedim(1, -1), (6,)).movedim(-1, 1),
    "group norm": lambda x: F.group_norm(x, 2),
    "instance norm": F.instance_norm,
    "rms norm": lambda x: F.rms_norm(x, x.shape[2:]),
    "local response": lambda x: F.local_response_norm(x, 3, alpha=0.5),
    "softmax": lambda x: 4 * x.softmax(1),
    "log-softmax": lambda x: F.log_softmax(x, 1) / 4,
    "gelu": F.gelu,
    "silu in place": lambda x: F.silu(x, inplace=True),
    "hardswish": F.hardswish,
    "mish": F.mish,
    "softplus": F.softplus,
    "relu6": F.relu6,
    "max pool": lambda x: F.max_pool2d(x, 3, 1, 1),
    "minus maximum": lambda x: x - x.amax((2, 3), keepdim=True),
    "maximum": lambda x: torch.maximum(x, x.flip(2)),
    "minimum": lambda x: torch.min(x, x.flip(1)),
    "where": lambda x: torch.where((x > 0.2) | (x < -0.3), x, x.tanh()),
    "masked": lambda x: x.masked_fill(x.abs() < 0.1, 0.5),
    "root": lambda x: (x.square() + 0.1).sqrt(),
    "power": lambda x: (x.abs() + 0.1) ** 1.7 / 2,
    "quotient": lambda x: x / (1 + x.abs()),
    "normalize": lambda x: F.normalize(x + 2, dim=1),
    "std": lambda x: x / (x.std((2, 3), keepdim=True) + 0.5),
    "similar": lambda x: x * F.cosine_similarity(x + 1, x.flip(1) + 1, dim=1)[:, None],
    "lerp": lambda x: torch.lerp(x, x.flip(3), x.sigmoid()),
    "windows": lambda x: F.gelu(
        x.unflatten(2, (2, 2)).transpose(1, 2).reshape(-1, 6, 2, 4)
    ).unflatten(0, (-1, 2)).transpose(1, 2).flatten(2, 3),
    "roll": lambda x: x.roll((1, 1), (2, 3)),
    "shuffle": lambda x: F.interpolate(
        F.pixel_shuffle(x[:, :4], 2), size=(4, 4), mode="bilinear"
    ).repeat(1, 6, 1, 1),
    "residual": lambda x: x.add_(x.tanh().mean(1, keepdim=True)),
    "split": lambda x: torch.cat([x[:, :3] * x[:, 3:], x[:, 3:]], 1),
    "shift": lambda x: F.pad(x, (1, 0, 1, 0))[:, :, :-1, :-1],
}  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(names=st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=6), seed=st.integers(0, 10**6))
def test_any_composition_is_complete(names, seed):
    def middle(x: Tensor) -> Tensor:
        for name in names:
            x = STEPS[name](x)
        return x

    net = Net(middle).double()
    images, targets, baselines = data(n=3, b=2, seed=seed)
    # Batches that a slice cuts unevenly, and an image that equals a baseline in part.
    images[0, :, :3] = baselines[0, :, :3]
    found = attribute(net, images, targets, baselines, tolerance=float("inf"))
    with torch.no_grad():
        gap = net(images.clone()).gather(1, targets[:, None])[:, 0] - net(baselines.clone())[:, targets].mean(
            0
        )
    assert bool(found.values.isfinite().all())
    # Rounding grows with what cancels.
    torch.testing.assert_close(
        found.values.sum((1, 2)), gap, rtol=0, atol=1e-10 * float(found.values.abs().sum((1, 2)).max() + 1)
    )


@pytest.mark.parametrize("name", STEPS)
def test_nothing_differs_or_almost_nothing(name):
    net, (images, targets, _) = Net(STEPS[name]).double(), data()
    same = attribute(net, images[:1], targets[:1], images[:1])
    assert torch.equal(same.values, torch.zeros_like(same.values))
    near = attribute(net, images[:1] + 1e-9, targets[:1], images[:1], tolerance=1e9)
    assert bool(near.values.isfinite().all())
    single = attribute(
        net.float(), images[:1].float() + 1e-6, targets[:1], images[:1].float(), tolerance=1e-4
    )
    assert bool(single.values.isfinite().all())


def test_tiny_differences_tend_to_the_gradient():
    """Through softmax, normalisation and a product at once."""
    net = Net(lambda x: F.layer_norm(attention(x), (6,)) * tokens(x).softmax(1)).double()
    images, targets, _ = data(n=1)
    step = 1e-7 * torch.randn(images.shape, generator=G, dtype=torch.float64)
    x = (images + step / 2).requires_grad_()
    (gradient,) = torch.autograd.grad(net(x)[0, targets[0]], x)
    found = attribute(net, images + step, targets, images, tolerance=1e9).values
    torch.testing.assert_close(found, (gradient * step).sum(1), rtol=1e-5, atol=1e-14)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: (1e4 * x).softmax(1) @ W,
        lambda x: (x.masked_fill(torch.arange(6) > 3, -math.inf)).softmax(1) @ W,
        lambda x: F.log_softmax(300 * x, 1) @ W,
        lambda x: F.layer_norm(0 * x, (6,)) @ W + x @ V,
        lambda x: (0 * x).norm(dim=1) + x @ V,
        lambda x: F.normalize(0 * x, dim=1) @ W + x @ V,
        lambda x: (50 * x).exp().log() @ W,
        lambda x: torch.where(x > 0, x, 0.0).pow(0.5) @ W,
    ],
    ids=[
        "saturated",
        "masked",
        "log-softmax far apart",
        "no variance",
        "no length",
        "no direction",
        "exp",
        "root",
    ],
)
def test_extremes_stay_finite_and_complete(f):
    assert bool(of_pixels(f, X, B).isfinite().all())


def test_rows_first_or_tokens_first_with_as_many_tokens_as_rows():
    """What lies where is seen, not guessed from lengths."""
    for n in range(2, 7):
        images, targets, baselines = (t[:n] for t in data(n=6, b=4))
        found = [
            attribute(Net(Heads(first, False)).double(), images, targets, baselines, batch_size=n).values
            for first in (True, False)
        ]
        torch.testing.assert_close(*found)
