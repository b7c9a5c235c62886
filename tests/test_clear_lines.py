"""Verdict lines without a judge: never another verdict than the line's; in doubt a judge is asked."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from critique_helpers import Scripted, critic_judge, explained
from lvlm_va.critique.clear_lines import clear_lines
from lvlm_va.critique.driver import critique
from lvlm_va.critique.question import Question, Reply
from lvlm_va.critique.store import Store
from lvlm_va.critique.verdict_lines import format_line, parse_lines

ONE = "SEGMENT 1: VALID — the joint space"
TWO = "SEGMENT 2: SPURIOUS — a letter at the edge"


def text(step_5: str, *lines: str) -> str:
    return "\n".join(["Step 1. A knee.", f"Step 5. {step_5}", "Step 6.", *lines])


def test_a_complete_critique_needs_no_judge() -> None:
    said = text(
        "Segment 1 is relevant, and segment 2 must not be used; a decision must not rest on it.", ONE, TWO
    )
    assert clear_lines(said, (1, 2)) == {1: (False, "the joint space"), 2: (True, "a letter at the edge")}


@pytest.mark.parametrize(
    "said",
    [
        text("Segment 2 is a letter, on which a decision must not rest.", TWO),
        text("", ONE, ONE, TWO),
        text("", ONE, "**SEGMENT 1: VALID** - said twice", TWO),
        text("", ONE, "Segment 1 is spurious.", TWO),
        text("", "SEGMENT 1: VALID — it seems to be bone", TWO),
        text("", "SEGMENT 1: VALID — probably bone", TWO),
        text("", "SEGMENT 1: VALID — I cannot tell what it is", TWO),
        text("", "SEGMENT 1: VALID — half bone and half background", TWO),
        text("Segment 1 is not relevant.", ONE, TWO),
        text("Segment 1 is plain background, which the specification does not mention.", ONE, TWO),
        text("Segments 1 and 2 are such that a sound decision must not rest on them.", ONE, TWO),
        text("All is clear, but segment 1, of which I am not certain.", ONE, TWO),
        text("I doubt it of segments 1 to 1.", ONE, TWO),
    ],
)
def test_a_doubtful_line_is_left_to_the_judge(said: str) -> None:
    assert 1 not in clear_lines(said, (1, 2))
    assert clear_lines(said, (1, 2)).get(2, (True,))[0] is True


def test_half_of_a_thing_is_a_place_and_no_doubt() -> None:
    line = "SEGMENT 1: VALID — the upper half of the mole and the left half of its border"
    assert clear_lines(text("Segment 1 holds the upper half of the mole.", line), (1,)).keys() == {1}


def test_a_condemned_segment_that_step_5_calls_relevant() -> None:
    assert clear_lines(text("Segments 1 and 2 are relevant.", ONE, TWO), (1, 2)).keys() == {1}
    assert clear_lines(text("Segments 1-2 are relevant", ONE, TWO), (1, 2)).keys() == {1}


@given(st.text(), st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.text(min_size=1))))
def test_it_never_says_more_than_the_lines(before: str, lines: list[tuple[int, bool, str]]) -> None:
    said = "\n".join([before, *(format_line(j, spurious, why or "x") for j, spurious, why in lines)])
    strict = parse_lines(said, (1, 2, 3))
    for segment, verdict in clear_lines(said, (1, 2, 3)).items():
        assert strict[segment] == verdict
        assert [j for j, _, _ in lines].count(segment) == 1 or before


def judged(question: Question) -> str:
    """A judge that condemns all."""
    verdicts = [{"segment": j, "spurious": True, "reason": "the judge"} for j in question.segment_ids]
    return json.dumps({"verdicts": verdicts})


def test_the_judge_is_asked_where_there_is_doubt_and_decides_that_alone(tmp_path: Path) -> None:
    def critic(question: Question) -> str | Reply:
        if question.stage == "judge":
            return judged(question)
        doubtful = question.explained.image_id == "image-1"
        return text("", "SEGMENT 1: VALID — perhaps bone" if doubtful else ONE, ONE.replace("1", "2"))

    backend = Scripted(critic)
    panel = critic_judge(backend, lines_first=True)
    with Store.open(tmp_path / "store") as store:
        verdicts = critique([explained(n, segments=2) for n in range(3)], panel, store)
    assert [q.explained.image_id for q in backend.asked if q.stage == "judge"] == ["image-1"]
    assert [v.spurious for v in verdicts] == [False, False, True, False, False, False]
    assert {v.author for v in verdicts} == {"scripted judged by lines"}


def test_a_judge_that_cannot_be_read_leaves_the_doubtful_unscored(tmp_path: Path) -> None:
    backend = Scripted(lambda question: text("", ONE) if question.stage == "critic" else "no JSON")
    with Store.open(tmp_path / "store") as store:
        verdicts = critique([explained(segments=2)], critic_judge(backend, lines_first=True), store)
    assert [v.spurious for v in verdicts] == [False, None]
    assert "no readable JSON" in verdicts[1].reason
