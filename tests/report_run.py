"""A small finished run, written in code: 4 images, J = 2, and texts that try to break out of the page.

Image a: its strongest segment is condemned. b: one segment is unscored. c: a person overruled one
verdict. d: no positive attribution, set aside.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from critique_helpers import render
from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.judge import judge_question
from lvlm_va.critique.question import ExplainedImage, Question, Reply
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.critique.store import Store
from lvlm_va.critique.verdict import Verdict
from lvlm_va.explain.attribution import Attribution
from lvlm_va.explain.segmentation import Segmentation, ppeps_wgm
from lvlm_va.run import artefacts
from lvlm_va.run.directory import RunDirectory
from lvlm_va.run.metrics import RunMetrics
from lvlm_va.run.verdict_table import verdicts_file

CLASSES = ["nine & <b>ten</b>", "seven"]
IDS = ["a", "b/../<i>", "c", "d"]
SCRIPT = "<script>document.title = 'broken'</script>"
HANDLER = '"><img src=x onerror="alert(1)">'
ANSI = "\x1b[2J"
SPECIFICATION = ClassSpecification(CLASSES[0], f"Strokes, not patches. {SCRIPT}", ("strokes",), ("patch",))
CRITIC, JUDGE = "openai:gpt-4o", "builtin"


def encode(texts: Sequence[str]) -> NDArray[np.float32]:
    """A stand-in for the sentence encoder: two texts are alike as far as they share words."""
    words = sorted({word for text in texts for word in text.split()})
    counts = np.array([[text.split().count(word) for word in words] for text in texts], np.float32) + 1e-6
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def explained_images() -> tuple[torch.Tensor, torch.Tensor, Segmentation]:
    """(4, 8, 8, 3) images, (4, 8, 8) Φ with two blobs each (none for d), and their segments."""
    images = torch.zeros(4, 8, 8, 3, dtype=torch.uint8)
    images[:, 0:2, 0:2] = 128
    images[:, 3:7, 4:6] = 255
    attribution = torch.full((4, 8, 8), -0.01)
    attribution[:3, 0:2, 0:2] = 2.0
    attribution[:3, 4:7, 4:6] = 0.5
    return images, attribution, ppeps_wgm(attribution, 2)


def verdicts() -> tuple[list[Verdict], list[Verdict]]:
    """What the critic said, and the table with c's second segment overruled."""
    author = f"{CRITIC} judged by {JUDGE}"
    said = [
        Verdict(IDS[0], 1, True, f"it covers all of the grey patch {HANDLER}", author),
        Verdict(IDS[0], 2, False, "it covers 40% of the strokes", author),
        Verdict(IDS[1], 1, None, f"the judge's answer holds no readable JSON object {SCRIPT}", author),
        Verdict(IDS[1], 2, False, "it covers 60% of the strokes", author),
        Verdict(IDS[2], 1, True, f"it covers all of the grey patch {HANDLER}", author),
        Verdict(IDS[2], 2, True, "it covers the strokes by mistake", author),
    ]
    person = Verdict(IDS[2], 2, False, f"that is the digit {SCRIPT}", "Dr. <u>Who</u>")
    return said, [*said[:-1], person]


def critique_text(name: str) -> str:
    """Six steps with an attempt to break out in the third."""
    steps = [f"**Step {i}.** What I see in {name}." for i in range(1, 7)]
    steps[2] += f" {SCRIPT} {HANDLER} {ANSI}"
    return "\n\n".join(["Preamble.", *steps])


def record(content: Mapping[str, Any]) -> RunMetrics:
    """What `read_metrics` makes of these contents of metrics.json."""
    return RunMetrics.model_validate_json(json.dumps(content))


