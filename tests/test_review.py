"""The course of a review, answered by hand: critique, judgement, one repair, and what stays unscored."""

import json
from collections.abc import Sequence

import pytest

from critique_helpers import Scripted, critic_judge, explained, render
from lvlm_va.critique.question import Question, Reply
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.verdict import Verdict
from lvlm_va.errors import AnswerFailed, SpecificationError


def judged(**verdicts: bool) -> str:
    lines = [{"segment": int(k[1:]), "spurious": v, "reason": "why"} for k, v in verdicts.items()]
    return json.dumps({"verdicts": lines})


def conduct(
    answers: Sequence[str | Reply | AnswerFailed], asked: CriticJudge | None = None
) -> tuple[list[Question], tuple[Verdict, ...]]:
    """Answer a review's questions in turn; all answers must be wanted."""
    review = (asked or critic_judge(Scripted(lambda q: ""))).review(explained())
    asked, left = [], list(answers)
    try:
        asked.append(next(review))
        while True:
            given = left.pop(0)
            if isinstance(given, AnswerFailed):
                asked.append(review.throw(given))
            else:
                asked.append(review.send(given if isinstance(given, Reply) else Reply(given, "m")))
    except StopIteration as end:
        assert not left
        return asked, end.value


def scores(verdicts: tuple[Verdict, ...]) -> list[bool | None]:
    assert [v.segment for v in verdicts] == [1, 2, 3]
    assert all(v.reason for v in verdicts)
    return [v.spurious for v in verdicts]


ALL = judged(s1=True, s2=False, s3=True)


def test_a_proper_review_asks_twice() -> None:
    asked, verdicts = conduct(["the critique", ALL])
    assert [q.stage for q in asked] == ["critic", "judge"]
    assert "the critique" in asked[1].prompt
    assert scores(verdicts) == [True, False, True]
    assert {v.author for v in verdicts} == {"scripted"}


@pytest.mark.parametrize(
    ("answers", "expected", "reason"),
    [
        (["c", "nonsense", ALL], [True, False, True], ""),
        (["c", "nonsense", "nonsense"], [None, None, None], "no readable JSON"),
        (["c", judged(s1=True, s2=False), judged(s1=True, s2=False)], [True, False, None], "no verdict"),
        (["c", judged(s1=True, s2=False), "nonsense"], [True, False, None], "no verdict"),
        (["c", judged(s1=True), judged(s3=False)], [None, None, False], "no verdict"),
        (["c", judged(s1=True), AnswerFailed("gone")], [True, None, None], "no verdict"),
        (["c", "nonsense", AnswerFailed("gone")], [None, None, None], "no repaired judgement: gone"),
        (["c", judged(s1=True, s2=True, s9=True), ALL], [True, False, True], ""),
        (["c", judged(s1=True, s2=True, s9=True), "no"], [None, None, None], "no readable JSON"),
        (["c", AnswerFailed("gone")], [None, None, None], "no judgement: gone"),
        ([AnswerFailed("gone")], [None, None, None], "no critique: gone"),
        ([Reply("Sorry", "m", problem="the model refused")], [None, None, None], "the model refused"),
        (["c", Reply(ALL, "m", problem="cut off"), ALL], [True, False, True], ""),
        (
            ["c", Reply(ALL, "m", problem="cut off")] * 1 + [Reply(ALL, "m", problem="cut off")],
            [None] * 3,
            "cut",
        ),
    ],
)
def test_what_goes_wrong_leaves_segments_unscored_with_a_reason(
    answers: list[str | Reply | AnswerFailed], expected: list[bool | None], reason: str
) -> None:
    asked, verdicts = conduct(answers)
    assert len(asked) == len(answers) <= 3
    assert scores(verdicts) == expected
    assert all(reason in v.reason for v in verdicts if v.spurious is None)


def test_images_are_drawn_for_a_model_that_sees_and_for_no_other() -> None:
    seeing = critic_judge(Scripted(lambda q: "", kind="lvlm"))
    assert next(seeing.review(explained())).images == render(explained())
    measuring = critic_judge(Scripted(lambda q: ""))
    assert next(measuring.review(explained())).images == ()


def test_a_measuring_critic_is_asked_again_when_the_subject_changed() -> None:
    measuring = critic_judge(Scripted(lambda q: ""))
    other = explained()
    other.attribution[0, 0] = 2
    keys = [next(measuring.review(s)).key("b") for s in (explained(), explained(), other)]
    assert keys[0] == keys[1] != keys[2]


def test_two_backends_are_both_named() -> None:
    both = critic_judge(Scripted(lambda q: "", "eye"), Scripted(lambda q: "", "ear"))
    assert {v.author for v in conduct(["c", ALL], both)[1]} == {"eye judged by ear"}


def test_no_segment_no_question_and_no_specification_no_review() -> None:
    empty = explained(segments=1)
    empty.segments[:] = 0
    with pytest.raises(StopIteration) as end:
        next(critic_judge(Scripted(lambda q: "")).review(empty))
    assert end.value.value == ()
    with pytest.raises(SpecificationError, match="'eight' has no specification"):
        next(critic_judge(Scripted(lambda q: "")).review(explained(class_name="eight")))
