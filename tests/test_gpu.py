"""A device that does not mix with the CPU: everything that computes runs there, and says the same."""

import pytest
import torch
from torch import Tensor, nn

from fake_gpu import GPU, fake_gpu
from lvlm_va.alignment.counterfactuals import Counterfactuals
from lvlm_va.alignment.fine_tune import AlignmentSet, FineTuning, fine_tune
from lvlm_va.alignment.verdict_score import score_by_verdicts
from lvlm_va.data.imageset import ArrayImageSet, as_floats, images_on
from lvlm_va.data.view import View
from lvlm_va.explain.attribution import attribute
from lvlm_va.explain.segmentation import ppeps_wgm
from lvlm_va.models import compute
from lvlm_va.models.compute import full_float32
from lvlm_va.models.memory import preferably_on
from lvlm_va.models.predict import logits
from lvlm_va.training.train import train

CPU = torch.device("cpu")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2),
        nn.Flatten(),
        nn.Linear(54, 2),
    )


def images(n: int) -> ArrayImageSet:
    random = torch.Generator().manual_seed(n)
    pixels = torch.randint(256, (n, 1, 16, 16), generator=random, dtype=torch.uint8)
    return ArrayImageSet(
        pixels.expand(-1, 3, -1, -1), torch.arange(n) % 2, [str(i) for i in range(n)], ("a", "b")
    )


def corner(n: int) -> Tensor:
    masks = torch.zeros(n, 16, 16, dtype=torch.bool)
    masks[:, :4, :4] = True
    return masks


def everything(device: torch.device) -> list[Tensor]:
    """What the stages compute from the same images, on the CPU afterwards."""
    model, training, validation = network().to(device), images(12), images(6)
    train(model, training, epochs=1, batch=5, flip=True, validation=validation)
    chosen = torch.tensor([7, 2, 3])
    explained = attribute(
        model, training.images(chosen), training.labels[chosen], training.images(torch.arange(2))
    )
    segments = ppeps_wgm(explained.values.to(device), 3).to(CPU)
    alignment = AlignmentSet(chosen, corner(3))
    settings = FineTuning(
        lam=0.01, gamma=1e-4, counterfactual=1.0, epochs=1, training_batch=5, alignment_batch=4, jitter=0.01
    )
    pasted = Counterfactuals.of(
        images_on(training, chosen, device), training.labels[chosen].to(device), corner(3).to(device)
    )

    def judge(candidate: nn.Module) -> tuple[float, ...]:
        return (score_by_verdicts(candidate, validation, pasted).score,)

    tuned, history = fine_tune(model, training, alignment, settings, judge=judge)
    assert {p.device for p in tuned.parameters()} == {device}
    return [
        explained.values,
        segments.labels,
        segments.mu,
        logits(model, validation),
        logits(tuned, validation),
        torch.tensor([*history[0][:4], *(history[0].score or ())]),
    ]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_nothing_mixes_devices_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "has_bfloat16", lambda device: False)
    expected = everything(CPU)
    with fake_gpu(monkeypatch):
        found = everything(GPU)
    for one, other in zip(found, expected, strict=True):
        assert one.device == CPU
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_the_fake_refuses_what_cuda_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_gpu(monkeypatch):
        there, here = torch.rand(3, 4).to(GPU), torch.rand(3, 4)
        with pytest.raises(RuntimeError, match="and on the CPU"):
            there + here
        with pytest.raises(RuntimeError, match="and on the CPU"):
            torch.cat([there, here])
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()
        assert (2 * there[torch.tensor([0, 2])]).device == GPU


def test_bytes_become_the_same_floats_as_ever() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(as_floats(levels), levels.float() / 255)
    training, some = images(5), torch.tensor([4, 0])
    assert torch.equal(images_on(training, some, CPU), training.images(some))
    assert torch.equal(training.images(some), training.pixels[some].float() / 255)
    twice = View(training, torch.tensor([3, 0, 3]))
    assert torch.equal(images_on(twice, torch.tensor([2, 1]), CPU), training.images(torch.tensor([3, 0])))


def test_float32_keeps_its_digits_inside_and_its_settings_outside() -> None:
    assert torch.backends.cudnn.allow_tf32, "torch's own choice, and the reason for this context"
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with full_float32():
            assert not torch.backends.cudnn.allow_tf32
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="torch before 2.9 has one way only")
def test_settings_made_in_the_newer_way_are_kept_too() -> None:
    conv, rnn = torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    try:
        rnn.fp32_precision = "ieee"
        with full_float32():
            assert conv.fp32_precision == "ieee"
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert (conv.fp32_precision, rnn.fp32_precision) == ("tf32", "ieee")
    finally:
        rnn.fp32_precision = "tf32"
    assert torch.backends.cudnn.allow_tf32


def test_what_does_not_fit_on_a_device_is_made_on_the_cpu() -> None:
    asked, told = [], []

    def make(device: torch.device) -> str:
        asked.append(device)
        if device != CPU:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")
        return "made"

    assert preferably_on(GPU, make, told.append) == "made"
    assert asked == [GPU, CPU]
    (said,) = told
    assert "Tried to allocate 3 GiB" in said
    with pytest.raises(ValueError, match="another"):
        preferably_on(GPU, lambda _: (_ for _ in ()).throw(ValueError("another")))
