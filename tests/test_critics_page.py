"""The page about critics is true: its commands parse, its prices are those of the estimate."""

import re
from pathlib import Path

import numpy as np
import pytest

from documented import check_command
from lvlm_va.config.loading import CritiqueConfig
from lvlm_va.critique.backends.batch import BatchBackend
from lvlm_va.critique.estimate import estimate
from lvlm_va.critique.pricing import price_usd
from lvlm_va.critique.question import CaptionedImage, ExplainedImage
from lvlm_va.critique.rendering import render
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.critique.store import Store

PAGE = (Path(__file__).parents[1] / "docs/critics.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"^lvlm-va .+$", PAGE, flags=re.MULTILINE)))
PRICES = re.findall(r"^\| ([\w.-]+) \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
SPECIFICATION = ClassSpecification(
    "healthy",
    "A healthy knee: the joint space between femur and tibia is wide and even on both sides, the bone edges "
    "are smooth and round, without spurs, and the bone below the cartilage is evenly grey. Letters and "
    "markers at the edge of the film say nothing about the joint, and neither do soft tissue, clothes "
    "or the black ground around the leg.",
    ("joint space", "bone edges"),
    ("letter", "marker"),
)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_parse(line: str) -> None:
    check_command(line)


def test_the_keys_and_their_defaults_are_those_of_the_configuration() -> None:
    rows = re.findall(r"^\| `critique\.(\w+)` \| `?(\w+)`? \|", PAGE, re.MULTILINE)
    assert len(rows) == 4
    for key, default in rows:
        assert str(CritiqueConfig.model_fields[key].default) == default


@pytest.fixture(scope="module")
def knee() -> ExplainedImage:
    segments = (np.arange(16) % 7 + 1).reshape(4, 4).repeat(56, 0).repeat(56, 1).astype(np.int16)
    images = np.zeros((224, 224, 3), np.uint8), segments, np.ones((224, 224), np.float32)
    return ExplainedImage("knee", *images, (1 / 7,) * 7, "healthy", "healthy")


@pytest.fixture(scope="module")
def drawn(knee: ExplainedImage) -> tuple[CaptionedImage, ...]:
    return render(knee)


@pytest.mark.parametrize(("model", "asked", "answered", "online", "batch"), PRICES)
def test_prices_are_those_of_the_estimate(
    knee: ExplainedImage,
    drawn: tuple[CaptionedImage, ...],
    model: str,
    asked: str,
    answered: str,
    online: str,
    batch: str,
) -> None:
    """Within 3 %, for the prompts may change by a word and prices with their table."""
    backend = BatchBackend(model)
    with Store.open(":memory:") as store:
        asker = CriticJudge(backend, backend, {"healthy": SPECIFICATION}, lambda _: drawn)
        one = estimate([knee], asker, store)
    assert one.usd is not None
    said = [float(text.replace(",", "")) for text in (asked, answered)]
    assert [256 * one.input_tokens, 256 * one.output_tokens] == pytest.approx(said, rel=0.03)
    assert 256 * one.usd == pytest.approx(float(batch), rel=0.03, abs=0.006)
    whole = price_usd(model, 256 * one.input_tokens, 256 * one.output_tokens, prices={})
    assert whole == pytest.approx(float(online), rel=0.03, abs=0.006)


def test_the_table_was_found() -> None:
    assert len(PRICES) == 9
    assert len(COMMANDS) >= 9
