"""MODEL_CARD.md: what a model is, what was done to it, by whom, and what it must not be trusted with."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lvlm_va.critique.unanswered import say_too_little
from lvlm_va.errors import RunError
from lvlm_va.models.adapter import Adapted, unwrapped
from lvlm_va.models.factory import MODELS
from lvlm_va.models.formats import OPSET
from lvlm_va.report import tables
from lvlm_va.report.comparison import group_tables, label_tables
from lvlm_va.report.page import render_markdown, said_everywhere
from lvlm_va.report.record import (
    edited_since,
    read_critiques,
    read_images,
    read_judged,
)
from lvlm_va.report.reliance import summarise_reliance
from lvlm_va.report.story import critic_name, tell_data, tell_story
from lvlm_va.report.words import count, percent
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.files import ALIGNED
from lvlm_va.run.metrics import ModelMetrics, RunMetrics
from lvlm_va.vision.encoder import encode

__all__ = ["Handed", "model_card"]

_NAMED = 6  # grounds of each verdict


@dataclass(frozen=True, eq=False)
class Handed:
    """What is handed over.

    Attributes:
        which: "aligned" or "original".
        format: "safetensors", "state-dict" or "onnx".
        file: its name, beside the card.
        model: the model: its normalisation, the user's module, its logits picked out.
        bare: whether the user's module alone maps images in [0, 1] to logits.
        built_by: its name in the project file; None where a module was passed.
        difference: of ONNX from torch; None where there is none or it was not measured.
    """

    which: str
    format: str
    file: str
    model: Adapted
    bare: bool
    built_by: str | None
    difference: float | None


def model_card(run: RunDirectory, metrics: RunMetrics, handed: Handed) -> str:
    """The card: a YAML header as the Hugging Face Hub reads it, and Markdown for people.

    Args:
        run: where the model was made.
        metrics: what metrics.json says.
        handed: what the card goes with.

    Raises:
        RunError: if a file of the run is missing or damaged, or verdicts.csv was edited since the model was
            aligned: the card would tell of other verdicts than those that made it.
    """
    images, judged = read_images(run), read_judged(run)
    if edited_since(metrics, judged):
        raise RunError(
            f"{run.path}: verdicts.csv was edited after this model was aligned; align again, then export"
        )
    names = metrics.data.classes
    reliance = summarise_reliance(list(images.explained_images.values()), judged.in_force, names, encode)
    critic = critic_name(metrics.verdicts)
    channels, height, width = metrics.data.input
    return render_markdown(
        "MODEL_CARD.md",
        said_everywhere(run, metrics, images, judged, read_critiques(run, judged), reliance)
        | {
            "header": yaml.safe_dump(_header(run, metrics, handed), sort_keys=False, allow_unicode=True),
            "handed": handed,
            "metrics": metrics,
            "story": tell_story(metrics),
            "architecture": type(unwrapped(handed.model)).__name__,
            "normalisation": handed.model.normalisation,
            "parameters": sum(p.numel() for p in handed.model.parameters()),
            "shape": f"(n, {channels}, {height}, {width})",
            "colour": "grey" if channels == 1 else "RGB",
            "opset": OPSET,
            "snippet": _snippet(metrics, handed),
            "grounds": [
                (word, [g for g in reliance.ranked if g.spurious == spurious][:_NAMED])
                for word, spurious in (("Condemned", True), ("Accepted", False))
            ],
            "authors": Counter(o.author for o in metrics.verdicts.overruled).most_common(),
            "numbers": tables.headline_table(metrics, critic),
            "groups": [*group_tables(metrics, critic), *label_tables(metrics)],
            "limits": _limits(metrics, reliance.unscored_evidence),
            "settings": tables.settings_table(_settings(run.config, handed)),
        },
    )


def _header(run: RunDirectory, metrics: RunMetrics, handed: Handed) -> dict[str, Any]:
    data = metrics.data
    name = f"{run.settings.project}-{handed.which}"
    kind = re.sub(r"[^a-z0-9]+", "-", data.name.lower()).strip("-") or "data"
    results = [
        {
            "task": {"type": "image-classification"},
            "dataset": {"name": test, "type": kind},
            "metrics": [{"type": "accuracy", "value": round(accuracy, 4)}],
        }
        for test, accuracy in _model(metrics, handed.which).accuracy.items()
    ]
    header: dict[str, Any] = {
        "library_name": "onnx" if handed.format == "onnx" else "pytorch",
        "pipeline_tag": "image-classification",
        "tags": [
            "lvlm-va",
            "shortcut-learning",
            "right-for-the-right-reasons",
            *(["multi-label"] if data.several_labels else []),
        ],
        "metrics": ["accuracy"],
    }
    if results:
        header["model-index"] = [{"name": name, "results": results}]
    return header


def _settings(config: Mapping[str, Any], handed: Handed) -> dict[str, Any]:
    """The settings that concern the model: no folder of this machine, and no data that were not used."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if key == "run" or (key == "data" and handed.built_by is None):
            continue
        if isinstance(value, Mapping):
            found[key] = {name: _without_folder(inner) for name, inner in value.items()}
        else:
            found[key] = _without_folder(value)
    return found


def _without_folder(value: object) -> object:
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _model(metrics: RunMetrics, which: str) -> ModelMetrics:
    return metrics.models[ALIGNED if which == "aligned" else "original"]


