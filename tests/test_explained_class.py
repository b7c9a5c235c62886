"""The class that Φ is of: the label for μ_align (Sec. 5.1), for critiqued images what the setting says."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import lvlm_va
import small
from critique_helpers import explained
from lvlm_va.config.loading import parse_config
from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.errors import ConfigError
from lvlm_va.evaluate.alignment import mu_align
from lvlm_va.explain.attribution import attribute
from lvlm_va.project.stages.explained import to_uint8_rgb
from lvlm_va.report.record import read_images
from lvlm_va.run import artefacts
from lvlm_va.run.directory import RunDirectory


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """One that is often wrong, so that label and answer are different classes."""
    model = copy.deepcopy(small.trained())
    with torch.no_grad():
        last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
        last.bias += torch.tensor([0.0, 0.0, 4.0])
    return model


def diagnosed(model: nn.Module, run: Path, target: str) -> tuple[dict[str, torch.Tensor], Path]:
    lvlm_va.diagnose(
        model,
        small.splits(),
        small.SPECIFICATIONS,
        critic="ground-truth",
        run=run,
        settings=small.settings(explain__target=target),
        quiet=True,
    )
    attribution, targets, predicted = artefacts.read_attribution(run / "segments/attribution.safetensors")
    return {"values": attribution.values, "targets": targets, "predicted": predicted}, run


def test_the_critiqued_images_are_explained_for_the_class_that_is_asked_for(
    model: nn.Module, tmp_path: Path
) -> None:
    answer, _ = diagnosed(model, tmp_path / "predicted", "predicted")
    label, run = diagnosed(model, tmp_path / "label", "label")
    indices, _ = artefacts.read_selection(run / "selection.csv")
    train = small.splits().train
    wrong = answer["predicted"] != train.labels[indices]
    assert 0 < int(wrong.sum()) < len(wrong), "the model is sometimes wrong"
    assert torch.equal(answer["targets"], answer["predicted"])
    assert torch.equal(label["targets"], train.labels[indices])
    assert torch.equal(label["predicted"], answer["predicted"])
    same = (label["values"] == answer["values"]).flatten(1).all(1)
    assert torch.equal(same, ~wrong), "another class, another explanation"
    images = read_images(RunDirectory.read(run)).explained_images
    for target, name in (("predicted", "predicted"), ("label", "true")):
        page = (tmp_path / target / "diagnosis.html").read_text(encoding="utf-8")
        assert f"deeplift-shap of the {name} class" in page
    for n, image in enumerate(images.values()):
        assert image.explains == image.class_name
        assert image.predicted == train.class_names[int(label["predicted"][n])]
        assert (to_uint8_rgb(train.images(indices[n : n + 1])[0]).numpy() == image.image).all()


def test_mu_align_is_of_the_labels_class(model: nn.Module, tmp_path: Path) -> None:
    splits = small.splits()
    result = lvlm_va.align(
        model,
        splits,
        small.SPECIFICATIONS,
        critic="ground-truth",
        run=tmp_path / "run",
        settings=small.settings(explain__num_images=6, align__epochs=1, evaluate__num_images=300),
        quiet=True,
    )
    test = splits.tests["test"]
    everything = torch.arange(len(test))
    images, spurious = test.images(everything), test.spurious_masks(everything)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(splits.train), generator=generator)[: small.SETTINGS["explain.baselines"]]
    baselines = splits.train.images(chosen)

    def of(classes: torch.Tensor) -> float:
        return mu_align(attribute(model, images, classes, baselines).values, spurious).mean

    with torch.no_grad():
        answers = model(images).argmax(1)
    assert of(test.labels) != pytest.approx(of(answers), abs=1e-3)
    assert result.metrics.models["original"].mu_align.mean == pytest.approx(of(test.labels), abs=1e-6)


def test_another_class_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"explain\.target"):
        parse_config({"explain": {"target": "true"}})


def test_the_critic_is_told_which_class_is_explained() -> None:
    specification = ClassSpecification("bar", "A bar of light strokes.")

    def prompt(**fields: str) -> str:
        return critic_question(explained(class_name="bar", **fields), specification, ()).prompt

    assert "evidence for the classifier's answer lies" in prompt(predicted="post")
    assert "evidence for the true class, which it did not answer lies" in prompt(
        predicted="post", target="bar"
    )
    assert "evidence for the classifier's answer lies" in prompt(predicted="bar", target="bar")
