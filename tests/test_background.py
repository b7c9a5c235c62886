"""Empty background (`critique.background`): what critic and judge are told; experiments stay as they were."""

import re
from pathlib import Path

import pytest

from critique_helpers import SEVEN, Scripted, critic_judge, explained, render
from experiments.trial import Trial
from experiments.workspace import Workspace
from lvlm_va.config.loading import CritiqueConfig, load_config
from lvlm_va.critique.clear_lines import clear_lines
from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.driver import critique
from lvlm_va.critique.judge import judge_question
from lvlm_va.critique.question import Background
from lvlm_va.critique.store import Store
from lvlm_va.project.critics import make_critic_judge
from lvlm_va.project.presets import preset

BOTH: tuple[Background, ...] = ("valid", "spurious")


def test_the_prompts_differ_in_step_5_only_and_only_one_allows_background() -> None:
    one, other = (
        critic_question(explained(), SEVEN, render(explained()), background=b).prompt.split("\nStep ")
        for b in BOTH
    )
    assert [a[:2] for a, b in zip(one, other, strict=True) if a != b] == ["5."]
    allowed = r"Empty background.*is allowed.*VALID, unless the specification\s+rules it out"
    assert re.search(allowed, one[5], re.DOTALL)
    assert not re.search(allowed, other[5], re.DOTALL)
    assert one[5].endswith("In doubt it is VALID.")


def test_where_all_but_the_core_is_condemned_so_is_background() -> None:
    one, other = (critic_question(explained(), SEVEN, (), intervene="core", background=b) for b in BOTH)
    assert one.key("b") == other.key("b")


def test_the_judge_knows_that_what_is_allowed_is_not_condemned() -> None:
    asked = critic_question(explained(), SEVEN, ())
    one, other = (judge_question(asked, "SEGMENT 1: VALID — x", (), background=b) for b in BOTH)
    assert one.system.replace("relevant or allowed", "relevant") == other.system != one.system


def test_what_was_answered_under_one_setting_is_no_answer_under_the_other() -> None:
    backend = Scripted(
        lambda q: "SEGMENT 1: VALID — x" if q.stage == "critic" else '{"verdicts": []}', kind="lvlm"
    )
    asked = []
    with Store.open(":memory:") as store:
        for background in ("valid", "valid", "spurious", "valid", "spurious"):
            backend.asked.clear()
            critique([explained()], critic_judge(backend, background=background), store)
            asked.append(len([q for q in backend.asked if q.stage == "critic"]))
    assert asked == [1, 0, 1, 0, 0]


def test_the_setting_reaches_the_critics() -> None:
    assert make_critic_judge(CritiqueConfig()).background == "valid"
    assert make_critic_judge(CritiqueConfig(background="spurious")).background == "spurious"


@pytest.mark.parametrize("name", ["decoy-mnist", "knee", "skin"])
def test_the_experiments_keep_the_prompt_of_their_answers(name: str) -> None:
    assert load_config(preset(name)).critique.background == "spurious"


def test_another_setting_is_another_trial_in_another_folder() -> None:
    pinned = Workspace(Path("runs"), "knee", "reduced", 0)
    allowing = pinned.with_settings(["critique.background=valid"])
    assert pinned.explained == allowing.explained
    assert pinned.judged("file:x").name == "file-x"
    assert allowing.judged("file:x").name == "file-x-background"
    trials = [Trial(workspace, "both", "builtin") for workspace in (pinned, allowing)]
    assert trials[0].inputs != trials[1].inputs


@pytest.mark.parametrize(
    ("step_5", "clear"),
    [
        ("Segment 1 is empty background, which is allowed.", True),
        ("Segment 1 is empty background, which the specification does not rule out.", True),
        ("Segment 1 is empty background, not ruled out.", True),
        ("Segment 1 is background, which the specification rules out.", False),
        ("Segment 1 is ruled out.", False),
    ],
)
def test_lines_about_allowed_background_are_clear(step_5: str, clear: bool) -> None:
    text = f"Step 5. {step_5}\nStep 6.\nSEGMENT 1: VALID — empty background"
    assert (1 in clear_lines(text, [1])) is clear
