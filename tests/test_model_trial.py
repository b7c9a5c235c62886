"""Models of every kind: what can be made to work does, what cannot is refused in a sentence beforehand."""

import math
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import lvlm_va
import small
from lvlm_va.alignment.fine_tune import AlignmentSet, FineTuning, fine_tune
from lvlm_va.config.loading import Config, parse_config
from lvlm_va.errors import AttributionError, ModelError
from lvlm_va.explain.attribution import attribute
from lvlm_va.models.adapter import Adapted
from lvlm_va.models.checkpoint import load_checkpoint, load_pretrained
from lvlm_va.models.copying import copied
from lvlm_va.models.deciding import decide_head
from lvlm_va.models.parts import check_parts
from lvlm_va.project.stages.trial import try_model
from lvlm_va.training.batches import count_batches, in_batches
from lvlm_va.training.train import train

K = len(small.CLASSES)
IMAGES = small.shapes(24, seed=1, betrayed=True)


class Net(nn.Module):
    """A small convolutional network; the others differ from it in one thing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 6, 3, 2, 1), nn.Linear(6, K)

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.features(x).mean((2, 3)))
        return y


class InPlace(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.sub_(0.5).div_(0.5))


class Keeps(Net):
    last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.features(x)
        y: Tensor = self.head(self.last.mean((2, 3)))
        return y


def keeps_an_activation() -> nn.Module:
    net = Keeps()
    net(IMAGES.images(torch.arange(2)))
    return net


class Locked(Net):
    def __init__(self) -> None:
        super().__init__()
        self.lock, self.recursive, self.library = threading.Lock(), threading.RLock(), math

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            return super().forward(x)


class Normed(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(self.features(x).mean((2, 3))))
        return y


class LogSoftmax(Net):
    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(super().forward(x), 1)


class TensorState(Net):
    def get_extra_state(self) -> Tensor:
        return torch.tensor([1, 2])

    def set_extra_state(self, state: Tensor) -> None:
        pass


class Views(Net):
    """Each image and its mirror image, joined as one batch."""

    def __init__(self) -> None:
        super().__init__()
        self.slopes, self.pool = nn.PReLU(6), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(self.slopes(self.conv(torch.cat([x, x.flip(-1)]))))
        y = self.head(torch.tanh(y).mean((2, 3)))
        return (y[: len(x)] + y[len(x) :]) / 2


def old_weight_norm() -> nn.Module:
    net = Net()
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(net.head)
    return net


def new_weight_norm() -> nn.Module:
    net = Net()
    nn.utils.parametrizations.weight_norm(net.head)
    return net


class Checkpointed(Net):
    """Attention whose forward pass is done again in the backward pass."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant, self.qkv = reentrant, nn.Linear(6, 18)

    def attend(self, tokens: Tensor) -> Tensor:
        q, k, v = self.qkv(tokens).chunk(3, -1)
        return F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.features(x).flatten(2).transpose(1, 2)
        attended = checkpoint(self.attend, tokens, use_reentrant=self.reentrant)
        y: Tensor = self.head((tokens + attended).mean(1))
        return y


GOOD: dict[str, Callable[[], nn.Module]] = {
    "plain": Net,
    "softmax": lambda: Soft(),
    "second output in training": lambda: Twice(),
    "squeeze and excitation": lambda: Gated(),
    "in place": InPlace,
    "keeps an activation": keeps_an_activation,
    "holds a lock": Locked,
    "batch normalisation": Normed,
    "log-softmax": LogSoftmax,
    "tensors as extra state": TensorState,
    "views": Views,
    "old weight_norm": old_weight_norm,
    "checkpointing": lambda: Checkpointed(False),
    "reentrant checkpointing": lambda: Checkpointed(True),
    "new weight_norm": new_weight_norm,
}


class Soft(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).softmax(1)


class Ensemble(Net):
    """The mean of two networks' probabilities."""

    def forward(self, x: Tensor) -> Tensor:
        return (super().forward(x).softmax(1) + super().forward(x.flip(-1)).softmax(1)) / 2


class Noisy(Net):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(F.dropout(self.features(x), 0.5).mean((2, 3)))
        return y


