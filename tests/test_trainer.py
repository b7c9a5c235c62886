"""The trainer: each step against its closed form, and the same outcome whatever interrupts it."""

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import small
import trainer_worker
from lvlm_va.alignment.fine_tune import AlignmentSet, FineTuning, fine_tune
from lvlm_va.data.imageset import ArrayImageSet
from lvlm_va.errors import ConfigError, ModelError
from lvlm_va.evaluate.accuracy import accuracy
from lvlm_va.models.predict import logits
from lvlm_va.training.micro_batching import MicroBatching
from lvlm_va.training.process_group import ProcessGroup
from lvlm_va.training.resumption import Resumption, packed
from lvlm_va.training.train import Optimizer, train
from patience import output_of


@pytest.fixture(scope="module")
def images() -> ArrayImageSet:
    return small.shapes(48, seed=1, betrayed=True)


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.state_dict().values()]


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def test_the_default_is_plain_adam_with_a_cosine_bit_for_bit(images: ArrayImageSet) -> None:
    trained, written_out = small.untrained(), small.untrained()
    validation = small.shapes(30, seed=2, betrayed=False)
    went = train(trained, images, epochs=3, batch=20, learning_rate=3e-3, seed=7, validation=validation)

    generator = torch.Generator().manual_seed(7)
    optimizer = torch.optim.Adam(written_out.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9)
    for epoch in went.epochs:
        total = 0.0
        for chosen in torch.split(torch.randperm(48, generator=generator), 20):
            loss = F.cross_entropy(written_out(images.images(chosen)), images.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        assert epoch.cross_entropy == total / 48
        assert epoch.validation == accuracy(logits(written_out, validation), validation.labels)
    assert same(trained, written_out)
    assert (went.kept, went.how, went.compute) == (3, "the last", "cpu, float32")


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_the_first_step_of_each_optimizer(optimizer: Optimizer, images: ArrayImageSet) -> None:
    """lr · (g + d · θ) for SGD; lr · sign(g + d · θ) for Adam; lr · (sign(g) + d · θ) for AdamW."""
    lr, d = 1e-3, 0.3
    model = small.untrained().double().float()
    before = copy.deepcopy(model)
    F.cross_entropy(before(images.images(torch.arange(48))), images.labels).backward()
    train(model, images, epochs=1, batch=48, learning_rate=lr, optimizer=optimizer, weight_decay=d)
    for new, old in zip(model.parameters(), before.parameters(), strict=True):
        assert old.grad is not None
        g, t = old.grad, old.detach()
        step = {"sgd": g + d * t, "adam": (g + d * t).sign(), "adamw": g.sign() + d * t}[optimizer]
        clear = torch.minimum(g.abs(), (g + d * t).abs()) > 1e-4  # against Adam's ε and rounding
        torch.testing.assert_close((t - new.detach())[clear], lr * step[clear], rtol=2e-3, atol=1e-7)
        assert clear.any()


def test_flips_mirror_about_half_of_the_images(images: ArrayImageSet) -> None:
    seen: list[Tensor] = []

    class Watching(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return super().forward(x)  # type: ignore[no-any-return]

    def trained(**arguments: Any) -> nn.Module:
        model = Watching(*small.untrained().layers)  # type: ignore[misc]
        seen.clear()
        train(model, images, epochs=4, batch=16, **arguments)
        return model

    one, met = trained(flip=True), torch.cat(seen)
    originals = images.pixels.flatten(1)
    is_original = (met.flatten(1)[:, None] == originals).all(2).any(1)
    is_mirrored = (met.flip(3).flatten(1)[:, None] == originals).all(2).any(1)
    assert (is_original ^ is_mirrored).all()
    assert 60 < int(is_mirrored.sum()) < 132, "4 standard deviations around 96 of 192"
    assert same(one, trained(flip=True))
    assert not same(one, trained())


def test_patience_keeps_the_best_epoch(images: ArrayImageSet) -> None:
    validation = small.shapes(60, seed=2, betrayed=False)
    arguments: dict[str, Any] = {
        "epochs": 30,
        "batch": 8,
        "learning_rate": 0.02,
        "seed": 1,
        "validation": validation,
    }
    full = train(small.untrained(), images, **arguments)
    model = small.untrained()
    went = train(model, images, **arguments, patience=4)
    reached = [epoch.validation or 0.0 for epoch in went.epochs]
    assert went.epochs == full.epochs[: len(reached)], "patience changes nothing until it ends"
    assert went.kept == reached.index(max(reached)) + 1
    assert went.kept < len(reached) == went.kept + 4 < 30
    assert accuracy(logits(model, validation), validation.labels) == max(reached)
    assert went.how == "best plain validation accuracy, of equals the earliest"
    with pytest.raises(ConfigError, match=r"model\.patience needs a validation set"):
        train(small.untrained(), images, epochs=1, patience=1)


def test_killed_and_resumed_ends_the_same_bit_for_bit(tmp_path: Path) -> None:
    worker = [sys.executable, trainer_worker.__file__, str(tmp_path)]
    kills = json.loads(output_of(worker))
    assert kills == 4
    calm, killed = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("calm", "killed"))
    assert calm["went"] == killed["went"]
    assert len(calm["went"]["epochs"]) > 4
    assert calm["model"].keys() == killed["model"].keys()
    assert all(torch.equal(tensor, killed["model"][name]) for name, tensor in calm["model"].items())
    assert not list(tmp_path.glob("*.part"))


def test_states_of_other_trainings(tmp_path: Path, images: ArrayImageSet) -> None:
    def trained(inputs: str, **changes: Any) -> tuple[nn.Module, list[str]]:
        model, said = small.untrained(), []
        resumption = Resumption(tmp_path / "state", inputs)
        train(model, images, epochs=2, resumption=resumption, note=said.append, **changes)
        return model, said

    first, said = trained("a")
    assert len(said) == 2
    assert same(first, trained("a")[0])
    assert trained("a")[1] == ["  goes on after epoch 2 of 2"], "nothing was left to do"
    other, said = trained("b", seed=3)
    assert len(said) == 2, "a state of other inputs is not taken"
    assert not same(first, other)
    (tmp_path / "state").write_bytes(packed({"inputs": "b"})[:-40])
    with pytest.raises(ModelError, match="damaged; delete it to start anew"):
        trained("b")
    Resumption(tmp_path / "state", "b").remove()
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="could not be written"):
        train(small.untrained(), images, epochs=1, resumption=Resumption(tmp_path / "file" / "state", ""))


