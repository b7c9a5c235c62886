"""Settings that follow network, images and set; and the minutes that `check` foretells."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from torch import nn

import lvlm_va
import small
from lvlm_va.config.loading import load_config, parse_config
from lvlm_va.config.schema import Config
from lvlm_va.data.splits import Splits
from lvlm_va.errors import ConfigError
from lvlm_va.io.console import QuietConsole
from lvlm_va.models.mlp import MLP
from lvlm_va.models.resnet import resnet18
from lvlm_va.project import check, duration
from lvlm_va.project.duration import alignment_samples, seconds_a_sample
from lvlm_va.project.init import init_project
from lvlm_va.project.presets import PRESETS, preset
from lvlm_va.project.suited import suited
from parts import class_folders


class Heard(QuietConsole):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVLM_VA_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("name", ["knee", "skin"])
def test_a_pretrained_resnet_gets_what_the_presets_measured(name: str) -> None:
    """The presets are the oracle: all of `align` and `explain` that they set is what init writes."""
    tuned = yaml.safe_load(preset(name).read_text())
    found = suited(resnet18(num_classes=2), 224, 1000, validation=True).settings
    for section in ("explain", "align", "evaluate"):
        for key, value in tuned[section].items():
            if (section, key) != ("explain", "num_images"):
                assert found[f"{section}.{key}"] == value, (section, key)


def test_a_small_network_keeps_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    found = suited(MLP((1, 28, 28)), 28, 50_000, validation=True).settings
    assert found == {"explain.num_images": 256, "explain.segments": 3}
    assert "decoy-mnist" in PRESETS
    wide = suited(MLP((3, 224, 224)), 224, 50_000, validation=True).settings
    assert "align.learning_rate" not in wide, "many parameters alone are no deep network"
    normed = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))
    assert suited(normed, 28, 5000, validation=True).settings["align.statistics"] == "frozen"


@pytest.mark.parametrize("training", [8, 40, 300, 1000, 2999, 3000, 100_000])
def test_epochs_and_batches_follow_the_set(training: int) -> None:
    found = suited(resnet18(num_classes=2), 224, training, validation=False).settings
    epochs = found["align.epochs"]
    assert 3 <= epochs <= 10
    assert epochs * training >= 3000 or epochs == 10, "a small set is seen as often as ten epochs allow"
    assert epochs == 3 or (epochs - 1) * training < 3000, "and no oftener than needed"
    assert found["explain.num_images"] <= training
    assert found["align.training_batch"] <= max(4, training // 4)
    assert found["align.keep"] == "last", "without validation images no epoch can be called the best"
    parse_config({"align": {k.partition(".")[2]: v for k, v in found.items() if k.startswith("align.")}})


def pictures(folder: Path, side: int, colour: bool = False) -> None:
    for k, name in enumerate(("bolt", "nut")):
        (folder / name).mkdir(parents=True)
        for n in range(10):
            size, shade = (side + 20, side), 20 * k + n
            Image.new("RGB" if colour else "L", size, (shade, 1, 2) if colour else shade).save(
                folder / name / f"{n}.png"
            )


def test_init_writes_what_suits_and_says_it_in_one_line(tmp_path: Path) -> None:
    pictures(tmp_path / "d", 72)
    heard = Heard()
    written = init_project(tmp_path / "p", data=tmp_path / "d", model="resnet18", console=heard)
    config = load_config(written[0])
    assert (config.data.size, config.data.channels, config.explain.segments) == (72, "rgb", 7)
    align, model = config.align, config.model
    assert (align.learning_rate, align.decay, align.statistics) == (3e-5, "cosine", "frozen")
    assert (align.lam, align.mask, align.keep, align.training_batch) == ((0.003,), "objects", "best", 4)
    assert (model.pretrained, model.normalise, model.learning_rate) == ("imagenet", "imagenet", 1e-4)
    (line,) = [line for line in heard.lines if "Settings for" in line]
    assert "a deep network with batch normalisation (11,177,538 parameters), 72 pixels" in line
    assert "10 epochs at a step of 3e-05 that falls, frozen statistics, batches of 4 + 4" in line
    assert "\n" not in line
    mlp = load_config(init_project(tmp_path / "q", data=tmp_path / "d")[0])
    assert (mlp.align.learning_rate, mlp.align.epochs, mlp.data.channels) == (1e-3, 10, "auto")
    sized = init_project(tmp_path / "s", data=tmp_path / "d", settings=["data.size=20"])
    assert (load_config(sized[0]).data.size, load_config(sized[0]).explain.segments) == (20, 3)
    without = init_project(tmp_path / "n", model="resnet18")
    assert load_config(without[0]).align.learning_rate == 3e-5


def test_init_refuses_a_name_that_nobody_knows_and_minds_what_is_still_to_be_written(tmp_path: Path) -> None:
    class_folders(tmp_path / "d", 6)
    with pytest.raises(ConfigError, match="unknown model 'resnet19'; did you mean"):
        init_project(tmp_path / "p", data=tmp_path / "d", model="resnet19")
    assert not (tmp_path / "p").exists()
    heard = Heard()
    written = init_project(tmp_path / "p", data=tmp_path / "d", model="not_there:build", console=heard)
    assert load_config(written[0]).model.name == "not_there:build"
    assert any("those of a small network" in line for line in heard.lines)
    held = init_project(tmp_path / "q", data=tmp_path / "d", settings=["data.validation=0"])
    config = load_config(held[0])
    assert (len(config.align.lam), config.align.keep) == (1, "last"), "nothing can be chosen without images"


def test_python_gets_the_same_and_what_is_said_is_the_last_word() -> None:
    parts = small.splits()
    project = lvlm_va.Project(resnet18(num_classes=3, in_channels=1), parts, small.SPECIFICATIONS)
    found = suited(resnet18(num_classes=3, in_channels=1), small.SIDE, 300, validation=True).settings
    for key, value in found.items():
        section, _, name = key.partition(".")
        got = getattr(getattr(project.config, section), "lam" if name == "lambda" else name)
        assert got == ((value,) if name == "lambda" else value), key
    said = lvlm_va.Project(
        resnet18(num_classes=3, in_channels=1), parts, settings={"align.epochs": 2, "align": {"keep": "last"}}
    )
    assert (said.config.align.epochs, said.config.align.keep) == (2, "last")
    assert said.config.align.learning_rate == 3e-5
    plain = lvlm_va.Project(small.untrained(), parts).config
    assert plain.align == Config().align


def by_hand(config: Config, splits: Splits) -> float:
    """Samples, counted one batch after the other."""
    a = config.align
    count = 0.0
    for _ in a.lam:
        for _ in range(a.epochs):
            left = len(splits.train)
            for _ in range(len(splits.train) // a.training_batch + bool(left % a.training_batch)):
                count += min(a.training_batch, left) + a.alignment_batch * (2 if a.counterfactual else 1)
                left -= a.training_batch
            if a.keep == "best":
                count += 2 * len(splits.validation or ()) / 3
        count += 2 * len(splits.validation or ()) / 3
    return count


def test_the_samples_of_an_alignment_are_counted() -> None:
    parts = small.splits()
    for align in (
        {"lambda": [0.1, 1.0], "epochs": 3, "training_batch": 32, "alignment_batch": 8, "keep": "best"},
        {"lambda": 0.1, "epochs": 2, "training_batch": 64, "counterfactual": 1.0},
    ):
        config = parse_config({"align": align, "evaluate": {"bounds": False}})
        assert alignment_samples(config, parts) == pytest.approx(by_hand(config, parts))
        oracle = parse_config({"align": align, "evaluate": {"bounds": True}})
        assert alignment_samples(oracle, parts) == pytest.approx(2 * by_hand(config, parts))


def test_the_second_of_two_steps_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that jumps: the first step, when everything is set up, does not count."""
    ticks = iter([100.0, 103.0])
    monkeypatch.setattr(duration, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    align = {"training_batch": 24, "alignment_batch": 12, "counterfactual": 1.0, "epochs": 7}
    a_sample = seconds_a_sample(small.untrained(), small.splits(), parse_config({"align": align}))
    assert a_sample == pytest.approx(3.0 / (4 + 2 + 2))


def test_check_foretells_the_minutes_and_warns_of_a_small_networks_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts, model = small.splits(), resnet18(num_classes=3, in_channels=1)
    monkeypatch.setattr(check, "seconds_a_sample", lambda *_: 0.5)

    def told(**changes: Any) -> list[check.Finding]:
        config = parse_config({"align": {"lambda": 0.1} | changes, "evaluate": {"bounds": False}})
        return check._alignment(config, parts, model)

    minutes, warning = told(epochs=30, training_batch=30, alignment_batch=10)
    # 300 images: 10 batches of 30 + 10, 30 times; and twice the 90 validation images, at a third.
    assert f"about {0.5 * (30 * 10 * 40 + 60) / 60:.0f} minutes: 1 λ, 300 steps each" in minutes.text
    assert "500 ms a sample" in minutes.text
    assert warning.outcome == "warning"
    assert "align.learning_rate: 3e-05, align.statistics: frozen" in warning.text
    (only,) = told(epochs=1, learning_rate=3e-5, statistics="frozen")
    assert "about 6 minutes" in only.text, "0.5 · (300 + 5 · 64 + 60) seconds"
    monkeypatch.setattr(check, "seconds_a_sample", lambda *_: 0.01)
    assert "less than a minute" in told(epochs=1)[0].text
    for load, said in ((8.0, True), (1.0, False)):  # of two cores
        monkeypatch.setattr(check, "usable_cores", lambda: 2)
        monkeypatch.setattr(check.os, "getloadavg", lambda load=load: (load, 0.0, 0.0), raising=False)
        assert ("it is busy (load 8 on 2 cores)" in told(epochs=1)[0].text) is said


def test_a_network_of_many_kinds_of_layers_is_looked_at_not_run() -> None:
    class Refuses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(512, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise AssertionError("it was run")

    found = suited(Refuses(), 224, 1000, validation=True)
    assert found.settings["align.learning_rate"] == 3e-5
    assert "align.statistics" not in found.settings
    assert str(found).startswith(
        "a deep network (1,050,624 parameters), 224 pixels, 1,000 training images: J = 7"
    )
