"""Heads other than one logit per class: each is the softmax network that it is equivalent to."""

import copy
import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

import lvlm_va
import small
from lvlm_va.alignment.baselines.head import find_head, with_head
from lvlm_va.alignment.fine_tune import AlignmentSet, FineTuning, fine_tune
from lvlm_va.config.loading import override, parse_config
from lvlm_va.data.imageset import ArrayImageSet
from lvlm_va.errors import ConfigError, ModelError
from lvlm_va.explain.attribution import attribute
from lvlm_va.explain.sampling import predictive_entropy
from lvlm_va.models.adapter import Adapted
from lvlm_va.models.deciding import decide_head
from lvlm_va.models.formats import difference_from_torch, onnx_file
from lvlm_va.models.head import Head
from lvlm_va.models.predict import logits
from lvlm_va.project import project
from lvlm_va.project.fingerprints import weights_fingerprint
from lvlm_va.training.train import train

ROOT = Path(__file__).parents[1]
TWO = ("bar", "post")
SHAPE = (1, small.SIDE, small.SIDE)


def two(n: int, *, seed: int, betrayed: bool, name: str = "p") -> ArrayImageSet:
    """`small.shapes` without its third class."""
    images = small.shapes(2 * n, seed=seed, betrayed=betrayed, name=name)
    chosen = (images.labels < 2).nonzero()[:n, 0]
    truth = images.spurious_masks(chosen)
    ids = [images.ids[int(i)] for i in chosen]
    return ArrayImageSet(images.images(chosen), images.labels[chosen], ids, TWO, truth)


class Net(nn.Module):
    """A small network with `outputs` outputs and a function at its end."""

    def __init__(self, outputs: int, end: Callable[[Tensor], Tensor] = lambda y: y) -> None:
        super().__init__()
        self.conv, self.head, self.end = nn.Conv2d(1, 6, 3, 2, 1), nn.Linear(6, outputs), end

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(F.relu(self.conv(x)).mean((2, 3)))
        return self.end(y)


def decided(module: nn.Module, classes: int, head: Head | None = None) -> Adapted:
    model = Adapted(module, None, classes, head)
    decide_head(model, SHAPE)
    return model


def pair() -> tuple[Adapted, Adapted]:
    """A network with one logit z, and the one of two logits (−z/2, z/2)."""
    torch.manual_seed(0)
    one, other = Net(1), Net(2)
    with torch.no_grad():
        one.head.bias.fill_(-1)  # clearly no probability
        other.conv.load_state_dict(one.conv.state_dict())
        other.head.weight.copy_(torch.cat([-one.head.weight, one.head.weight]) / 2)
        other.head.bias.copy_(torch.cat([-one.head.bias, one.head.bias]) / 2)
    return decided(one, 2), decided(other, 2)


def test_a_single_logit_is_a_softmax_of_two() -> None:
    one, other = pair()
    assert one.head.kind == "single-logit"
    assert other.head.kind == "softmax"
    images = two(12, seed=1, betrayed=True)
    of_one, of_other = logits(one, images), logits(other, images)
    torch.testing.assert_close(of_one, of_other, atol=1e-6, rtol=0)
    z = one.module(images.pixels)[:, 0]
    loss = F.binary_cross_entropy_with_logits(z, images.labels.float())
    torch.testing.assert_close(F.cross_entropy(of_one, images.labels), loss.detach(), atol=1e-6, rtol=0)
    p = torch.sigmoid(z.detach().double())
    entropy = torch.special.entr(p) + torch.special.entr(1 - p)
    torch.testing.assert_close(predictive_entropy(of_one), entropy, atol=1e-6, rtol=0)
    for targets in (torch.zeros(12).long(), torch.ones(12).long()):
        phi, reference = (
            attribute(m, images.pixels, targets, images.pixels[:5]).values for m in (one, other)
        )
        assert float(phi.abs().max()) > 1e-3
        torch.testing.assert_close(phi, reference, atol=1e-6, rtol=0)