def _snippet(metrics: RunMetrics, handed: Handed) -> str:
    """Python that loads the file and classifies a black image; its folder is the working directory."""
    shape, classes = tuple(metrics.data.input), metrics.data.classes
    answer = "print(classes[int(logits[0].argmax())])"
    if metrics.data.several_labels:  # p > ½
        answer = "print([name for name, logit in zip(classes, logits[0]) if logit > 0])"
    if handed.format == "onnx":
        return "\n".join(
            [
                "import numpy as np",
                "import onnxruntime",
                "",
                f"classes = {classes!r}",
                f'session = onnxruntime.InferenceSession("{handed.file}")',
                f"images = np.zeros({(1, *shape)}, dtype=np.float32)  # your images, in [0, 1]",
                '(logits,) = session.run(["logits"], {"images": images})',
                answer,
            ]
        )
    load = (
        ["from safetensors.torch import load_file", f'load_file("{handed.file}")']
        if handed.format == "safetensors"
        else ["", f'torch.load("{handed.file}", weights_only=True)']
    )
    imports, build = _build(shape, len(classes), handed)
    adapt = (
        ""
        if handed.bare
        else "from lvlm_va.models.adapter import Adapted\nfrom lvlm_va.models.head import Head"
    )
    each = "label" if metrics.data.several_labels else "class"
    call = f"model = Adapted(model, {handed.model.normalisation}, {len(classes)}, {handed.model.head!r})"
    return "\n".join(
        [
            *(line for line in ("import torch", load[0], imports, adapt) if line),
            "",
            f"classes = {classes!r}",
            *build,
            f"model.load_state_dict({load[1]})",
            *([] if handed.bare else [f"{call}  # normalises images, gives one logit per {each}"]),
            "model.eval()",
            f"images = torch.zeros{(1, *shape)}  # your images, in [0, 1]",
            "with torch.inference_mode():",
            "    logits = model(images)",
            answer,
        ]
    )


def _build(shape: tuple[int, ...], num_classes: int, handed: Handed) -> tuple[str, list[str]]:
    """An import, and the lines that make the module without weights."""
    if handed.built_by in MODELS:
        call = f'make_model("{handed.built_by}", {shape}, {num_classes})'
        return "from lvlm_va.models.factory import make_model", [f"model = {call}"]
    if handed.built_by is not None:
        module, _, function = handed.built_by.partition(":")
        return f"from {module} import {function}", [f"model = {function}()"]
    kind = type(unwrapped(handed.model))
    return "", [
        f"# `model`: the {kind.__module__}.{kind.__qualname__} that was aligned, built as it was then"
    ]


def _limits(metrics: RunMetrics, unscored: float) -> list[str]:
    """What this model must not be trusted with, as far as the run can tell."""
    data, verdicts, selection = metrics.data, metrics.verdicts, metrics.selection
    limits = [
        f"Only {count(selection.images, 'training image')} (sampling: {selection.strategy}) were "
        "critiqued. A shortcut that shows in none of them was not found."
    ]
    if verdicts.critic_kind == "person" and verdicts.propagation is not None:
        limits.append(f"A person was the critic. {verdicts.propagation}")
    if verdicts.critic_kind == "measurement":
        limits.append("The critic measures segments; it is not a vision-language model and no expert.")
    if "oracle" in (verdicts.critic_kind, verdicts.judge_kind):
        limits.append(
            "The verdicts were read from the ground truth (an oracle): an upper bound, not what a critic "
            "without it reaches."
        )
    quality = verdicts.quality
    if quality is None:
        limits.append(
            "Whether the verdicts are right was not measured: where spurious features are is unknown."
        )
    else:
        limits.append(
            f"By an oracle that knows the planted feature, {quality.flagged_right:,} of "
            f"{count(quality.flagged, 'condemned segment')} contain part of it (verdict accuracy "
            f"{percent(quality.accuracy)}, recall {percent(quality.recall)})."
        )
    if verdicts.unscored:
        limits.append(f"{count(verdicts.unscored, 'segment')} got no verdict and were not penalised.")
    if too_little := say_too_little(verdicts.critic, unscored):
        limits.append(too_little)
    limits += tell_data(metrics)
    if selection.set_aside:
        limits.append(f"{count(len(selection.set_aside), 'image')} could not be segmented.")
    before, after = (metrics.models[name].accuracy for name in ("original", ALIGNED))
    limits += [
        f"On {test} the aligned model is less accurate than the original: {percent(after[test])}, was "
        f"{percent(before[test])}."
        for test in data.tests
        if after[test] < before[test]
    ]
    limits.append(
        f"Accuracy was measured on {', '.join(data.tests)} only; images from elsewhere may be judged "
        "otherwise."
        if data.tests
        else "No test set was given: how accurate the model is on new images is unknown."
    )
    if len(metrics.lam.curves.get(ALIGNED, ())) > 1:
        limits.append("λ was chosen on the validation set, so the accuracy there is slightly too good.")
    return [
        *limits,
        "These are numbers of one run with one seed; they say nothing about the spread over seeds.",
        "Evidence that left the condemned segments may have gone to something else that is spurious: ask for "
        "a diagnosis of this model too.",
        "It has not been validated for any use in which it would decide about people.",
        "No licence is stated: it follows from those of your data and of the weights the model began with.",
    ]
