"""Models by name: ours, or a factory of the user's."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from lvlm_va.errors import ConfigError, ModelError
from lvlm_va.models.factory import MODELS, make_model


@pytest.mark.parametrize("name", list(MODELS))
def test_our_models_fit_the_images_and_the_classes(name: str) -> None:
    model = make_model(name, (3, 32, 24), 7).eval()
    with torch.no_grad():
        assert model(torch.rand(2, 3, 32, 24)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("resnet", "did you mean 'resnet18'|did you mean 'resnet50'"),
        ("vgg", "known are .*mlp.*resnet18.*resnet50"),
        ("", "known are"),
    ],
)
def test_a_name_nobody_knows(name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        make_model(name, (1, 8, 8), 2)
    assert "package.module:function" in str(caught.value)


MODULE = """
from torch import nn
count = 3
def good():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
def bad():
    raise ValueError("no weights\\nhere")
def ends():
    raise SystemExit(3)
def other():
    return {"weights": 1}
def needs(classes):
    return nn.Identity()
def asks(width=4, *, num_classes, in_channels=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * width, num_classes))
"""


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "users_model.py").write_text(MODULE)
    (tmp_path / "users_broken.py").write_text("def f(:\n")
    (tmp_path / "users_missing.py").write_text("import surely_not_installed\n")
    (tmp_path / "users_raises.py").write_text("raise OSError('no driver')\n")
    (tmp_path / "users_ends.py").write_text("raise SystemExit(0)\n")
    (tmp_path / "users_importing.py").write_text("from torch import surely_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "users_model"
    for name in [name for name in sys.modules if name.startswith("users_")]:
        del sys.modules[name]


def test_a_factory_of_the_users(user_module: str) -> None:
    model = make_model("users_model:good", (1, 2, 2), 2)
    assert isinstance(model, nn.Sequential)
    assert model(torch.rand(3, 1, 2, 2)).shape == (3, 2)


def test_a_factory_that_asks_is_told(user_module: str) -> None:
    assert make_model("users_model:asks", (1, 2, 2), 5)(torch.rand(3, 1, 2, 2)).shape == (3, 5)


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("users_model:god", ConfigError, "users_model has no 'god'; did you mean 'good'"),
        ("users_model:ends", ModelError, "the factory raised SystemExit: 3"),
        ("users_ends:f", ModelError, "importing users_ends raised SystemExit: 0"),
        ("users_modul:good", ConfigError, "no module named 'users_modul'.*PYTHONPATH"),
        ("users_missing:f", ConfigError, "no module named 'surely_not_installed'"),
        ("users_broken:f", ModelError, "importing users_broken raised SyntaxError"),
        ("users_raises:f", ModelError, "no driver"),
        ("users_importing:f", ModelError, "surely_not_there"),
        (":f", ConfigError, "package.module:function"),
        (".users_model:good", ConfigError, "package.module:function"),
        ("users_model:", ConfigError, "package.module:function"),
        ("users_model:bad", ModelError, "the factory raised ValueError: no weights"),
        ("users_model:needs", ModelError, "the factory raised TypeError"),
        ("users_model:count", ModelError, "the factory raised TypeError"),
        ("users_model:other", ModelError, "returned dict, not a torch nn.Module"),
    ],
)
def test_factories_that_cannot_be_used(user_module: str, name: str, kind: type, told: str) -> None:
    with pytest.raises(kind, match=told) as caught:
        make_model(name, (1, 2, 2), 2)
    assert repr(name) in str(caught.value)
