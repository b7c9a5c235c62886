"""Confounder sensitivity of models that look at the planted feature alone, and of models that never do."""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import small
from lvlm_va.alignment.selection import Candidate, ValidationScore
from lvlm_va.config.loading import override, parse_config
from lvlm_va.data.counterfactual_pairs import (
    Changed,
    CounterfactualPairs,
    ReadWhenAsked,
    counterfactual_pairs,
)
from lvlm_va.data.decoy import DecoyImageSet, decoy_mnist
from lvlm_va.data.imageset import ArrayImageSet, Groups, ImageSet
from lvlm_va.data.knee import KneeImageSet, load_knee
from lvlm_va.data.mnist import Mnist
from lvlm_va.data.published import reduced
from lvlm_va.data.skin import SkinImageSet, load_skin
from lvlm_va.errors import DataError
from lvlm_va.evaluate.calibration import calibration
from lvlm_va.evaluate.sensitivity import Sensitivity, sensitivity
from lvlm_va.io.console import QuietConsole
from lvlm_va.models.predict import logits
from lvlm_va.project.inputs import Inputs
from lvlm_va.project.stages.context import Context
from lvlm_va.project.stages.evaluation import measure
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.metrics import ModelMetrics, SensitivityMetrics
from medical_folder import knee_folder, listed, skin_folder


class ByHand(nn.Module):
    """Logits 0 and 40 · (s − threshold) of a score s of each image, and −1000 for any other class."""

    def __init__(self, score: Callable[[Tensor], Tensor], threshold: float, classes: int = 2) -> None:
        super().__init__()
        self.score, self.threshold, self.classes = score, threshold, classes

    def forward(self, x: Tensor) -> Tensor:
        s = self.score(x)
        others = [torch.full_like(s, -1000.0)] * (self.classes - 2)
        return torch.stack([torch.zeros_like(s), 40 * (s - self.threshold), *others], 1)


def measured(model: nn.Module, images: ImageSet) -> Sensitivity:
    known = counterfactual_pairs(images)
    assert known is not None
    return sensitivity(partial(logits, model), images, known)


def rates(found: Sensitivity) -> tuple[float, float]:
    assert found.added is not None
    assert found.removed is not None
    return found.added.rate, found.removed.rate


def images_of(levels: list[float], labels: list[int]) -> ArrayImageSet:
    pixels = torch.tensor(levels)[:, None, None, None].expand(-1, 1, 2, 2)
    return ArrayImageSet(
        pixels, torch.tensor(labels), [str(n) for n in range(len(levels))], ("dark", "light")
    )


def test_by_hand() -> None:
    """Four images told by their brightness; two are changed in each way."""
    images = images_of([0.1, 0.9, 0.2, 0.8], [0, 1, 0, 0])
    lighter = Changed(torch.tensor([0, 2]), None, images_of([0.9, 0.3], [0, 0]))
    darker = Changed(torch.tensor([1, 3]), None, images_of([0.1, 0.2], [1, 0]))
    model = ByHand(lambda x: x[:, 0, 0, 0], 0.5)
    known = CounterfactualPairs(added=lighter, removed=darker, cannot_add=3, cannot_remove=5)
    found = sensitivity(partial(logits, model), images, known)
    light = lambda s: 1 / (1 + np.exp(-40 * (s - 0.5)))  # noqa: E731
    assert found.added is not None
    assert (found.added.images, found.added.flipped) == (2, 1)
    up, still = light(0.1) - light(0.9), light(0.2) - light(0.3)  # of the class "dark", which falls
    assert found.added.probability == pytest.approx((up + still) / 2, abs=1e-6)
    assert found.removed is not None
    assert (found.removed.images, found.removed.flipped) == (2, 2)
    lost, won = light(0.1) - light(0.9), light(0.8) - light(0.2)
    assert found.removed.probability == pytest.approx((lost + won) / 2, abs=1e-6)
    assert found.removed.absolute == pytest.approx((abs(lost) + won) / 2, abs=1e-6)
    assert {name: (f.images, f.flipped) for name, f in found.removed.classes.items()} == {
        "dark": (1, 1), "light": (1, 1),
    }  # fmt: skip
    assert list(found.added.classes) == ["dark"], "no light image was changed"
    assert found.rate == 0.75
    assert (found.cannot_add, found.cannot_remove) == (3, 5)
    # What is known of the images as they are is used, and changes nothing.
    assert sensitivity(partial(logits, model), images, known, outputs=model(images.pixels)) == found


def test_where_nothing_can_be_changed_nothing_is_said() -> None:
    images = images_of([0.1, 0.9], [0, 1])
    assert counterfactual_pairs(images) is None
    nobody = Changed(torch.zeros(0, dtype=torch.int64), None, images)
    predict = partial(logits, ByHand(lambda x: x[:, 0, 0, 0], 0.5))
    found = sensitivity(predict, images, CounterfactualPairs(nobody, nobody))
    assert (found.added, found.removed) == (None, None)
    assert np.isnan(found.rate)


# --- DecoyMNIST ---