class BatchStatistics(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(6, track_running_stats=False)

    def features(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return y.relu()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.features(x).flatten(2)[:, :, 7])
        return y


class Gated(Net):
    def features(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv(x))
        return y * torch.sigmoid(9 * y.mean((2, 3), keepdim=True))


class Twice(Net):
    def forward(self, x: Tensor) -> object:  # type: ignore[override]
        y = super().forward(x)
        return (y, y) if self.training else y


class Halves(Net):
    """In training mode two answers, the mean of which is the model's."""

    def forward(self, x: Tensor) -> object:  # type: ignore[override]
        y = super().forward(x)
        return (2 * y, 0 * y) if self.training else y


class NoGrad(Net):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Deviation(Net):
    """A standard deviation of nothing but zeros: finite, and its first derivative too."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(F.relu(self.conv(x) - 3).flatten(2).std(2))
        return y


class Complex(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(torch.complex64)


class Counts(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).round().long()


class Fixed(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(8, 1, 12, 12))


class ExtraState(Net):
    def get_extra_state(self) -> dict[str, int]:
        return {"a": 1}

    def set_extra_state(self, state: object) -> None:
        pass


class Stale(Net):
    def __init__(self) -> None:
        super().__init__()
        self.scale = self.head.weight.abs().mean() * 2

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


class NoCopy(Net):
    def __deepcopy__(self, memo: object) -> nn.Module:
        raise TypeError("cannot copy me")


class Itself(Net):
    def __deepcopy__(self, memo: object) -> nn.Module:
        return self


class Hidden(Net):
    """Changes with every batch of training, and no checkpoint knows."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen += 1
        return super().forward(x) + torch.stack([self.seen, -self.seen, self.seen * 2])


def elsewhere() -> nn.Module:
    net, other = Net(), Net()
    net.forward = lambda x: other(x)  # type: ignore[method-assign, assignment]
    return net


def sparse() -> nn.Module:
    net = Net()
    net.register_buffer("s", torch.eye(3).to_sparse())
    return net


def compiled() -> nn.Module:
    net = Net()
    net.compile(backend="eager")
    return net


def quantised() -> nn.Module:
    net = Net()
    # As torch's quantisation does, whose own functions warn that they will move to another package.
    net.head = type("Linear", (nn.Module,), {"__module__": "torch.ao.nn.quantized.dynamic.modules.linear"})()
    return net


BAD: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "probabilities": (Ensemble, "returns probabilities.*leave out the softmax"),
    "noise": (Noisy, "asked twice about the same images.*noise stays on"),
    "statistics of the batch": (BatchStatistics, "alone and among others.*statistics of the batch"),
    "another output in training": (Halves, "step of .*2 of which could be the logits"),
    "no gradient": (NoGrad, "do not depend differentiably on its input"),
    "second derivative": (
        Deviation,
        "second derivative of the model is NaN.*add a small number under the root$",
    ),
    "complex": (Complex, "complex64 numbers, which are no logits"),
    "integers": (Counts, "int64 numbers, which are no logits"),
    "one size of batch": (Fixed, r"fails on images of shape \(1, 1, 12, 12\)"),
    "extra state": (ExtraState, "_extra_state is extra state, dict instead of a tensor"),
    "a tensor of before": (Stale, "uses a tensor that was computed before"),
    "no copy": (NoCopy, "cannot be copied.*cannot copy me .*in __deepcopy__"),
    "copy is itself": (Itself, "shares weights with it"),
    "hidden state": (Hidden, "not all in its state_dict"),
    "another's weights": (elsewhere, "no weight of a copy of the model has a part|fails when it is diff"),
    "sparse": (sparse, "s is a sparse tensor.*to_dense"),
    "compiled": (compiled, r"compiled by torch\.compile"),
    "quantised": (quantised, "part head is quantised"),
    "lazy": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(K)), "has no shape yet"),
    "meta": (lambda: Net().to("meta"), "has no values"),
}


def config() -> Config:
    align = {"lambda": [0.1], "training_batch": 8, "alignment_batch": 4}
    return parse_config({"align": align, "model": {"name": "mlp"}})