def metrics() -> dict[str, Any]:
    """What a run with these images would have measured; every number occurs once."""

    def model(lam: float, *numbers: float) -> dict[str, Any]:
        validation, decoy, clean, mean, std = numbers
        return {
            "lambda": lam,
            "validation": {"accuracy": validation},
            "accuracy": {"decoy $test$": decoy, f"clean test {SCRIPT}": clean},
            "ece": {"decoy $test$": std / 7, f"clean test {SCRIPT}": std / 9},
            "mu_align": {"mean": mean, "std": std, "n": 100, "undefined": 0},
        }

    original = model(0.0, 0.5712, 0.5634, 0.2156, 0.7678, 0.1301)
    fits = [
        model(0.01, 0.9123, 0.9245, 0.8867, 0.9512, 0.0512),
        model(0.1, 0.8313, 0.8435, 0.7757, 0.9402, 0.06),
    ]
    oracle = [model(0.01, 0.9698, 0.9721, 0.9543, 0.9832, 0.0222), model(0.1, 0.88, 0.87, 0.86, 0.9732, 0.03)]
    return {
        "model": {"name": "mlp", "initial_weights": "random", "trained_here": True, "normalise": None},
        "data": {
            "name": "Decoy",
            "source": "made up",
            "planted": "a grey patch",
            "classes": CLASSES,
            "input": [3, 8, 8],
            "train": 1234,
            "validation": 55,
            "tests": {"decoy $test$": 666, f"clean test {SCRIPT}": 777},
        },
        "selection": {
            "strategy": "random",
            "images": 4,
            "per_class": [4, 0],
            "spurious_share": 0.75,
            "set_aside": {IDS[3]: "no pixel has positive attribution"},
        },
        "attribution": {"method": "deeplift-shap", "completeness_error": {"largest": 3.2e-7, "median": 1e-8}},
        "verdicts": {
            "critic": CRITIC,
            "critic_kind": "lvlm",
            "judge": JUDGE,
            "judge_kind": "measurement",
            "segments": 6,
            "spurious": 2,
            "valid": 3,
            "unscored": 1,
            "images": 3,
            "images_with_condemned_segment": 2,
            "quality": {
                "flagged": 2,
                "flagged_right": 2,
                "spurious": 3,
                "scored": 5,
                "unscored": 1,
                "accuracy": 1.0,
                "recall": 2 / 3,
            },
            "overruled": [
                {
                    "image_id": IDS[2],
                    "segment": 2,
                    "critic": True,
                    "person": False,
                    "author": "Dr. <u>Who</u>",
                    "reason": f"that is the digit {SCRIPT}",
                }
            ],
        },
        "models": {"original": original, "aligned": fits[0], "ground-truth masks (oracle)": oracle[0]},
        "lambda": {
            "chosen": 0.01,
            "how": "best plain accuracy on the validation set",
            "curves": {"aligned": fits, "ground-truth masks (oracle)": oracle},
        },
        "costs": {
            "questions": [
                {
                    "stage": "critic",
                    "backend": CRITIC,
                    "model": "gpt-4o-2024",
                    "calls": 3,
                    "failures": 1,
                    "input_tokens": 4321,
                    "output_tokens": 987,
                    "usd": 0.0421,
                    "unpriced": 1,
                    "seconds": 12.5,
                }
            ],
            "stages": [{"stage": "critique", "seconds": 81.0, "peak_gib": None}],
        },
    }


GROUPS = {"seven, grey": 7, f"nine, white {SCRIPT}": 601, "nine, grey": 58, "seven, white": 0}
"""Of the main test set: names and, very unequal, numbers of images."""


def with_groups() -> dict[str, Any]:
    """The same, where true groups, verdict scores, files set aside and leaks are known."""
    content = metrics()
    test = "decoy $test$"
    by_model = {
        "original": (0.1429, 0.8037, 0.2586),
        "aligned": (0.5714, 0.7937, 0.4655),
        "ground-truth masks (oracle)": (0.8571, 0.9118, 0.7069),
    }
    for name, accuracies in by_model.items():
        content["models"][name]["groups"] = {
            test: {
                "accuracy": dict(zip(GROUPS, accuracies, strict=False)),
                "images": dict(GROUPS),
                "average": sum(accuracies) / 3,
                "worst": min(accuracies),
            }
        }
    fits = content["lambda"]["curves"]["aligned"]
    scores = ((0.61, 0.72, 0.31, 0.42), (0.83, 0.84, 0.65, 0.76), (0.52, 0.93, 0.44, 0.45))
    for model, (nine, seven, nine_pasted, seven_pasted) in zip(
        (content["models"]["original"], *fits), scores, strict=True
    ):
        both = (nine, seven, nine_pasted, seven_pasted)
        model["validation"] |= {
            "verdicts": {
                "as_is": dict(zip(CLASSES, (nine, seven), strict=True)),
                "pasted": dict(zip(CLASSES, (nine_pasted, seven_pasted), strict=True)),
                "worst": min(both),
                "overall": sum(both) / 4,
                "score": (min(both) + sum(both) / 4) / 2,
            },
            "groups": {"accuracy": {}, "images": {}, "average": 0.6161, "worst": 0.1717},
        }
    content["models"]["aligned"] |= {
        "validation": fits[0]["validation"],
        "epochs": [[1.0, 0.6], [1.0, 0.7], [0.0, 0.9]],
    }
    content["lambda"] |= {"how": "worst and mean accuracy of the classes", "original_stays": False}
    content["data"] |= {
        "set_aside": {f"x{SCRIPT}.png": "is not an image", "y.png": "is not an image"},
        "leaks": [{"parts": ["train", test], "count": 3, "examples": [["a", "test-0"], ["c", "test-7"]]}],
    }
    content["verdicts"]["quality_either"] = content["verdicts"]["quality"] | {
        "accuracy": 0.9191,
        "recall": 0.8282,
    }
    return content


