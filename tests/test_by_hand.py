"""A person answers a batch file about radiographs: from the exported questions to verdicts.csv.

tests/by_hand holds what a person wrote after looking at the exported images, one file a round, in the
format of a batch's output. Its custom ids say image and stage; the test puts the exported ones in their
place.
"""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lvlm_va.critique.backends.batch import BatchBackend
from lvlm_va.critique.batch_export import export_requests
from lvlm_va.critique.batch_import import import_responses
from lvlm_va.critique.driver import critique
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.rendering import render
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.specification import load_specifications
from lvlm_va.critique.store import Store
from lvlm_va.data.markers import draw_marker
from lvlm_va.errors import CriticError
from lvlm_va.run.verdict_table import read_verdicts, verdicts_file
from medical_folder import radiograph

ANSWERS = Path(__file__).with_name("by_hand")
SPECIFICATIONS = load_specifications(
    {
        "classes": {
            "knee": {
                "description": "A bright column of bone, crossed by the dark gap of the joint.",
                "relevant": ["the bone", "the joint space"],
                "spurious": ["a lead marker, the letter L or R"],
            }
        }
    },
    ["knee"],
)
MARKERS = {
    "first": ("L", "bl"),
    "second": ("R", "tr"),
    "third": None,
    "fourth": ("R", "br"),
    "fifth": ("L", "tl"),
}
"""Image → letter and corner of its marker."""


def knee(number: int, name: str) -> ExplainedImage:
    """A radiograph of 112 × 112: segment 1 is the bone, 2 the joint, 3 a corner, with the marker if any."""
    random = np.random.default_rng(number)
    pixels = radiograph(random)
    letter, corner = MARKERS[name] or ("", "bl")
    if letter:
        pixels, mask = draw_marker(pixels, letter, corner, random)
    else:
        mask = np.zeros(pixels.shape, bool)
        mask[190:215, 10:30] = True
    image = np.asarray(Image.fromarray(pixels).reduce(2))
    mask = mask[::2, ::2]
    v, u = np.mgrid[:112, :112]
    segments = np.ones((112, 112), np.int16)
    segments[45:70] = 2
    segments[(v > 76 if corner[0] == "b" else v < 36) & (u < 30 if corner[1] == "l" else u > 82)] = 3
    attribution = np.where(abs(u - 56) < 24, 1.0, 0.0) + 4 * mask
    return ExplainedImage(
        image_id=name,
        image=image[:, :, None].repeat(3, 2),
        segments=segments,
        attribution=attribution.astype(np.float32),
        shares=(0.6, 0.3, 0.1),
        class_name="knee",
        predicted="knee",
    )


KNEES = [knee(number, name) for number, name in enumerate(MARKERS)]
BY_HAND = BatchBackend("a-person")
PANEL = CriticJudge(BY_HAND, BY_HAND, SPECIFICATIONS, render)


def answers(number: int, exported: Path, store: Store) -> Path:
    """The answers of a round under the custom ids of the exported questions."""
    keys = {}
    for line in exported.read_text("utf-8").splitlines():
        exchange = store.exchange(json.loads(line)["custom_id"])
        assert exchange is not None
        keys[f"{exchange.image_id} {exchange.stage}"] = exchange.key
    given = [json.loads(line) for line in (ANSWERS / f"round-{number}.jsonl").read_text("utf-8").splitlines()]
    assert sorted(keys) == sorted(response["custom_id"] for response in given), "one answer to each question"
    path = exported.with_name(f"answers-{number}.jsonl")
    lines = [json.dumps(response | {"custom_id": keys[response["custom_id"]]}) for response in given]
    path.write_text("\n".join(lines), "utf-8")
    return path


def test_a_person_answers_from_the_file_alone(tmp_path: Path) -> None:
    with Store.open(tmp_path / "critiques.sqlite") as store:
        useless = []
        for number in (1, 2, 3):
            exported = export_requests(KNEES, PANEL, store, tmp_path / f"questions-{number}.jsonl")
            with pytest.raises(CriticError, match="--export"):
                critique(KNEES, PANEL, store)
            taken = import_responses([answers(number, exported.files[0], store)], store)
            assert taken.imported == exported.requests
            assert (taken.failed, taken.unknown, taken.damaged) == ((), (), ())
            useless += [reason for _, reason in taken.useless]
        assert export_requests(KNEES, PANEL, store, tmp_path / "more.jsonl").requests == 0
        assert useless == ["the model refused to answer"]
        table = tmp_path / "verdicts.csv"
        table.write_bytes(verdicts_file(critique(KNEES, PANEL, store)))
        critiques = [e.reply for e in store.exchanges("fourth")]

    read = read_verdicts(table)
    said = {name: [v.spurious for v in read if v.image_id == name] for name in MARKERS}
    assert said == {
        "first": [False, False, True],
        "second": [False, False, True],  # written as Markdown, judged in a fenced block
        "third": [False, False, True],  # the critic, then the judge named a ninth segment; repaired
        "fourth": [None] * 3,  # refused
        "fifth": [False, False, None],  # a torn judgement; the repair left one segment out
    }
    reasons = {(v.image_id, v.segment): v.reason for v in read}
    assert reasons["first", 3] == "It covers a lead marker."
    assert {reasons["fourth", j] for j in (1, 2, 3)} == {"no usable critique: the model refused to answer"}
    assert reasons["fifth", 3] == "there is no verdict on segment 3"
    assert {v.author for v in read} == {"openai:a-person"}
    assert [reply.text for reply in critiques if reply] == [
        "I'm sorry, but I cannot assess medical pictures."
    ]


def test_the_exported_request_holds_all_that_an_answer_needs(tmp_path: Path) -> None:
    with Store.open(":memory:") as store:
        (path,) = export_requests(KNEES[:1], PANEL, store, tmp_path / "questions.jsonl").files
    system, user = json.loads(path.read_text("utf-8"))["body"]["messages"]
    prompt, *rest = user["content"]
    assert "expert" in system["content"]
    for word in ("A bright column of bone", "a lead marker", "segment 3: 10%", "SEGMENT <number>: SPURIOUS"):
        assert word in prompt["text"]
    captions, images = rest[::2], rest[1::2]
    for number, (listed, caption) in enumerate(
        zip(("the original", "the segment map", "the overlay"), captions, strict=True), start=1
    ):
        assert f"{number}. {listed}" in prompt["text"]
        assert caption["text"].startswith(f"Image {number}: {listed}")
    original, segment_map, overlay = map(decoded, images)
    reduced = Image.fromarray(original).resize((112, 112), Image.Resampling.BOX)
    assert np.abs(np.asarray(reduced).astype(int) - KNEES[0].image).mean() < 4, "the same image, enlarged"
    assert original.shape == (448, 448, 3)
    assert segment_map.shape == overlay.shape == (469, 448, 3)


def decoded(part: dict[str, Any]) -> np.ndarray:
    data = part["image_url"]["url"].removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))