def test_right_reasons_of_a_single_logit() -> None:
    one, other = pair()
    images = two(24, seed=1, betrayed=True)
    masks = images.spurious_masks(torch.arange(12))
    assert masks is not None
    critiqued = AlignmentSet(torch.arange(12), masks)
    # Of a single step, so that the networks are still the same.
    settings = FineTuning(1.0, epochs=1, training_batch=24, alignment_batch=12, precision="float32")
    a, b = (fine_tune(m, images, critiqued, settings)[1][0] for m in (one, other))
    assert a.right_reasons > 0
    assert a.right_reasons == pytest.approx(b.right_reasons, abs=1e-6)
    assert a.cross_entropy == pytest.approx(b.cross_entropy, abs=1e-6)


def test_the_gradient_of_the_right_reasons_term_by_its_formula() -> None:
    """Σ_i m_i ‖∂/∂x (log σ(z) + log(1 − σ(z)))‖², and its gradient at the weights."""
    from lvlm_va.alignment.rrr import right_reasons

    one, other = pair()
    images = two(6, seed=1, betrayed=True)
    masks = images.spurious_masks(torch.arange(6))
    assert masks is not None
    gradients = []
    for model in (one, other):
        x = images.pixels.clone().requires_grad_()
        term = right_reasons(F.log_softmax(model(x), 1), x, masks).mean()
        gradients.append(torch.autograd.grad(term, model.module.conv.weight)[0])
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)
    x = images.pixels.clone().requires_grad_()
    z = one.module(x)[:, 0]
    (g,) = torch.autograd.grad((F.logsigmoid(z) + F.logsigmoid(-z)).sum(), x, create_graph=True)
    by_hand = (masks[:, None] * g**2).sum((1, 2, 3)).mean()
    x = images.pixels.clone().requires_grad_()
    found = right_reasons(F.log_softmax(one(x), 1), x, masks).mean()
    torch.testing.assert_close(found, by_hand, atol=1e-6, rtol=1e-5)


