"""Number and memory formats: chosen by hardware and architecture, and they change speed alone."""

import copy

import pytest
import torch
from torch import nn

import small
from lvlm_va.models import compute
from lvlm_va.models.compute import Compute, choose_compute, has_bfloat16

CPU = torch.device("cpu")


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 144, 3)
    )


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bfloat16_for_convolutions_on_hardware_that_has_it(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "has_bfloat16", lambda device: native)
    expected = torch.bfloat16 if native else torch.float32
    assert choose_compute(convolutional()) == Compute(CPU, expected, native)
    assert choose_compute(small.untrained()) == Compute(CPU), "a perceptron stays in float32"
    assert choose_compute(convolutional(), "float32") == Compute(CPU)
    assert choose_compute(small.untrained(), "bfloat16") == Compute(CPU, torch.bfloat16)


def test_the_processor_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = {"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert not has_bfloat16(CPU), "AVX-512 alone only emulates it"
    for flag in ("avx512_bf16", "amx_bf16"):
        monkeypatch.setitem(flags, flag, True)
        assert has_bfloat16(CPU)
        monkeypatch.setitem(flags, flag, False)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not has_bfloat16(CPU)
    assert not has_bfloat16(torch.device("meta"))


def test_float32_changes_nothing() -> None:
    images = torch.rand(2, 3, 16, 16)
    how = Compute(CPU)
    assert how.place(convolutional(), images) is images
    with how.autocast():
        assert convolutional()(images).dtype == torch.float32
    assert str(how) == "cpu, float32"


def test_memory_formats_are_those_of_the_step_and_keep_all_values() -> None:
    how = Compute(CPU, torch.bfloat16, channels_last=True)
    model, images = convolutional(), torch.rand(2, 3, 16, 16)
    before = copy.deepcopy(model)
    for twice, layout in ((False, torch.channels_last), (True, torch.contiguous_format)):
        placed = how.place(model, images, twice=twice)
        assert torch.equal(placed, images)
        assert placed.is_contiguous(memory_format=layout)
        for one, other in zip(model.parameters(), before.parameters(), strict=True):
            assert torch.equal(one, other)
            assert one.ndim != 4 or one.is_contiguous(memory_format=layout)
        with how.autocast():
            low = model(placed)
        assert low.dtype == torch.bfloat16
        how.settle(model)
        assert all(p.is_contiguous() for p in model.parameters())
        torch.testing.assert_close(low.float(), before(images), rtol=0.03, atol=0.01)
