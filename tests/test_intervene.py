"""How much is condemned (`critique.intervene`): what the critic is told, and what the built-in one does."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from builtin_images import decoys
from critique_helpers import SEVEN, Scripted, critic_judge, explained, render
from lvlm_va.config.loading import CritiqueConfig, load_config, parse_config
from lvlm_va.critique.backends.builtin import BuiltinCritic
from lvlm_va.critique.backends.builtin.assessment import MARGIN
from lvlm_va.critique.backends.builtin.weighing import CERTAIN, Scales
from lvlm_va.critique.critic import critic_question
from lvlm_va.critique.driver import critique
from lvlm_va.critique.judge import judge_question
from lvlm_va.critique.question import ExplainedImage, Intervention
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.critique.store import Store
from lvlm_va.critique.verdict_lines import parse_lines
from lvlm_va.errors import ConfigError
from lvlm_va.project.critics import make_critic_judge
from lvlm_va.project.presets import preset
from lvlm_va.vision.measures import measure
from lvlm_va.vision.regions import see

BOTH: tuple[Intervention, ...] = ("spurious", "core")
BUILTIN = BuiltinCritic()
STROKES = ("the strokes of the handwritten digit",)
SPECIFICATIONS = {
    "patch ruled out": ClassSpecification(
        "figure", "A pen figure.", STROKES, ("a flat grey patch in a corner",)
    ),
    "something else ruled out": ClassSpecification("figure", "A pen figure.", STROKES, ("hair on the skin",)),
    "patch asked for": ClassSpecification(
        "figure", "A patch.", ("a flat grey patch",), ("hair on the skin",)
    ),
    "nothing meant": ClassSpecification("figure", "Nothing.", ("xyzzy plugh",), ("frotz ozmoo",)),
}


def prompts() -> tuple[str, str]:
    """The two prompts, delimiters included: the same texts, so the same fingerprints."""
    one, other = (
        critic_question(explained(), SEVEN, render(explained()), intervene=intervene) for intervene in BOTH
    )
    assert one.system == other.system
    return one.prompt, other.prompt


def test_the_prompts_differ_in_step_5_only() -> None:
    one, other = (prompt.split("\nStep ") for prompt in prompts())
    differing = [a[:2] for a, b in zip(one, other, strict=True) if a != b]
    assert differing == ["5."]
    for steps, doubt in ((one, "VALID"), (other, "SPURIOUS")):
        assert steps[5].endswith(f"In doubt it is {doubt}.")
        assert "$" not in steps[5]


def test_the_judge_is_not_told() -> None:
    judged = [
        judge_question(critic_question(explained(), SEVEN, (), intervene=i), "SEGMENT 1: VALID — x", ())
        for i in BOTH
    ]
    assert judged[0].prompt == judged[1].prompt
    assert judged[0].key("b") == judged[1].key("b")


def test_another_setting_asks_the_critic_anew_and_the_same_does_not() -> None:
    backend = Scripted(
        lambda q: "SEGMENT 1: VALID — x" if q.stage == "critic" else '{"verdicts": []}', kind="lvlm"
    )
    asked = []
    with Store.open(":memory:") as store:
        for intervene in ("spurious", "spurious", "core", "spurious", "core"):
            backend.asked.clear()
            critique([explained()], critic_judge(backend, intervene=intervene), store)
            asked.append([q.intervene for q in backend.asked if q.stage == "critic"])
    assert asked == [["spurious"], [], ["core"], [], []]


async def verdicts(
    image: ExplainedImage, specification: ClassSpecification, intervene: Intervention
) -> dict[int, bool]:
    question = critic_question(image, specification, (), intervene=intervene)
    lines = parse_lines((await BUILTIN.answer(question)).text, image.segment_ids)
    return {segment: spurious for segment, (spurious, _) in lines.items()}


@pytest.mark.parametrize("name", SPECIFICATIONS)
async def test_core_never_condemns_fewer_and_never_accepts_more(name: str) -> None:
    halves = (np.where(np.arange(28)[:, None] < 14, 1, 2) * np.ones((28, 28))).astype(np.int16)
    for decoy in decoys(20, seed=2):
        for image in (decoy.explained(), decoy.explained(segments=halves)):
            little, much = [await verdicts(image, SPECIFICATIONS[name], intervene) for intervene in BOTH]
            assert {j for j, s in little.items() if s} <= {j for j, s in much.items() if s}
            assert {j for j, s in much.items() if not s} <= {j for j, s in little.items() if not s}


async def test_core_condemns_what_nobody_named_and_keeps_what_is_asked_for() -> None:
    specification = SPECIFICATIONS["something else ruled out"]
    for decoy in decoys(20):
        image = decoy.explained()
        little, much = [await verdicts(image, specification, intervene) for intervene in BOTH]
        assert True not in little.values(), "nothing of what is ruled out is there"
        assert much == {1: False, 2: True, 3: True}, "figure, patch, background"


async def test_what_is_recognised_and_asked_for_is_not_condemned() -> None:
    for decoy in decoys(20):
        much = await verdicts(decoy.explained(), SPECIFICATIONS["patch asked for"], "core")
        assert much[2] is False


def test_what_is_not_recognised_is_weighed_as_before() -> None:
    """A thing of no role, whose shape, evenness and colour say nothing, and no words for it."""
    decoy = decoys(1)[0]
    scene = see(decoy.image, ())
    specification = SPECIFICATIONS["nothing meant"]
    little, much = (Scales(specification, intervene) for intervene in BOTH)
    measured = [measure(scene, region) for region in scene.regions]
    assert {m.role for m in measured} >= {"ground", "object", "block"}
    for m in measured:
        assert much.weigh(m).recognised, "these are recognised, and not asked for"
        plain = {"uniform": 0.0, "rectangular": 0.0, "compact": 1.0, "saturation": 0.0}
        unknown = dataclasses.replace(m, role="thing", photographic=False, **plain)
        assert much.weigh(unknown) == little.weigh(unknown)
        assert abs(much.weigh(unknown).score) < MARGIN, "so there is no verdict"


async def test_certainty_is_asked_of_what_is_kept_only() -> None:
    for decoy in decoys(8):
        image = decoy.explained()
        scene = see(image.image, ())
        for specification in SPECIFICATIONS.values():
            core = Scales(specification, "core")
            matches = [core.weigh(measure(scene, region)) for region in scene.regions]
            kept = [j for j, s in (await verdicts(image, specification, "core")).items() if not s]
            assert not kept or max(match.relevant for match in matches) >= CERTAIN


async def test_the_critique_says_as_what_it_was_recognised() -> None:
    image = decoys(1)[0].explained()
    question = critic_question(image, SPECIFICATIONS["something else ruled out"], (), intervene="core")
    text = (await BUILTIN.answer(question)).text
    assert 'is recognised as "a flat block", which the specification does not ask for' in text
    assert 'is recognised as "background" and not asked for' in parse_lines(text, (3,))[3][1]


def test_the_setting_is_read_written_and_laid_over(tmp_path: Path) -> None:
    assert CritiqueConfig().intervene == "spurious"
    document = {"critique": {"intervene": "core"}}
    config = parse_config(document)
    assert parse_config(config.model_dump(mode="json", by_alias=True)) == config
    path = tmp_path / "p.yaml"
    path.write_text("project: p\n", encoding="utf-8")
    assert load_config(path, ["critique.intervene=core"]).critique.intervene == "core"
    with pytest.raises(ConfigError, match=r"critique\.intervene: .*'spurious' or 'core'"):
        load_config(path, ["critique.intervene=all"])


@pytest.mark.parametrize("name", ["decoy-mnist", "knee", "skin"])
def test_presets_condemn_only_what_is_clear(name: str) -> None:
    assert load_config(preset(name)).critique.intervene == "spurious"


def test_an_oracle_knows_no_core() -> None:
    with pytest.raises(ConfigError, match="no core"):
        make_critic_judge(CritiqueConfig(critic="ground-truth", intervene="core"))
    assert make_critic_judge(CritiqueConfig(intervene="core")).intervene == "core"
