"""The page about critics is true: its commands parse, its prices are those of the estimate."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from documented import check_command
from lvlm_va.config.loading import CritiqueConfig

ROOT = Path(__file__).parents[1]

PAGE = (ROOT / "docs/critics.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"^lvlm-va .+$", PAGE, flags=re.MULTILINE)))
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


@pytest.fixture(scope="module")
def critic_costs() -> ModuleType:
    """The script beside the page."""
    spec = importlib.util.spec_from_file_location("critic_costs", ROOT / "docs/critic_costs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["critic_costs"] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line: str) -> None:
    check_command(line)


def test_the_keys_and_their_defaults_are_those_of_the_configuration() -> None:
    rows = re.findall(r"^\| `critique\.(\w+)` \| `?(\w+)`? \|", PAGE, re.MULTILINE)
    assert len(rows) == 4
    for key, default in rows:
        assert str(CritiqueConfig.model_fields[key].default) == default


@pytest.mark.slow
def test_the_tables_of_costs_are_those_of_the_estimate(critic_costs: ModuleType) -> None:
    """Within 3 %, for the prompts may change by a word and prices with their table."""
    for name, table in critic_costs.tables().items():
        (printed,) = re.findall(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", PAGE, re.DOTALL)
        assert _NUMBER.sub("#", printed) == _NUMBER.sub("#", table), "python docs/critic_costs.py"
        for one, other in zip(_NUMBER.findall(printed), _NUMBER.findall(table), strict=True):
            assert float(one.replace(",", "")) == pytest.approx(
                float(other.replace(",", "")), rel=0.03, abs=0.011
            ), "python docs/critic_costs.py"


def test_fewer_judgements_cost_less_and_a_batch_half(critic_costs: ModuleType) -> None:
    whole, lines = (critic_costs.cost("gpt-4o", judged=share) for share in (1, critic_costs.DOUBTFUL))
    assert (whole.questions, lines.questions) == (512, 256 + 27)
    assert whole.online is not None
    assert lines.online is not None
    assert whole.batch == pytest.approx(whole.online / 2)
    assert 0.5 * whole.online < lines.online < whole.online
    assert critic_costs.cost("nobody's model").online is None


def test_the_share_of_doubtful_critiques_is_that_of_the_answers(critic_costs: ModuleType) -> None:
    answers = (ROOT / "results/answers/README.md").read_text(encoding="utf-8")
    assert "86 of 96 judgements were saved" in answers
    assert pytest.approx((96 - 86) / 96) == critic_costs.DOUBTFUL


def test_the_page_was_found() -> None:
    assert len(COMMANDS) >= 9
