"""The MLP by its definition, checkpoints there and back, and every way in which a file can be wrong."""

import contextlib
import errno
import functools
import io
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from lvlm_va.errors import ModelError
from lvlm_va.io import files as cache
from lvlm_va.models.checkpoint import check_outputs, load_checkpoint, save_checkpoint
from lvlm_va.models.mlp import MLP


def small(seed: int = 0, hidden: tuple[int, ...] = (5, 4)) -> MLP:
    torch.manual_seed(seed)
    return MLP((2, 3, 3), hidden, 3)


def same(a: nn.Module, b: nn.Module) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)


def test_the_mlp_is_its_formula() -> None:
    model, x = small().double(), torch.randn(7, 2, 3, 3, dtype=torch.float64)
    h = x.reshape(7, -1)
    weights = list(model.parameters())
    for W, b in zip(weights[0:-2:2], weights[1:-2:2], strict=True):
        h = (h @ W.T + b).clamp(min=0)
    assert torch.allclose(model(x), h @ weights[-2].T + weights[-1], atol=1e-12)


def test_the_mlp_of_the_paper() -> None:
    model = MLP()
    assert [tuple(p.shape) for p in model.parameters() if p.ndim == 2] == [(256, 784), (256, 256), (10, 256)]
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize("save", [save_checkpoint, lambda m, p: torch.save(m.state_dict(), p)])
def test_there_and_back(tmp_path: Path, save) -> None:
    model, other = small(0), small(1)
    assert not same(model, other)
    save(model, tmp_path / "m.ckpt")
    load_checkpoint(other, tmp_path / "m.ckpt")
    assert same(model, other)


def test_buffers_and_tied_weights_survive(tmp_path: Path) -> None:
    def tied() -> nn.Sequential:
        model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
        model[2].weight = model[0].weight
        return model

    model, other = tied(), tied()
    model(torch.randn(8, 3))
    save_checkpoint(model, tmp_path / "m.safetensors")
    load_checkpoint(other, tmp_path / "m.safetensors")
    assert same(model, other)
    assert int(other[1].num_batches_tracked) == 1
    assert other[2].weight is other[0].weight


@pytest.mark.parametrize(
    ("counter", "fits"), [(7.0, True), (7.5, False), (float("inf"), False), (1e30, False)]
)
def test_a_counter_that_was_saved_as_a_float(tmp_path: Path, counter: float, fits: bool) -> None:
    """Whoever halves a whole file halves its integers, too; nothing is lost where they are whole."""
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    state = {name: tensor.half() for name, tensor in model.state_dict().items()}
    state["1.num_batches_tracked"] = torch.tensor(counter)
    save_file(state, tmp_path / "half.safetensors")
    if fits:
        load_checkpoint(model, tmp_path / "half.safetensors")
        assert model[1].num_batches_tracked.dtype == torch.int64
        assert int(model[1].num_batches_tracked) == 7
    else:
        with pytest.raises(ModelError, match=r"num_batches_tracked holds float32 numbers"):
            load_checkpoint(model, tmp_path / "half.safetensors")


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, path = small(0), tmp_path / "m.safetensors"
    save_checkpoint(old, path)

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    with pytest.raises(ModelError, match=r"m\.safetensors.*No space left"):
        save_checkpoint(small(1), path)
    loaded = small(2)
    load_checkpoint(loaded, path)
    assert same(loaded, old)
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def written(tmp_path: Path, state: dict[str, Tensor]) -> Path:
    safetensors.torch.save_file(state, tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def test_disagreements_are_named_and_nothing_is_changed(tmp_path: Path) -> None:
    state = small(0).state_dict()
    state["fc.weight"] = state.pop("layers.1.weight")
    state["layers.5.bias"] = torch.zeros(4)
    model = small(1)
    with pytest.raises(ModelError) as caught:
        load_checkpoint(model, written(tmp_path, state))
    message = str(caught.value)
    assert "1 missing: layers.1.weight;" in message
    assert "1 unexpected: fc.weight;" in message
    assert "1 of another shape: layers.5.bias is (4,) instead of (3,)." in message
    assert same(model, small(1))


def test_of_many_disagreements_a_few_are_shown(tmp_path: Path) -> None:
    state = {f"block.{i}": torch.zeros(1) for i in range(50)}
    with pytest.raises(ModelError, match=r"6 missing: (\S+, ){3}\.\.\.; 50 unexpected: (\S+, ){3}\.\.\.\."):
        load_checkpoint(small(), written(tmp_path, state))


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("exploded"),))