@pytest.fixture(scope="module")
def decoy() -> DecoyImageSet:
    """Digits that leave the corners dark, as the published ones do."""
    g = torch.Generator().manual_seed(0)
    images = torch.zeros(400, 28, 28, dtype=torch.uint8)
    images[:, 6:22, 6:22] = torch.randint(256, (400, 16, 16), generator=g, dtype=torch.uint8)
    labels = torch.randint(10, (400,), generator=g)
    return decoy_mnist(Mnist(images[:50], labels[:50], images[50:], labels[50:], "noise"), validation=10).test


def corner_light(x: Tensor) -> Tensor:
    corners = [x[:, 0, v, u] for v in (slice(4), slice(24, 28)) for u in (slice(4), slice(24, 28))]
    return torch.stack([c.flatten(1).amax(1) for c in corners], 1).amax(1)


def test_of_decoy_digits_each_patch_goes_and_another_classs_comes(decoy: DecoyImageSet) -> None:
    known = counterfactual_pairs(decoy)
    assert known is not None
    assert known.added.before is known.removed.after, "the clean digit"
    everything = torch.arange(len(decoy))
    clean = known.removed.after.images(everything)
    assert torch.equal(clean[:, 0] * 255, decoy.published.float())
    patched = known.added.after.images(everything)
    assert torch.equal((patched != clean)[:, 0], decoy.spurious_masks(everything))
    k = ((255 - 255 * corner_light(patched)) / 25).round().long()
    offset = (k - decoy.labels) % 10
    assert set(offset.tolist()) == set(range(1, 10)), "every class but its own"
    again = counterfactual_pairs(decoy)
    assert again is not None
    assert torch.equal(again.added.after.images(everything), patched)


def test_a_model_that_sees_only_the_patch_and_one_that_does_not(decoy: DecoyImageSet) -> None:
    assert rates(measured(ByHand(corner_light, 0.05, 10), decoy)) == (1.0, 1.0)
    found = measured(ByHand(lambda x: x[:, 0, 6:22, 6:22].mean((1, 2)), 0.5, 10), decoy)
    assert rates(found) == (0.0, 0.0)
    assert found.added is not None
    assert found.added.absolute == 0.0


# --- Knee ---


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> KneeImageSet:
    test = load_knee(knee_folder(tmp_path_factory.mktemp("knee")), size=64).tests["knee test"]
    assert isinstance(test, KneeImageSet)
    return test


def test_a_tag_goes_and_comes_and_nothing_else_changes(knees: KneeImageSet) -> None:
    known = counterfactual_pairs(knees)
    assert known is not None
    added, removed = known.added, known.removed
    assert knees.groups is not None
    assert torch.equal(added.of, torch.nonzero(knees.groups.of % 2 == 0)[:, 0])
    assert torch.equal(removed.of, torch.nonzero(knees.groups.of % 2 == 1)[:, 0])
    some = torch.arange(0, 200, 10)
    # Without its tag a radiograph is the published file.
    for n, image in zip(some.tolist(), removed.after.images(some), strict=True):
        row = knees.rows[int(removed.of[n])]
        with Image.open(knees.folder / row["split"] / row["grade"] / f"{row['image']}.png") as file:
            assert torch.equal(image[0] * 255, torch.from_numpy(reduced(np.array(file), 64)).float())
    after = added.after.images(some)
    rise = (after - knees.images(added.of[some])).amax(1)
    assert (rise > 0.3).flatten(1).any(1).all(), "each has one now"
    corners = set()
    for image in rise > 0.1:
        rows, columns = torch.nonzero(image, as_tuple=True)
        assert max(int(rows.max() - rows.min()), int(columns.max() - columns.min())) < 16, "a letter, no more"
        corners.add((bool(rows.min() < 32), bool(columns.min() < 32)))
    assert len(corners) == 4
    assert torch.equal(counterfactual_pairs(knees).added.after.images(some), after)  # type: ignore[union-attr]


def test_of_knees(knees: KneeImageSet) -> None:
    assert rates(measured(ByHand(lambda x: x.amax((1, 2, 3)), 0.75), knees)) == (1.0, 1.0)
    assert rates(measured(ByHand(lambda x: x[:, 0, 20:44].mean((1, 2)), 0.4), knees)) == (0.0, 0.0)


def test_a_radiograph_that_has_gone_is_named(knees: KneeImageSet, tmp_path: Path) -> None:
    known = counterfactual_pairs(replace(knees, folder=tmp_path))
    assert known is not None
    with pytest.raises(DataError, match=r"\.png is not there any more\. Get KneeKL224"):
        known.removed.after.images(torch.tensor([0]))


# --- Skin ---


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return skin_folder(tmp_path_factory.mktemp("data") / "skin")


@pytest.fixture(scope="module")
def skin(lesions: Path) -> SkinImageSet:
    test = load_skin(lesions, parts=("core",), size=56, validation=20).tests["skin test"]
    assert isinstance(test, SkinImageSet)
    return test


def orange(x: Tensor) -> Tensor:
    return (x[:, 0] - x[:, 2]).flatten(1).amax(1)


