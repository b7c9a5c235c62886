"""Judgements that are nearly of the agreed form: what leaves no doubt is read, what leaves one is not."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvlm_va.critique.verdict_answer import read_judgement

LINES = [
    {"segment": 1, "spurious": True, "reason": "a tag"},
    {"segment": 2, "spurious": False, "reason": "bone"},
]
WORDS = {True: "SPURIOUS", False: "VALID"}


def lines(**changes: Any) -> str:
    return json.dumps({"verdicts": [{**line, **changes} for line in LINES]})


def each(make: Any) -> str:
    return json.dumps({"verdicts": [make(line["segment"], line["spurious"]) for line in LINES]})


CLEAR = {
    "the list alone": json.dumps(LINES),
    "an object a line": "\n".join(map(json.dumps, LINES)),
    "another name for the object": json.dumps({"results": LINES}),
    "an object around it": json.dumps({"answer": {"verdicts": LINES}}),
    "a list around it": json.dumps([{"verdicts": LINES}]),
    "a number as text": each(lambda j, s: {"segment": str(j), "spurious": s}),
    "a number with its word": each(lambda j, s: {"segment": f"Segment {j}", "spurious": s}),
    "a number with a point": each(lambda j, s: {"segment": float(j), "spurious": s}),
    "true as text": each(lambda j, s: {"segment": j, "spurious": str(s)}),
    "yes and no": each(lambda j, s: {"segment": j, "spurious": "yes" if s else "no"}),
    "the verdict's word": each(lambda j, s: {"segment": j, "spurious": WORDS[s]}),
    "a verdict": each(lambda j, s: {"segment_id": j, "verdict": WORDS[s]}),
    "capitals": each(lambda j, s: {"Segment": j, "Spurious": s, "Reason": "x"}),
    "more keys": lines(confidence=0.9, area="left"),
    "the same twice": each(lambda j, s: {"segment": j, "spurious": s, "label": WORDS[s]}),
    "by number": json.dumps({"1": {"spurious": True}, "2": {"spurious": False}}),
    "by number, in words": json.dumps({"verdicts": {"segment 1": "SPURIOUS", "segment 2": "VALID"}}),
    "Python": str({"verdicts": LINES}),
    "a trailing comma": lines()[:-2] + ",]}",
    "a fence": f"```json\n{lines()}\n```",
    "the critic's lines": "SEGMENT 1: SPURIOUS — a tag\nSEGMENT 2: VALID — bone",
    "the critic's lines, set": "- **Segment 1**: **SPURIOUS** (a tag)\n- **Segment 2**: **VALID**",
    "the lines in a fence": "```\nSEGMENT 1: SPURIOUS\nSEGMENT 2: VALID\n```",
    "thoughts before it": f"[THINK]Is 1 valid?[/THINK]{lines()}",
    "a draft in thoughts": f"◁think▷{json.dumps({'verdicts': []})}◁/think▷{lines()}",
}


@pytest.mark.parametrize("form", CLEAR)
def test_what_leaves_no_doubt_is_read(form: str) -> None:
    judgement = read_judgement(CLEAR[form], (1, 2))
    assert {j: spurious for j, (spurious, _) in judgement.verdicts.items()} == {1: True, 2: False}
    assert not judgement.problems


DOUBTFUL = {
    "of true it is not said what": json.dumps({"1": True, "2": False}),
    "a verdict that is true": each(lambda j, s: {"segment": j, "verdict": s}),
    "a score": each(lambda j, s: {"segment": j, "spurious": int(s)}),
    "perhaps": each(lambda j, s: {"segment": j, "spurious": "perhaps"}),
    "nothing": each(lambda j, s: {"segment": j, "spurious": None}),
    "a key that says the opposite": each(lambda j, s: {"segment": j, "spurious": s, "label": WORDS[not s]}),
    "two names of one thing": each(lambda j, s: {"segment": j, "spurious": s, "verdict": WORDS[s]}),
    "a key twice": '{"verdicts": [{"segment": 1, "spurious": true, "spurious": false}]}',
    "a key twice, in Python": "{'verdicts': [{'segment': 1, 'spurious': True, 'spurious': False}]}",
    "under another's number": json.dumps({"1": {"segment": 2, "spurious": True}, "2": {"spurious": False}}),
    "an example": json.dumps({"example": {"verdicts": LINES}}),
    "code": "{'verdicts': list(range(3))}",
    "words beside the lines": "For example:\nSEGMENT 1: SPURIOUS\nSEGMENT 2: VALID",
    "a line that doubts": "SEGMENT 1: SPURIOUS — or is it valid\nSEGMENT 2: VALID",
    "a line twice": "SEGMENT 1: SPURIOUS\nSEGMENT 1: VALID",
    "thoughts without end": f"<think>{lines()}",
}


@pytest.mark.parametrize("form", DOUBTFUL)
def test_what_leaves_a_doubt_is_not(form: str) -> None:
    judgement = read_judgement(DOUBTFUL[form], (1, 2))
    assert not judgement.verdicts
    assert judgement.problems.keys() == {1, 2}


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.integers(1, 20), st.booleans(), min_size=1, max_size=12), st.sampled_from(range(6)))
def test_every_form_says_the_same(verdicts: dict[int, bool], form: int) -> None:
    agreed = [{"segment": j, "spurious": spurious, "reason": "it's so"} for j, spurious in verdicts.items()]
    text = (
        json.dumps(agreed),
        str({"verdicts": agreed}),
        "\n".join(map(json.dumps, agreed)),
        json.dumps({str(j): WORDS[spurious] for j, spurious in verdicts.items()}),
        "\n".join(f"SEGMENT {j}: {WORDS[spurious]} — so" for j, spurious in verdicts.items()),
        json.dumps({"results": [{"segment": f"#{j}", "verdict": WORDS[s]} for j, s in verdicts.items()]}),
    )[form]
    judgement = read_judgement(text, verdicts.keys())
    assert {j: spurious for j, (spurious, _) in judgement.verdicts.items()} == verdicts