def tried(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    module = make()
    check_parts(module)
    model = Adapted(module, None, K)
    decide_head(model, (1, small.SIDE, small.SIDE))
    try_model(model, IMAGES, config(), to_train=True, to_align=True)


@pytest.mark.parametrize("kind", GOOD)
def test_what_can_be_aligned_passes_and_is_left_alone(kind: str) -> None:
    torch.manual_seed(0)
    model = Adapted(GOOD[kind](), None, K)
    decide_head(model, (1, small.SIDE, small.SIDE))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pixels, state = IMAGES.pixels.clone(), torch.get_rng_state()
    try_model(model, IMAGES, config(), to_train=True, to_align=True)
    assert torch.equal(IMAGES.pixels, pixels)
    assert torch.equal(torch.get_rng_state(), state)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_is_refused(kind: str) -> None:
    make, says = BAD[kind]
    with pytest.raises((ModelError, AttributionError), match=says) as caught:
        tried(make)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_model_is_named_as_such() -> None:
    with pytest.raises(ModelError, match=r"scripted or traced by torch\.jit.*give the module"):
        check_parts(torch.jit.trace(Net(), IMAGES.images(torch.arange(2))))


def test_align_refuses_before_anything_is_asked(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for number, make in enumerate((Ensemble, Halves, Deviation, Stale, ExtraState)):
        run = tmp_path / str(number)
        with pytest.raises(ModelError):
            lvlm_va.align(
                make(), small.splits(), small.SPECIFICATIONS, settings=small.settings(), run=run, quiet=True
            )
        assert not (run / "verdicts.csv").exists()
        assert not (run / "model.safetensors").exists()


def test_a_model_that_works_in_place_is_fine_tuned_as_one_that_does_not() -> None:
    class Same(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward((x - 0.5) / 0.5)

    critiqued = AlignmentSet(torch.arange(8), torch.ones(8, 12, 12, dtype=torch.bool))
    settings = FineTuning(0.1, epochs=1, training_batch=8, alignment_batch=4, precision="float32")
    results = []
    for make in (InPlace, Same):
        torch.manual_seed(0)
        aligned, _ = fine_tune(make(), IMAGES, critiqued, settings)
        results.append(aligned.state_dict())
    for name in results[0]:
        torch.testing.assert_close(results[0][name], results[1][name])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 24, 40])
def test_nobody_is_left_alone(size: int) -> None:
    for n in range(1, 30):
        parts = in_batches(torch.arange(n), size)
        assert torch.equal(torch.cat(parts), torch.arange(n))
        assert len(parts) == count_batches(n, size)
        assert size == 1 or n == 1 or min(map(len, parts)) > 1


def test_a_last_image_alone_and_batch_normalisation() -> None:
    model = Normed()
    train(model, IMAGES, epochs=1, batch=23)
    nobody = AlignmentSet(torch.arange(0), torch.zeros(0, 12, 12, dtype=torch.bool))
    fine_tune(model, IMAGES, nobody, FineTuning(0.1, epochs=1, training_batch=23))


def test_no_weight_becomes_nan() -> None:
    critiqued = AlignmentSet(torch.arange(8), torch.ones(8, 12, 12, dtype=torch.bool))
    with pytest.raises(ModelError, match="second derivative of the model is NaN or infinite in iteration 1"):
        fine_tune(Deviation(), IMAGES, critiqued, FineTuning(1e-30, epochs=1, training_batch=24))


def test_a_copy_is_independent() -> None:
    model = Locked()
    twin = copied(model)
    assert twin.lock is model.lock
    with torch.no_grad():
        twin.head.weight.zero_()
    assert bool(model.head.weight.any())


def test_views_are_explained_exactly() -> None:
    torch.manual_seed(0)
    images, baselines = IMAGES.images(torch.arange(5)), IMAGES.images(torch.arange(10, 16))
    found = attribute(Views(), images, IMAGES.labels[:5], baselines)
    assert float(found.completeness_error.max()) < 1e-5


def test_complex_activations_are_refused_in_a_sentence() -> None:
    class Spectrum(Net):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.head(torch.fft.fft2(self.conv(x)).abs().mean((2, 3)))
            return y

    with pytest.raises(AttributionError, match="complex numbers"):
        attribute(Spectrum(), *_some())


def test_views_in_another_order_are_explained_as_one_after_the_other() -> None:
    class Apart(Net):
        def forward(self, x: Tensor) -> Tensor:
            one, other = (self.head(self.features(view).mean((2, 3))) for view in (x, x.flip(-1)))
            y: Tensor = (one + other) / 2
            return y

    class Interleaved(Net):
        def forward(self, x: Tensor) -> Tensor:
            both = torch.stack([x, x.flip(-1)], 1).flatten(0, 1)
            y: Tensor = self.head(self.features(both).mean((2, 3)))
            return y.unflatten(0, (-1, 2)).mean(1)

    torch.manual_seed(0)
    apart, interleaved = Apart(), Interleaved()
    interleaved.load_state_dict(apart.state_dict())
    expected, found = (attribute(model, *_some(5, 7)) for model in (apart, interleaved))
    assert float(found.completeness_error.max()) < 1e-5
    torch.testing.assert_close(found.values, expected.values)


def _some(n: int = 3, b: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    return IMAGES.images(torch.arange(n)), IMAGES.labels[:n], IMAGES.images(torch.arange(10, 10 + b))


def flipped(tensor: Tensor) -> Tensor:
    """With the highest bit of one exponent flipped."""
    bits = tensor.clone().view(torch.int32)
    bits.view(-1)[1] ^= 1 << 30
    return bits.view(torch.float32)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.long(), "holds int64 numbers instead of float32"),
        (lambda t: t.bool(), "holds bool numbers instead of float32"),
        (lambda t: t.to(torch.complex64), "holds complex64 numbers instead of float32"),
        (lambda t: t.clone().fill_(torch.nan), "is damaged: 18 of 18 numbers are NaN"),
        (lambda t: t.clone().index_fill_(0, torch.tensor([0]), torch.inf), "is damaged: 6 of 18.*inf"),
        (flipped, "is damaged: 1 of 18 numbers are NaN, infinite or absurdly large"),
        (lambda t: t.double() * 1e300, "is damaged"),
        (lambda t: t.to_sparse(), "is sparse|cannot be read"),
    ],
)
@pytest.mark.parametrize("load", [load_checkpoint, load_pretrained])
def test_checkpoints_of_other_numbers(
    tmp_path: Path, change: Callable[[Tensor], Tensor], says: str, load: Callable[..., object]
) -> None:
    torch.manual_seed(0)
    state = Net().state_dict()
    state["head.weight"] = change(state["head.weight"])
    torch.save(state, tmp_path / "w.pt")
    model = Net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ModelError, match=rf"w\.pt: (head\.weight )?.*({says})"):
        load(model, tmp_path / "w.pt")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_half_precision_is_converted_and_said(tmp_path: Path) -> None:
    given = Net().half().state_dict()
    torch.save(given, tmp_path / "w.pt")
    model, said = Net(), []
    load_checkpoint(model, tmp_path / "w.pt", note=said.append)
    assert said == ["w.pt: float16 numbers are converted to the model's float32."]
    assert torch.equal(model.head.weight, given["head.weight"].float())


def test_a_counter_that_is_a_float_is_no_conversion_to_tell_of(tmp_path: Path) -> None:
    given = nn.BatchNorm2d(2).state_dict()
    given["num_batches_tracked"] = torch.tensor(7.0)
    torch.save(given, tmp_path / "w.pt")
    model, said = nn.BatchNorm2d(2), []
    load_checkpoint(model, tmp_path / "w.pt", note=said.append)
    assert model.num_batches_tracked == 7
    assert said == []


def test_a_mask_that_is_infinite_in_the_model_too(tmp_path: Path) -> None:
    def masked() -> nn.Module:
        net = Net()
        net.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
        return net

    torch.save(masked().state_dict(), tmp_path / "w.pt")
    load_checkpoint(masked(), tmp_path / "w.pt")
