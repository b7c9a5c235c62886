"""The committed answers of a vision-language model, read by today's code: their page's numbers still hold."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lvlm_va.critique.clear_lines import clear_lines
from lvlm_va.critique.verdict_answer import read_judgement
from lvlm_va.critique.verdict_lines import parse_lines
from lvlm_va.data.knee import load_knee

FOLDER = Path(__file__).parents[1] / "results/answers"
PAGE = (FOLDER / "README.md").read_text("utf-8")
FILES = {"spurious": "knee-claude.jsonl", "valid": "knee-claude-background.jsonl"}
"""What empty background was in the prompt → the answers to it."""
SKIN = "skin-claude-gain.jsonl"


def answers(background: str, stage: str) -> list[dict[str, Any]]:
    return stage_of(FILES[background], stage)


def stage_of(file: str, stage: str) -> list[dict[str, Any]]:
    rows = map(json.loads, (FOLDER / file).read_text("utf-8").splitlines())
    return [row for row in rows if row["stage"] == stage]


def text(row: dict[str, Any]) -> str:
    return str(row["response"]["body"]["choices"][0]["message"]["content"])


def verdicts(row: dict[str, Any], judged: dict[str, dict[str, Any]]) -> dict[int, bool | None]:
    """As `critique.judge: lines` has them."""
    clear = {j: spurious for j, (spurious, _) in clear_lines(text(row), row["segment_ids"]).items()}
    if len(clear) == len(row["segment_ids"]):
        return clear
    judgement = read_judgement(text(judged[row["image_id"]]), row["segment_ids"], text(row))
    return {j: spurious for j, (spurious, _) in judgement.verdicts.items()} | clear


@pytest.mark.parametrize("background", FILES)
def test_nearly_all_lines_are_clear_and_the_judge_changes_none(background: str) -> None:
    critiques = answers(background, "critic")
    judged = {row["image_id"]: row for row in answers(background, "judge")}
    lines = sum(len(row["segment_ids"]) for row in critiques)
    clear = [clear_lines(text(row), row["segment_ids"]) for row in critiques]
    assert f"{sum(map(len, clear))} of {lines} lines were clear" in PAGE
    asked = {row["image_id"] for row, found in zip(critiques, clear, strict=True) if len(found) < 7}
    assert asked <= judged.keys()
    assert f"{len(critiques) - len(asked)} of {len(critiques)} judgements were saved" in PAGE
    for row in critiques:
        said = parse_lines(text(row), row["segment_ids"])
        assert verdicts(row, judged) == {j: spurious for j, (spurious, _) in said.items()}


def test_of_skin_too_the_judge_changes_none() -> None:
    critiques, judged = stage_of(SKIN, "critic"), {r["image_id"]: r for r in stage_of(SKIN, "judge")}
    clear = [clear_lines(text(row), row["segment_ids"]) for row in critiques]
    assert f"{sum(map(len, clear))} of 448 lines are clear now" in PAGE
    asked = {row["image_id"] for row, found in zip(critiques, clear, strict=True) if len(found) < 7}
    assert asked < judged.keys()
    assert f"and {len(asked)} critiques would go to a judge" in PAGE
    condemned = 0
    for row in critiques:
        said = {j: spurious for j, (spurious, _) in parse_lines(text(row), row["segment_ids"]).items()}
        condemned += sum(bool(spurious) for spurious in said.values())
        assert verdicts(row, judged) == said
    assert f"It condemned {condemned} of 448 segments" in PAGE


@pytest.mark.parametrize("background", FILES)
def test_accuracy_and_recall_are_those_of_the_page(background: str) -> None:
    root = os.environ.get("LVLM_VA_DATA")
    if root is None or not (Path(root) / "knee").is_dir():
        pytest.skip("LVLM_VA_DATA with a folder knee is not set; see lvlm_va.data.knee")
    found = np.load(FOLDER / "knee-segments.npz")
    at = {image_id: n for n, image_id in enumerate(found["image_ids"])}
    knee = load_knee(Path(root) / "knee", size=112).train
    index = torch.tensor([list(knee.ids).index(image_id) for image_id in at])
    masks = knee.spurious_masks(index)
    assert masks is not None
    judged = {row["image_id"]: row for row in answers(background, "judge")}
    flagged = right = spurious = large = found_large = 0
    for row in answers(background, "critic"):
        n = at[row["image_id"]]
        planted, said = masks[n].numpy(), verdicts(row, judged)
        for j in row["segment_ids"]:
            held = (planted & (found["labels"][n] == j)).sum() / max(1, planted.sum())
            flagged += said[j] is True
            right += said[j] is True and held > 0
            spurious += held > 0
            large += held >= 0.05
            found_large += said[j] is True and held >= 0.05
    row_of_page = re.search(rf"\| Claude, `background: {background}` \|(.*)\|", PAGE)
    assert row_of_page is not None
    cells = [cell.strip() for cell in row_of_page[1].split("|")]
    assert cells[:4] == [
        f"{flagged} of 672",
        f"{right / flagged:.3f}",
        f"{right / spurious:.3f}",
        f"{found_large / large:.3f}",
    ]