def make_run(path: Path) -> RunDirectory:
    """Write the run, and give it as it was written."""
    config = {
        "project": "tiny",
        "explain": {"target": "predicted"},
        "align": {"lambda": [0.01, 0.1], "mask": "segment", "counterfactual": 0.0},
        "of a later version": "x",
    }
    with RunDirectory.open(path, config) as run:
        images, attribution, segmentation = explained_images()
        spurious = torch.zeros(4, 8, 8, dtype=torch.bool)
        spurious[:, 0:2, 0:2] = True
        tensors = {"images": images, "labels": torch.zeros(4, dtype=torch.int64), "spurious": spurious}
        run.write(
            "segments/images.safetensors", artefacts.tensors_file(tensors, ids=IDS, class_names=CLASSES)
        )
        masks = torch.zeros(3, 8, 8, dtype=torch.bool)
        masks[0, 0:2, 0:2] = masks[2, 0:2, 0:2] = True
        run.write("segments/masks.safetensors", artefacts.tensors_file({"masks": masks}, ids=IDS[:3]))
        explained = Attribution(attribution, torch.zeros(4), "deeplift-shap")
        run.write(
            "segments/attribution.safetensors",
            artefacts.attribution_file(explained, *torch.zeros(2, 4, dtype=torch.int64)),
        )
        run.write("segments/segments.safetensors", artefacts.segmentation_file(segmentation))
        run.write("explanations.safetensors", _explanations(images, attribution, spurious))
        said, table = verdicts()
        run.write("critic_verdicts.csv", verdicts_file(said))
        run.write("verdicts.csv", verdicts_file(table))
        run.write("metrics.json", json.dumps(metrics()).encode())
        _record_critiques(run, images, segmentation, attribution, said)
    return run


def _explanations(images: torch.Tensor, attribution: torch.Tensor, spurious: torch.Tensor) -> bytes:
    """Images a and b; the first was wrong and is right, a quarter of its |Φ| moves off the patch."""
    after = attribution.clone()
    after[:, 0:2, 0:2] = 0.0
    tensors = {
        "images": images[:2],
        "labels": torch.tensor([1, 0]),
        "before_attribution": attribution[:2],
        "after_attribution": after[:2],
        "before_predicted": torch.tensor([0, 0]),
        "after_predicted": torch.tensor([1, 0]),
        "spurious": spurious[:2],
    }
    return artefacts.tensors_file(tensors, ids=["test-0", "test-1"], class_names=CLASSES)


def explained(
    n: int, images: torch.Tensor, segmentation: Segmentation, attribution: torch.Tensor
) -> ExplainedImage:
    return ExplainedImage(
        image_id=IDS[n],
        image=images[n].numpy(),
        segments=segmentation.labels[n].numpy(),
        attribution=attribution[n].numpy(),
        shares=tuple(segmentation.pi[n].tolist()),
        class_name=CLASSES[0],
        predicted=CLASSES[0],
    )


def _record_critiques(
    run: RunDirectory,
    images: torch.Tensor,
    segmentation: Segmentation,
    attribution: torch.Tensor,
    said: Sequence[Verdict],
) -> None:
    with Store.open(run.file("critiques.sqlite")) as store:
        for n in range(3):
            it = explained(n, images, segmentation, attribution)
            question, text = critic_question(it, SPECIFICATION, render(it)), critique_text(IDS[n])
            store.record(question, CRITIC, Reply(text, "gpt-4o-2024", 1000, 300, 0.01, 2.0))
            store.record(judge_question(question, text, ()), JUDGE, judge_reply(said, IDS[n]))


def judge_reply(said: Sequence[Verdict], image_id: str) -> Reply:
    """The judge's answer that leads to these verdicts."""
    lines = [
        {"segment": v.segment, "spurious": v.spurious, "reason": v.reason}
        for v in said
        if v.image_id == image_id and v.spurious is not None
    ]
    return Reply(json.dumps({"verdicts": lines}), "builtin")


def older_question(question: Question) -> Question:
    """The same question with another specification, as an earlier run may have asked it."""
    older = ClassSpecification(CLASSES[0], "Something else.")
    return critic_question(question.explained, older, question.images)
