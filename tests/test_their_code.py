"""What a user's own code raises, with file and line of theirs; models and weights as people wrap them."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import small
from lvlm_va.errors import LvlmVaError, ModelError
from lvlm_va.io.raised import place
from lvlm_va.models.adapter import Adapted, ForwardFailed, unwrapped
from lvlm_va.models.checkpoint import load_checkpoint, load_pretrained
from lvlm_va.models.copying import copied
from lvlm_va.models.factory import make_model
from lvlm_va.models.parts import check_parts
from lvlm_va.project.inputs import Given

NET = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes=3):
        super().__init__()
        self.head = nn.Linear(144, num_classes)
        MADE

    def forward(self, x):
        CALLED
        return self.head(x.flatten(1))

    def __deepcopy__(self, memo):
        COPIED

    def state_dict(self, *args, **kwargs):
        KEPT
        return super().state_dict(*args, **kwargs)
"""


def written(folder: Path, **lines: str) -> str:
    """A module of the user's with mistakes in it; its name for `model.name`."""
    text = NET
    for mark, good in (("MADE", "pass"), ("CALLED", "pass"), ("COPIED", "return Net()"), ("KEPT", "pass")):
        text = text.replace(mark, lines.get(mark, good))
    name = f"theirs_{abs(hash(str(folder)))}"
    (folder / f"{name}.py").write_text(text)
    return name


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        ({"MADE": "raise KeyError('a')"}, r"the factory raised KeyError: 'a' .*\.py, line 9, in __init__"),
        ({"MADE": "("}, r"importing .* raised SyntaxError.*\.py, line 9\)"),
        ({"CALLED": "x = x @ torch.ones(3)"}, r"fails on images of shape .*\.py, line 12, in forward\)"),
        (
            {"COPIED": "return self.nowhere"},
            r"cannot be copied.*no attribute 'nowhere'.*line 16, in __deepcopy__",
        ),
        ({"KEPT": "raise OSError('full')"}, r"state_dict\(\) fails: full .*\.py, line 19, in state_dict\)"),
    ],
)
def test_their_line_is_named(
    mistake: dict[str, str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lvlm_va.models.checkpoint import check_outputs

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = written(tmp_path, **mistake)

    def use() -> None:
        model = make_model(f"{name}:Net", (1, 12, 12), 3)
        check_outputs(model, torch.rand(2, 1, 12, 12), 3)
        copied(model)

    with pytest.raises(LvlmVaError, match=says) as caught:
        use()
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_nobody_elses_line_is_none() -> None:
    with pytest.raises(RuntimeError) as caught:
        nn.Linear(2, 3)(torch.zeros(1, 5))
    assert "test_their_code.py" in place(caught.value)
    assert "in forward" not in place(caught.value)
    assert place(ValueError("never raised")) == ""


def test_memory_that_runs_out_is_no_mistake_of_theirs() -> None:
    class Large(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        Adapted(Large())(torch.rand(1, 1, 2, 2))

    class Wrong(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ZeroDivisionError

    with pytest.raises(ForwardFailed, match=r"forward pass fails: ZeroDivisionError .*in forward\)"):
        Adapted(Wrong())(torch.rand(1, 1, 2, 2))


def called_to_compile() -> nn.Module:
    net = small.untrained()
    net.compile(backend="eager")
    return net


WRAPPED: dict[str, Callable[[], nn.Module]] = {
    "torch.compile": lambda: torch.compile(small.untrained(), backend="eager"),  # type: ignore[return-value]
    "Module.compile": called_to_compile,
    "DataParallel": lambda: nn.DataParallel(small.untrained()),
    "both": lambda: nn.DataParallel(torch.compile(small.untrained(), backend="eager")),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrapped_models_are_unwrapped(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given, plain = WRAPPED[kind](), small.untrained()
    model = Given(given, small.splits(), True, None).adapted(small_config(), torch.device("cpu"))
    check_parts(unwrapped(model))
    assert unwrapped(model).state_dict().keys() == plain.state_dict().keys()
    pixels = torch.rand(2, 1, 12, 12)
    torch.testing.assert_close(model(pixels), plain(pixels))
    monkeypatch.setattr(sys.modules[__name__], "given_here", given, raising=False)
    made = make_model(f"{__name__}:made_here", (1, 12, 12), 3)
    check_parts(made)


def made_here() -> nn.Module:
    """A factory that returns what the test put there."""
    return given_here  # type: ignore[name-defined, no-any-return]  # noqa: F821


def small_config():  # type: ignore[no-untyped-def]
    """The default settings."""
    from lvlm_va.config.loading import parse_config

    return parse_config({})


@pytest.mark.parametrize("read", [load_checkpoint, load_pretrained])
@pytest.mark.parametrize(
    ("wrap", "told"),
    [
        (lambda s: {f"module.{k}": v for k, v in s.items()}, ["module. is taken off the names"]),
        (lambda s: {f"_orig_mod.{k}": v for k, v in s.items()}, ["_orig_mod. is taken off"]),
        (lambda s: {"state_dict": s}, ["taken from its entry state_dict"]),
        (
            lambda s: {"epoch": 3, "optimizer": {"state": {0: {"step": torch.ones(())}}}, "model": s},
            ["entry model"],
        ),
        (
            lambda s: {"epoch": 1, "state_dict": {f"net.module.{k}": v for k, v in s.items()}},
            ["entry state_dict", "net.module. is taken off"],
        ),
    ],
)
def test_files_as_people_write_them(
    read: Callable[..., object], wrap: Callable[[dict[str, Tensor]], object], told: list[str], tmp_path: Path
) -> None:
    given, model, notes = small.untrained(1), small.untrained(2), []  # type: ignore[var-annotated]
    torch.save(wrap(given.state_dict()), tmp_path / "w.pt")
    read(model, tmp_path / "w.pt", note=notes.append)
    assert [part in note for part, note in zip(told, notes, strict=True)] == [True] * len(told)
    for name, tensor in given.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)


def test_two_sets_of_weights_are_not_chosen_between(tmp_path: Path) -> None:
    state = small.untrained().state_dict()
    torch.save({"model": state, "ema": state}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="holds weights under model and ema; save the ones you mean alone"):
        load_checkpoint(small.untrained(), tmp_path / "w.pt")


def test_names_with_two_prefixes_are_left_alone(tmp_path: Path) -> None:
    state = small.untrained().state_dict()
    torch.save({f"{'a' if i else 'b'}.{k}": v for i, (k, v) in enumerate(state.items())}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="does not fit MLP"):
        load_checkpoint(small.untrained(), tmp_path / "w.pt")
