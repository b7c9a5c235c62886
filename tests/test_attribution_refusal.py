"""What attribution refuses, in which words, and that it leaves the model as it found it."""

import copy
import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lvlm_va.errors import AttributionError, ConfigError, DataError, ModelError
from lvlm_va.explain.attribution import METHODS, attribute
from lvlm_va.models.resnet import resnet18

N, CLASSES = 7, 4


class Net(nn.Module):
    """A convolution, `middle` on its activations, a linear head, `last` on the logits."""

    def __init__(
        self, middle: Callable[[Tensor], Tensor] = torch.relu, last: Callable[[Tensor], object] = lambda y: y
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6 * 36, CLASSES)
        self.middle, self.last = middle, last

    def forward(self, x: Tensor) -> object:
        return self.last(self.head(self.middle(self.conv(x)).flatten(1)))


def data() -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return (
        torch.randn(N, 3, 8, 8, generator=g),
        torch.arange(N) % CLASSES,
        torch.randn(2, 3, 8, 8, generator=g),
    )


@torch.no_grad()
def hidden(x: Tensor) -> Tensor:
    return x.sigmoid()


class Doubled(torch.autograd.Function):
    """Sin by a function of the user's own."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0].cos()


NOT_EXACT = {
    "a product of many": (lambda x: x * x.prod(1, keepdim=True), "no exact rule for: prod"),
    "cumulative product": (lambda x: x.sigmoid().cumprod(1), "no exact rule for: cumprod"),
    "sorted": (lambda x: x.sort(1)[0], "no exact rule for: sort"),
    "cubic": (lambda x: torch.einsum("nchw,nchw,nchw->nchw", x, x, x), "no exact rule for: einsum"),
    "two at once": (lambda x: x.sort(1)[0] * x.topk(1, 1)[0], "no exact rule for: sort, topk"),
    "moved by what it sees": (
        lambda x: F.grid_sample(x, x[:, :2].movedim(1, -1).tanh(), align_corners=False), "grid_sample"
    ),
    "chosen by a mask": (lambda x: x.masked_scatter(x > 0, x[x > 0] * 0.3), "getitem, masked_scatter"),
    "detached": (lambda x: x * x.sigmoid().detach(), "hides .*: detach"),
    "without gradients": (lambda x: x * hidden(x), "hides .*: torch.no_grad"),
    "hard choice": (lambda x: x.gather(1, x.argmax(1, keepdim=True)).expand_as(x), "hides .*: argmax"),
    "a function of one's own": (Doubled.apply, "hides .*autograd.Function"),
    "half precision": (lambda x: (1e4 * x.half().float().sin()).sin(), "rounding"),
    "batch statistics": (lambda x: F.batch_norm(x, None, None, training=True), "depend on each other"),
    "centred over the batch": (lambda x: (x - x.mean()) * 3, "depend on each other"),
    "dropout left on": (lambda x: F.dropout(x, 0.5, training=True), "differently each time"),
    "noise": (lambda x: x + torch.randn_like(x), "differently each time"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_EXACT)
def test_deeplift_refuses_where_it_is_not_exact_and_says_why(name):
    middle, reason = NOT_EXACT[name]
    with pytest.raises(AttributionError, match=r"image \d .*misses .* by .*; 0\.0001 is allowed") as refusal:
        attribute(Net(middle), *data())
    assert re.search(reason, str(refusal.value))
    assert "integrated-gradients" in str(refusal.value)
    assert "gradient-shap" in str(refusal.value)


@pytest.mark.parametrize("name", ["cumulative product", "cubic"])
def test_the_alternative_it_names_works(name):
    found = attribute(Net(NOT_EXACT[name][0]), *data(), method="integrated-gradients", steps=256)
    assert float(found.completeness_error.max()) <= 1e-2


VIEWS = {
    "attention over the batch": lambda x: ((x.flatten(1) @ x.flatten(1).T) / 216).softmax(-1) @ x.flatten(1),
    "views in another order": lambda x: F.gelu(torch.cat([x, x.flip(0)]))[: len(x)],
}


@pytest.mark.parametrize("name", VIEWS)
def test_rows_that_do_not_lie_apart_are_refused(name):
    with pytest.raises(
        AttributionError, match=r"cannot explain this model\. The rows of a batch .* each other"
    ):
        attribute(Net(VIEWS[name]), *data())


def test_integrated_gradients_refuses_too_few_steps():
    with pytest.raises(AttributionError, match="Raise steps"):
        attribute(Net(), *data(), method="integrated-gradients", steps=1)


@pytest.mark.parametrize("method", METHODS)
def test_nan_logits_name_the_images(method):
    images, targets, baselines = data()
    images[5, 0, 0, 0], images[6, 1, 2, 3] = float("nan"), float("inf")
    with pytest.raises(ModelError, match=r"NaN or infinite for images 5, 6 \(counted from 0\)"):
        attribute(Net(), images, targets, baselines, method=method, batch_size=5, tolerance=9.0)
    images, targets, baselines = data()
    baselines[1] = float("nan")
    with pytest.raises(ModelError, match="NaN or infinite for baselines 1 "):
        attribute(Net(), images, targets, baselines, method=method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("last", "message"),
    [
        (lambda y: (y, y), r"a tuple \(0: .*; 1: .*\), 2 of which could be the logits"),
        (lambda y: None, "a NoneType instead of logits"),
        (lambda y: y[:, 0], "1 outputs, but targets run from 0 to 3"),
        (lambda y: y[:1], "instead of logits"),
        (lambda y: y[:, :3], r"3 outputs, but targets run from 0 to 3"),
        (lambda y: y.detach(), "differentiably"),
    ],
)
def test_outputs_that_do_not_fit(method, last, message):
    with pytest.raises(ModelError, match=message):
        attribute(Net(last=last), *data(), method=method)


@pytest.mark.parametrize("first", [True, False])
def test_a_path_of_its_own_for_some_images(first):
    calls: list[int] = []

    def sometimes(x: Tensor) -> Tensor:
        calls.append(len(x))
        return x.relu() if (len(calls) == 1) is first else x

    with pytest.raises(ModelError, match="other operations for some images"):
        attribute(Net(sometimes), *data())


def test_arguments_that_do_not_fit():
    images, targets, baselines = data()
    for option in ("batch_size", "baseline_chunk", "steps"):
        with pytest.raises(ConfigError, match=f"{option} is 0"):
            attribute(Net(), images, targets, baselines, **{option: 0})
    with pytest.raises(ConfigError, match="unknown attribution method 'lime'; known are 'deeplift-shap'"):
        attribute(Net(), images, targets, baselines, method="lime")
    with pytest.raises(DataError, match=r"shape \(N, C, H, W\)"):
        attribute(Net(), images[0], targets, baselines)
    with pytest.raises(DataError, match="7 int64 targets"):
        attribute(Net(), images, targets.float(), baselines)
    for wrong in (baselines[:0], baselines[:, :1], baselines[..., :4]):
        with pytest.raises(DataError, match="baselines must be one or more"):
            attribute(Net(), images, targets, wrong)


def state(model: nn.Module) -> tuple[object, ...]:
    """All that could change in a module, but for the values of its tensors."""
    modules = [(m.training, len(m._forward_hooks), len(m._backward_hooks)) for m in model.modules()]
    tensors = [
        (t.requires_grad, t.dtype, t.device, t.stride(), t._version)
        for t in model.state_dict(keep_vars=True).values()
    ]
    return modules, tensors, model.__dict__.keys()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("refused", [False, True])
def test_the_model_is_left_as_it_was(method, refused):
    torch.manual_seed(0)
    model = resnet18(num_classes=CLASSES).train()
    model.layer1.eval()  # a fine-tuner's frozen stage
    model.layer1.requires_grad_(False)
    model.fc.weight.grad = torch.ones_like(model.fc.weight)
    model.fc.register_forward_hook(lambda *_: None)
    images, targets, baselines = (t[:2] for t in data())
    images, baselines = (F.interpolate(t, size=(32, 32)) for t in (images, baselines))
    inputs = [t.clone() for t in (images, targets, baselines)]
    values, flags, rng = copy.deepcopy(model.state_dict()), state(model), torch.get_rng_state()
    if refused:
        with pytest.raises(AttributionError):
            attribute(model, images, targets, baselines, method=method, tolerance=-1.0, steps=2)
    else:
        attribute(model, images, targets, baselines, method=method, tolerance=float("inf"), steps=2)
    assert state(model) == flags
    assert all(torch.equal(v, values[k]) for k, v in model.state_dict().items())
    assert torch.equal(model.fc.weight.grad, torch.ones_like(model.fc.weight))
    assert sum(p.grad is not None for p in model.parameters()) == 1
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(torch.equal(a, b) for a, b in zip((images, targets, baselines), inputs, strict=True))
    # Batch statistics move again when the user trains on.
    model(images)
    assert not torch.equal(model.bn1.running_mean, values["bn1.running_mean"])


def test_works_under_no_grad_and_on_images_that_require_grad():
    images, targets, baselines = data()
    expected = attribute(Net(), images, targets, baselines).values
    with torch.no_grad():
        found = attribute(Net(), images.requires_grad_(), targets, baselines).values
    assert not found.requires_grad
    assert torch.equal(found, expected)


class Small(nn.Module):
    """A machine on which the model fails above a number of rows, as an allocator words it."""

    def __init__(self, rows: int, error: type[Exception], words: str) -> None:
        super().__init__()
        self.net, self.rows, self.error, self.words = Net(), rows, error, words
        self.failed = 0

    def forward(self, x: Tensor) -> object:
        if len(x) > self.rows:
            self.failed += 1
            raise self.error(self.words)
        return self.net(x)


FULL = {
    "cuda": (torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 20.00 MiB."),
    "cpu": (
        RuntimeError,
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 1 bytes. Error code 12 (Cannot allocate memory)",
    ),
    "python": (MemoryError, ""),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("machine", FULL)
def test_out_of_memory_means_smaller_parts_and_the_same_result(method, machine):
    options = {"method": method, "tolerance": float("inf"), "batch_size": 6, "baseline_chunk": 2, "steps": 4}
    expected = attribute(Net(), *data(), **options)
    # DeepLIFT shows the model a quarter of its rows at once, the others all of them.
    model, notes = Small(1 if method == "deeplift-shap" else 4, *FULL[machine]), []
    found = attribute(model, *data(), **options, note=notes.append)
    torch.testing.assert_close(found.values, expected.values)
    torch.testing.assert_close(found.completeness_error, expected.completeness_error, rtol=1e-3, atol=1e-5)
    assert model.failed == len(notes) >= 1
    assert all("Out of memory" in note and "images and" in note for note in notes)


def test_out_of_memory_with_one_image_is_an_error():
    with pytest.raises(AttributionError, match=r"one image and one baseline at a time.*smaller images"):
        attribute(Small(0, *FULL["cuda"]), *data())
    with pytest.raises(ModelError, match="forward pass fails: something else"):
        attribute(Small(0, RuntimeError, "something else"), *data())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("method", METHODS)
def test_other_precisions_are_explained(dtype, method):
    images, targets, baselines = data()
    model = Net().to(dtype)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    # DeepLIFT must be as exact as ever; the others are compared point by point.
    options = {"method": method, "steps": 8, "tolerance": 1e-4 if method == "deeplift-shap" else float("inf")}
    found = attribute(model, images, targets, baselines, **options)
    # The same weights in float64 are the function that is explained.
    exact = attribute(copy.deepcopy(model).double(), images, targets, baselines, **options)
    torch.testing.assert_close(found.values.double(), exact.values, rtol=1e-4, atol=1e-5)
    assert found.values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert all(value.dtype == dtype for value in model.state_dict().values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