def test_nothing_to_train(images: ArrayImageSet) -> None:
    with pytest.raises(ModelError, match="unfreeze what is to be trained"):
        train(small.untrained().requires_grad_(False), images, epochs=1)


def test_bfloat16_trains_float32_weights() -> None:
    images = small.shapes(90, seed=1, betrayed=True)
    models = {}
    for precision in ("float32", "bfloat16"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 3))
        went = train(model, images, epochs=6, batch=30, learning_rate=3e-3, precision=precision)
        assert went.compute == f"cpu, {precision}"
        assert all(p.dtype == torch.float32 for p in model.parameters())
        models[precision] = model
    high, low = (logits(model, images) for model in models.values())
    assert not torch.equal(high, low)
    torch.testing.assert_close(low, high, rtol=0.1, atol=0.05)


class Cramped(nn.Module):
    """Memory for so many images at a time."""

    def __init__(self, rows: int, error: Callable[[str], Exception] = torch.OutOfMemoryError) -> None:
        super().__init__()
        self.inner, self.rows, self.error = small.untrained(), rows, error
        self.met: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) > self.rows:
            raise self.error("CUDA out of memory. Tried to allocate 2 GiB")
        self.met.append(len(x))
        return self.inner(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("rows", [1, 5, 11])
def test_out_of_memory_divides_the_step_and_changes_nothing_else(rows: int, images: ArrayImageSet) -> None:
    roomy, cramped, said = small.untrained(), Cramped(rows), []
    train(roomy, images, epochs=2, batch=20, optimizer="sgd", learning_rate=0.1)
    train(cramped, images, epochs=2, batch=20, optimizer="sgd", learning_rate=0.1, note=said.append)
    for a, b in zip(weights(roomy), weights(cramped.inner), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert sum(cramped.met) == 2 * 48, "every image once an epoch: no step was half done"
    told = [line for line in said if line.startswith("Out of memory (CUDA out of memory")]
    assert [f"done in {parts} parts" in line for parts, line in zip((2, 4, 8, 16, 20), told, strict=False)]
    assert len(told) == {11: 1, 5: 2, 1: 5}[rows]


@pytest.mark.parametrize("rows", [9, 2])
def test_out_of_memory_in_alignment_does_too(rows: int, images: ArrayImageSet) -> None:
    chosen = torch.arange(12)
    masks = images.spurious_masks(chosen)
    assert masks is not None
    settings = FineTuning(
        0.1, gamma=1e-3, counterfactual=0.5, epochs=1, training_batch=24, alignment_batch=7, jitter=0.1
    )

    def aligned(rows: int, said: list[str]) -> list[Tensor]:
        alignment = AlignmentSet(chosen, masks)
        return weights(fine_tune(Cramped(rows), images, alignment, settings, note=said.append)[0])

    said: list[str] = []
    for a, b in zip(aligned(100, []), aligned(rows, said), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)
    assert said
    with pytest.raises(ModelError, match="not enough memory"):
        aligned(0, [])


def test_out_of_memory_with_one_image(images: ArrayImageSet) -> None:
    with pytest.raises(ModelError, match=r"not enough memory to train on a single image \(CUDA out of"):
        train(Cramped(0), images, epochs=1, batch=4)
    with pytest.raises(RuntimeError, match="something else"):
        train(Cramped(0, lambda _: RuntimeError("something else")), images, epochs=1)


def test_a_division_weighs_means_by_their_share() -> None:
    """Two kinds of samples of unlike number, and a term without samples, in parts some of which are empty."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    many, few = torch.rand(7, 3), torch.rand(2, 3)

    def loss(parts: int) -> tuple[Tensor, list[Tensor]]:
        total = MicroBatching(ProcessGroup(), parts).backward(
            model,
            (many, few),
            lambda part: torch.stack(
                [
                    *(
                        model(kind).square().mean() * share if len(kind) else torch.zeros(())
                        for kind, share in zip(part.samples, part.shares, strict=True)
                    ),
                    model.weight.square().sum() * part.fraction,
                ]
            ),
        )
        return total, [p.grad.clone() for p in model.parameters() if p.grad is not None]

    whole, gradient = loss(1)
    for parts in (2, 3, 7):
        total, again = loss(parts)
        torch.testing.assert_close(total, whole)
        torch.testing.assert_close(again, gradient)


def test_after_epoch_sees_each_epoch_and_may_end_the_training(images: ArrayImageSet) -> None:
    plain, watched, ended = small.untrained(), small.untrained(), small.untrained()
    train(plain, images, epochs=4, batch=20)
    seen: list[tuple[int, bool, list[Tensor]]] = []

    def watch(number: int, model: nn.Module) -> bool:
        seen.append((number, model.training, weights(model)))
        return False

    train(watched, images, epochs=4, batch=20, after_epoch=watch)
    assert same(plain, watched)
    assert [(number, training) for number, training, _ in seen] == [(n, False) for n in (1, 2, 3, 4)]

    went = train(ended, images, epochs=4, batch=20, after_epoch=lambda number, _: number == 2)
    assert len(went.epochs) == went.kept == 2
    assert all(torch.equal(a, b) for a, b in zip(weights(ended), seen[1][2], strict=True))
    assert not same(ended, plain)