ENDS: dict[str, tuple[int, int, Callable[[Tensor], Tensor]]] = {
    "softmax": (3, 3, lambda y: y.softmax(1)),
    "softmax of nn": (3, 3, nn.Softmax(dim=-1)),
    "softmax over places": (3, 3, lambda y: F.softmax(y[:, :, None, None], 1)),
    "log-softmax": (3, 3, lambda y: F.log_softmax(y, dim=1)),
    "sigmoid": (1, 2, nn.Sigmoid()),
    "sigmoid, squeezed": (1, 2, lambda y: torch.sigmoid(y).squeeze()),
    "log-sigmoid": (1, 2, F.logsigmoid),
    "squeezed": (1, 2, lambda y: (3 * y).squeeze() / 3),
    "squeezed softmax": (3, 3, lambda y: y.softmax(-1).squeeze()),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_comes_after_the_logits_is_taken_off(end: str) -> None:
    outputs, classes, function = ENDS[end]
    torch.manual_seed(0)
    bare = Net(outputs)
    with torch.no_grad():
        bare.head.bias -= 1
    ended = copy.deepcopy(bare)
    ended.end = function
    one, other = decided(bare, classes), decided(ended, classes)
    pixels = torch.rand(5, *SHAPE)
    for x in (pixels, pixels[:1]):
        torch.testing.assert_close(other(x), one(x))
    found, expected = (attribute(m, pixels, torch.ones(5).long(), pixels.flip(0)) for m in (other, one))
    torch.testing.assert_close(found.values, expected.values)
    if other.head.end is not None:
        assert weights_fingerprint(one) != weights_fingerprint(other)


def test_a_softmax_within_the_network_stays() -> None:
    class Attention(Net):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return y * torch.softmax(y, 1) * torch.sigmoid(y)

    model = decided(Attention(3), 3)
    assert model.head == Head("softmax")
    assert model.head.plain


def test_probabilities_of_the_images_are_not_of_the_classes() -> None:
    assert decided(Net(3, lambda y: y.softmax(0)), 3).head.end is None


@pytest.mark.parametrize(
    ("module", "classes", "says"),
    [
        (Net(3, torch.sigmoid), 3, "sigmoid for each of its 3 outputs.*model.head: softmax"),
        (Net(2, torch.sigmoid), 2, "sigmoid for each of its 2 outputs"),
        (Net(1, lambda y: 1 - torch.sigmoid(y)), 2, "cannot be told whether.*model.head: single-logit"),
        (Net(2, lambda y: y.softmax(1)[:, 1]), 2, "cannot be told whether"),
    ],
)
def test_what_cannot_be_told_is_asked_for(module: nn.Module, classes: int, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        decided(module, classes)


def test_what_was_asked_for_can_be_said() -> None:
    assert decided(Net(3, torch.sigmoid), 3, Head("softmax")).head == Head("softmax", end="sigmoid")
    head = decided(Net(1, lambda y: 1 - torch.sigmoid(y)), 2, Head("single-logit")).head
    assert head == Head("single-logit")


LUNG = ("nodule", "effusion", "no finding", "cardiomegaly")


@pytest.mark.parametrize(
    ("kind", "outputs", "classes", "head"),
    [
        ("auto", [3, 1], ("a", "b"), Head("softmax", (3, 1))),
        ("softmax", [2, 0, 1], ("a", "b", "c"), Head("softmax", (2, 0, 1))),
        ("auto", [2], ("a", "b"), Head("single-logit", (2,))),
        ("auto", LUNG, ("effusion", "no finding"), Head("softmax", (1, 2))),
        ("auto", LUNG, ("healthy", "effusion"), Head("single-logit", (1,))),
        ("auto", LUNG, ("effusion", "healthy"), Head("single-logit", (1,), of_first=True)),
        ("auto", None, ("a", "b"), Head()),
    ],
)
def test_outputs_by_place_and_by_name(
    kind: str, outputs: list[int] | None, classes: tuple[str, ...], head: Head
) -> None:
    assert Head.named(kind, outputs, classes) == head  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "outputs", "classes", "says"),
    [
        ("auto", [1, 2, 3], ("a", "b"), "gives 3 outputs instead of 2, one per class"),
        ("single-logit", [1, 2], ("a", "b"), "gives 2 outputs instead of one"),
        ("softmax", LUNG, ("effusion", "healthy"), "does not name healthy"),
        ("auto", LUNG, ("effusion", "healthy", "nodule"), "does not name healthy"),
        ("auto", LUNG, ("Effusion", "healthy"), "names none of the classes.*did you mean 'effusion'"),
        ("single-logit", None, ("a", "b", "c"), "for two classes, but there are 3"),
    ],
)
def test_outputs_that_do_not_fit(kind: str, outputs: list[int], classes: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Head.named(kind, outputs, classes)  # type: ignore[arg-type]


def test_some_of_many_outputs() -> None:
    torch.manual_seed(0)
    many, pixels = Net(5), torch.rand(3, *SHAPE)
    model = decided(many, 2, Head.named("auto", [4, 1], TWO))
    assert torch.equal(model(pixels), many(pixels)[:, [4, 1]])
    single = decided(Net(5, torch.sigmoid), 2, Head.named("auto", (*LUNG, "edema"), ("edema", "none")))
    z = single.module.head(F.relu(single.module.conv(pixels)).mean((2, 3)))[:, 4]
    torch.testing.assert_close(single(pixels).softmax(1)[:, 0], torch.sigmoid(z))
    assert single.head.words(("edema", "none")).startswith("output 4 (from 0) is the log-odds of edema")
    with pytest.raises(ModelError, match=r"names output 7 .counted from 0., but the model returns \(8, 5\)"):
        Adapted(Net(5), None, 2, Head("softmax", (0, 7)))(torch.rand(8, *SHAPE))


@pytest.mark.parametrize(
    "head", [Head("single-logit"), Head("softmax", (3, 1)), Head("single-logit", (2,), True)]
)
def test_another_last_layer(head: Head) -> None:
    torch.manual_seed(0)
    images = two(6, seed=1, betrayed=True)
    model = decided(Net(4 if head.outputs else 1), 2, head)
    found = find_head(model, images)
    weight, bias = torch.randn(1, 6), torch.randn(1)
    changed = with_head(model, found, torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2)
    features = F.relu(model.module.conv(images.pixels)).mean((2, 3))
    expected = torch.sigmoid(features @ weight[0] + bias)
    torch.testing.assert_close(changed(images.pixels).softmax(1)[:, 1], expected)


class Second(Net):
    """Returns another output, of the same shape, before its logits; in training mode only."""

    def forward(self, x: Tensor) -> object:  # type: ignore[override]
        y = super().forward(F.dropout(x, 0.5, self.training and isinstance(self.drop, nn.Identity)))
        y = self.drop(y)
        return (y.flip(1), y) if self.training else y

    def __init__(self) -> None:
        super().__init__(3)
        self.drop = nn.Dropout(0.5)


def test_a_second_output_in_training() -> None:
    torch.manual_seed(0)
    model = decided(Second(), 3)
    assert model.head.position == "1"
    assert "returns more, of which output 1 is taken" in model.head.words("abc")
    images = small.shapes(24, seed=1, betrayed=True)
    before = logits(model, images)
    train(model, images, epochs=1, batch=8)
    assert not torch.equal(logits(model, images), before)


def blocks(page: str, language: str) -> list[str]:
    """The code of a page of docs/how-to."""
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_page_and_a_single_logit_through_the_whole_product(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    few = small.settings(model__epochs=5, model__batch=32, evaluate__num_images=12, explain__baselines=4)
    monkeypatch.setattr(project, "override", lambda given, values: override(given, few | dict(values)))
    text = {"description": "Stripes.", "spurious": "a bright square"}
    known: dict[str, Any] = {
        "__name__": "page",
        "specifications": {"classes": {"lying": text, "standing": text}},
    }
    for block in blocks("dataset", "python"):
        exec(block.replace("trained = lvlm_va.train(model, data)", ""), known)
    for block in blocks("model", "python"):
        exec(block, known)
    for block in blocks("model", "yaml"):
        config = parse_config(yaml.safe_load(block))
        assert config.data.classes is not None
        head = Head.named(config.model.head, config.model.outputs, config.data.classes)
        assert head == Head("single-logit", (3,))
    run, data = known["run"], known["data"]
    head = run.metrics.model.head
    told = " ".join((ROOT / "docs/how-to/model.md").read_text(encoding="utf-8").split())
    assert f"*{head}*" in told
    assert head in html.unescape(run.report.read_text(encoding="utf-8"))
    # The user's own module still ends in its sigmoid, and says the same.
    images = data.tests["test"]
    right = ((run.model(images.pixels)[:, 0] > 0.5) == images.labels).double().mean()
    assert run.metrics.models["aligned"].accuracy["test"] == pytest.approx(float(right))
    card = lvlm_va.export(run.path, model=known["binary"](), out=tmp_path / "out").card.read_text(
        encoding="utf-8"
    )
    assert head in html.unescape(card)
    loaded: dict[str, Any] = {}
    monkeypatch.chdir(tmp_path / "out")
    (snippet,) = re.findall(r"^```python\n(.*?)^```", card, re.MULTILINE | re.DOTALL)
    exec(
        snippet.replace("torch.zeros(1, 1, 12, 12)", "images"),
        loaded | {"model": known["binary"](), "images": images.pixels},
        loaded,
    )
    torch.testing.assert_close(loaded["logits"].softmax(1)[:, 1], run.model(images.pixels)[:, 0])


@pytest.mark.slow
def test_as_onnx_it_gives_logits() -> None:
    torch.manual_seed(0)
    model = decided(Net(1, nn.Sigmoid()), 2).eval()
    pixels = torch.rand(3, *SHAPE)
    difference = difference_from_torch(onnx_file(model, pixels, {}), model, pixels)
    assert difference is None or difference < 1e-5


def test_outputs_are_named_once() -> None:
    with pytest.raises(ConfigError, match="once"):
        parse_config({"model": {"outputs": [1, 1]}})