def write_bad(kind: str, path: Path) -> None:
    model = small()
    if kind == "missing":
        return
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "html":
        path.write_bytes(b"<html>404</html>")
    elif kind == "cut safetensors":
        save_checkpoint(model, path)
        path.write_bytes(path.read_bytes()[:-10])
    elif kind == "cut torch":
        torch.save(model.state_dict(), path)
        path.write_bytes(path.read_bytes()[:-200])
    elif kind == "pickled code":
        path.write_bytes(pickle.dumps({"a": Bomb()}))
    elif kind == "code in torch":
        torch.save({"a": Bomb()}, path)
    elif kind == "whole module":
        torch.save(model, path)
    elif kind == "training state":
        torch.save({"epoch": 3, "best": {"accuracy": 0.9}}, path)
    elif kind == "a tensor":
        torch.save(torch.zeros(3), path)
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "no such checkpoint"),
        ("empty", "neither safetensors nor a torch checkpoint"),
        ("html", "neither safetensors nor a torch checkpoint"),
        ("cut safetensors", "cut off"),
        ("cut torch", "neither safetensors nor a torch checkpoint|cannot be read"),
        ("pickled code", "could run code"),
        ("code in torch", "could run code"),
        ("whole module", r"save model\.state_dict\(\) alone"),
        ("training state", r"a dict with the entries epoch, best .*save model\.state_dict\(\) alone"),
        ("a tensor", "a Tensor instead of names and tensors"),
        ("folder", "no such checkpoint"),
    ],
)
def test_bad_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, says: str) -> None:
    monkeypatch.chdir(tmp_path)
    model, path = small(1), tmp_path / "m.ckpt"
    write_bad(kind, path)
    with pytest.raises(ModelError, match=says) as caught:
        load_checkpoint(model, path)
    assert str(path) in str(caught.value)
    assert same(model, small(1))
    assert not Path("exploded").exists()


@functools.cache  # a legacy file holds addresses: its length differs from one time to the next
def _saved(form: str) -> bytes:
    if form == "safetensors":
        return safetensors.torch.save(small().state_dict())
    file = io.BytesIO()
    torch.save(small().state_dict(), file, _use_new_zipfile_serialization=form == "zip")
    return file.getvalue()


@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_bytes_are_damaged_it_loads_or_refuses(
    tmp_path: Path, form: str, data: st.DataObject
) -> None:
    model, path = small(), tmp_path / "m.ckpt"
    content = bytearray(_saved(form))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(
        content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    )
    with contextlib.suppress(ModelError):
        load_checkpoint(model, path)


class Fixed(nn.Module):
    """Returns what it is told, and remembers the mode in which it was asked."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer, self.modes = answer, []

    def forward(self, x: Tensor) -> object:
        self.modes.append((self.training, torch.is_grad_enabled()))
        return self.answer


X = torch.zeros(4, 1, 2, 2)


@pytest.mark.parametrize("training", [True, False])
def test_good_outputs_pass_and_the_mode_is_restored(training: bool) -> None:
    model = Fixed(torch.zeros(4, 3)).train(training)
    check_outputs(model, X, 3)
    assert model.modes == [(False, False)]
    assert model.training is training


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (torch.zeros(4, 2), r"one logit per class, \(4, 3\) .* returns \(4, 2\)"),
        (torch.zeros(4), r"returns \(4, 1\)"),
        (torch.zeros(1, 3), r"returns \(1, 3\)"),
        (
            (torch.zeros(4, 2), torch.zeros(4, 5)),
            r"a tuple \(0: \(4, 2\); 1: \(4, 5\)\), none of which can be",
        ),
        (
            torch.tensor([[0, 0, 0], [0, float("nan"), 0], [float("inf"), 0, 0], [0, 0, 0]]),
            "for 2 of 4 images",
        ),
    ],
)
def test_bad_outputs_are_refused(answer: object, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        check_outputs(Fixed(answer), X, 3)


def test_a_model_of_another_input_size_is_refused() -> None:
    with pytest.raises(ModelError, match=r"fails on images of shape \(4, 1, 2, 2\)"):
        check_outputs(small(), X, 3)