def orange_at(image: Tensor) -> list[bool]:
    """Is the middle of the top, bottom, left and right edge orange?"""
    middles = image[:, [2, -3, 28, 28], [28, 28, 2, -3]]
    return (middles[0] - middles[2] > 0.5).tolist()


def test_of_skin_natural_bandages_are_left_out_and_counted(skin: SkinImageSet) -> None:
    found = measured(ByHand(orange, 0.5), skin)
    assert rates(found) == (1.0, 1.0)
    assert found.added is not None
    assert found.removed is not None
    assert (found.added.images, found.removed.images) == (140, 70)
    assert (found.cannot_add, found.cannot_remove) == (0, 70)
    assert list(found.removed.classes) == ["malignant"], "all pasted ones of this part"
    # Without a bandage all made images are the same; with one they are outside of it, the lesion included.
    known = counterfactual_pairs(skin)
    assert known is not None
    plain = skin.images(known.added.of[:1])
    assert torch.equal(known.removed.after.images(torch.arange(70)), plain.expand(70, -1, -1, -1))
    given = known.added.after.images(torch.arange(40))
    assert torch.equal(given[:, :, 22:34, 22:34], plain[:, :, 22:34, 22:34].expand(40, -1, -1, -1))
    places = {tuple(orange_at(image)) for image in given}
    assert len(places) == 4, "turned to every side"
    again = counterfactual_pairs(replace(skin))
    assert again is not None
    assert torch.equal(again.added.after.images(torch.arange(40)), given)
    # Subsets know theirs.
    natural = counterfactual_pairs(skin.only(("none", "natural")))
    assert natural is not None
    assert (len(natural.added.of), len(natural.removed.of), natural.cannot_remove) == (140, 0, 70)


def test_a_bandage_that_would_hide_the_lesion_is_not_added(lesions: Path, skin: SkinImageSet) -> None:
    row = next(r for r in listed("skin") if (r["part"], r["split"], r["bandage"]) == ("core", "test", "none"))
    path = lesions / "lesion_masks" / f"{row['image']}_segmentation.png"
    whole = path.read_bytes()
    v, u = np.mgrid[:56, :56]
    try:
        edges = np.minimum(np.minimum(u, 55 - u), np.minimum(v, 55 - v)) < 8  # where turned bandages lie
        Image.fromarray(edges).save(path)
        known = counterfactual_pairs(replace(skin))
        assert known is not None
        assert (len(known.added.of), known.cannot_add) == (139, 1)
    finally:
        path.write_bytes(whole)


# --- The stage ---


class Patched(ArrayImageSet):
    """`small.shapes`, whose patch can be taken out."""

    def counterfactual_pairs(self) -> CounterfactualPairs:
        assert self.spurious is not None
        pixels = torch.where(self.spurious[:, None], torch.zeros(()), self.pixels)
        clean = ReadWhenAsked(
            lambda n: (255 * pixels[n]).round().byte(), self.ids, self.labels, self.class_names
        )
        everything = torch.arange(len(self))
        return CounterfactualPairs(
            added=Changed(everything, clean, self), removed=Changed(everything, None, clean)
        )


def test_the_stage_measures_it_all_once(tmp_path: Path) -> None:
    parts = small.splits(validation=False)
    train, test = parts.train, parts.tests["test"]
    assert isinstance(train, ArrayImageSet)
    assert isinstance(test, ArrayImageSet)
    # All training images are in the group of a third of the test images.
    groups = Groups(("first", "rest"), (torch.arange(300) >= 100).long())
    known = {field.name: getattr(test, field.name) for field in fields(test)} | {"groups": groups}
    main = Patched(**known)
    parts = replace(
        parts,
        train=replace(train, groups=Groups(groups.names, torch.zeros(300, dtype=torch.int64))),
        tests={"test": main, "without groups": replace(test, groups=None)},
    )
    config = parse_config(override({"run": str(tmp_path)}, small.settings(evaluate__num_images=8)))
    model = small.untrained().eval()
    project = Inputs(config, parts, model, trained=True, specifications={})
    candidate = Candidate(0.0, ValidationScore(), model)
    with RunDirectory.open(tmp_path / "run", config.model_dump(mode="json", by_alias=True)) as run:
        context = Context(project, run, QuietConsole())
        found = measure(context, "original", candidate)
        again = measure(context, "original", candidate)
    assert ModelMetrics.model_validate_json(found.model_dump_json()) == found == again
    outputs = logits(model, main)
    assert found.ece == dict.fromkeys(("test", "without groups"), calibration(outputs, main.labels).ece)
    first = float((outputs.argmax(1) == main.labels)[:100].double().mean())
    assert found.training_weighted == {"test": pytest.approx(first)}
    assert found.groups["test"].accuracy["first"] == pytest.approx(first)
    flips = found.sensitivity
    assert flips == SensitivityMetrics.model_validate(measured(model, main))
    assert flips is not None
    assert flips.removed is not None
    assert flips.added is not None
    assert flips.removed.flipped == flips.added.flipped > 0
