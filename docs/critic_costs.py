"""The tables of "What it costs" in docs/critics.md, from the estimate that `lvlm-va align --dry-run` makes.

Between <!-- NAME --> and <!-- /NAME --> stands the table `NAME` of `tables()`. Run again when the prompts,
the counting of tokens or the prices change: python docs/critic_costs.py
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from lvlm_va.critique.backends.batch import BatchBackend
from lvlm_va.critique.estimate import Estimate, estimate
from lvlm_va.critique.pricing import OPENAI_URL, price_usd
from lvlm_va.critique.question import ExplainedImage
from lvlm_va.critique.rendering import render
from lvlm_va.critique.review import CriticJudge
from lvlm_va.critique.specification import ClassSpecification
from lvlm_va.critique.store import Store

PAGE = Path(__file__).with_name("critics.md")

IMAGES = 256
DOUBTFUL = 10 / 96
"""Of what share of critiques a line was in doubt, so that a judge was asked: results/answers/README.md."""
BUILTIN_SECONDS = 0.89
"""CPU time of the built-in critic for 224 × 224 pixels and seven segments: mean of 16 knees, AMD EPYC."""
MINUTES_A_FOLDER = (1, 2)
"""What a person takes to pass on a question, or to answer it: an assumption."""

MODELS = (
    *("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano"),
    *("gpt-5", "gpt-5-mini", "gpt-5-nano", "o4-mini"),
)
_GOOGLE = "https://generativelanguage.googleapis.com/v1beta/openai/"
_ANTHROPIC = "https://api.anthropic.com/v1/"
ELSEWHERE = {
    "gemini-2.5-flash": ("gemini-2.5-flash", _GOOGLE),
    "gemini-2.5-pro": ("gemini-2.5-pro", _GOOGLE),
    "claude-haiku-4-5": ("claude-haiku-4-5", _ANTHROPIC),
    "claude-sonnet-4-5": ("claude-sonnet-4-5", _ANTHROPIC),
    "qwen/qwen2.5-vl-72b-instruct at OpenRouter": (
        "qwen/qwen2.5-vl-72b-instruct",
        "https://openrouter.ai/api/v1",
    ),
}
"""Name in the table → model, endpoint."""
SHOWN = ("gpt-4o", "gpt-5-mini")
"""Models whose prices stand in the table of ways."""

SPECIFICATION = ClassSpecification(
    "healthy",
    "A healthy knee: the joint space between femur and tibia is wide and even on both sides, the bone edges "
    "are smooth and round, without spurs, and the bone below the cartilage is evenly grey. Letters and "
    "markers at the edge of the film say nothing about the joint, and neither do soft tissue, clothes "
    "or the black ground around the leg.",
    ("joint space", "bone edges"),
    ("letter", "marker"),
)

_MARKED = re.compile(r"<!-- ([\w-]+) -->\n.*?<!-- /\1 -->", flags=re.DOTALL)


@dataclass(frozen=True)
class Cost:
    """What the critique of `IMAGES` images takes with one model, everything asked anew.

    Attributes:
        questions: to critic and judge.
        asked, answered: tokens.
        online, batch: US dollars, None where no price is known.
    """

    questions: int
    asked: int
    answered: int
    online: float | None
    batch: float | None


def cost(model: str, *, judged: float = 1.0, url: str = OPENAI_URL) -> Cost:
    """The cost with a model as critic and judge.

    Args:
        model: as its provider names it.
        judged: of what share of the critiques a judge is asked: 1 is the paper, `DOUBTFUL` `judge: lines`.
        url: of the endpoint.
    """
    both, critique = (_one_image(model, lines_first=lines_first) for lines_first in (False, True))
    counts = IMAGES, round(judged * IMAGES)
    asked = critique.input_tokens, both.input_tokens - critique.input_tokens
    answered = critique.output_tokens, both.output_tokens - critique.output_tokens
    # Call by call: a long prompt may cost more a token.
    prices = [price_usd(model, *tokens, prices={}, url=url) for tokens in zip(asked, answered, strict=True)]
    online = None
    if None not in prices:
        online = sum(n * (usd or 0.0) for n, usd in zip(counts, prices, strict=True))
    in_a_batch = None
    if url == OPENAI_URL and both.usd is not None and critique.usd is not None:
        in_a_batch = counts[0] * critique.usd + counts[1] * (both.usd - critique.usd)
    return Cost(
        sum(counts),
        sum(n * tokens for n, tokens in zip(counts, asked, strict=True)),
        sum(n * tokens for n, tokens in zip(counts, answered, strict=True)),
        online,
        in_a_batch,
    )


def _one_image(model: str, *, lines_first: bool) -> Estimate:
    segments = (np.arange(16) % 7 + 1).reshape(4, 4).repeat(56, 0).repeat(56, 1).astype(np.int16)
    knee = ExplainedImage(
        "knee",
        np.zeros((224, 224, 3), np.uint8),
        segments,
        np.ones((224, 224), np.float32),
        (1 / 7,) * 7,
        "healthy",
        "healthy",
    )
    backend = BatchBackend(model)
    panel = CriticJudge(backend, backend, {"healthy": SPECIFICATION}, render, lines_first=lines_first)
    with Store.open(":memory:") as store:
        return estimate([knee], panel, store)


def tables() -> Mapping[str, str]:
    """Marker → its table."""
    return {"cost-of-ways": _ways(), "cost-of-models": _models()}


def _ways() -> str:
    whole = {model: cost(model) for model in SHOWN}
    lines = {model: cost(model, judged=DOUBTFUL) for model in SHOWN}
    first, fewer = whole[SHOWN[0]], lines[SHOWN[0]]
    low, high = (round(fewer.questions * minutes / 60) for minutes in MINUTES_A_FOLDER)
    alone = [round(IMAGES * minutes / 60) for minutes in MINUTES_A_FOLDER]
    tokens = f"{first.answered:,}", f"{fewer.answered:,}"
    rows = [
        (
            "an endpoint, the paper's judge",
            first.questions,
            *(_usd(one.online) for one in whole.values()),
            "minutes, by its rate limit",
        ),
        (
            "an endpoint, `judge: lines`",
            fewer.questions,
            *(_usd(one.online) for one in lines.values()),
            "about half of that",
        ),
        (
            "a batch, the paper's judge",
            first.questions,
            *(_usd(one.batch) for one in whole.values()),
            "up to a day a round, two rounds",
        ),
        (
            "a batch, `judge: lines`",
            fewer.questions,
            *(_usd(one.batch) for one in lines.values()),
            "the same, the second one small",
        ),
        (
            "a model on this machine (`hf:`)",
            f"{first.questions} or {fewer.questions}",
            *["0"] * len(SHOWN),
            f"{tokens[0]} or {tokens[1]} tokens ÷ tokens a second",
        ),
        (
            "a chat window by folder, `judge: lines`",
            fewer.questions,
            *["its subscription"] * len(SHOWN),
            f"{low} to {high} hours of yours",
        ),
        (
            "a person by folder, `judge: builtin`",
            IMAGES,
            *["0"] * len(SHOWN),
            f"{alone[0]} to {alone[1]} hours of theirs",
        ),
        (
            "`builtin`",
            "0",
            *["0"] * len(SHOWN),
            f"{IMAGES * BUILTIN_SECONDS / 60:.0f} minutes of one core's time, measured",
        ),
    ]
    return _table(("way", "questions", *(f"USD, {model}" for model in SHOWN), "time"), rows)


def _models() -> str:
    rows = []
    for name, model, url in [(model, model, OPENAI_URL) for model in MODELS] + [
        (f"{name} *", model, url) for name, (model, url) in ELSEWHERE.items()
    ]:
        one = cost(model, url=url)
        batch = _usd(one.batch) if url == OPENAI_URL else ""
        rows.append((name, f"{one.asked:,}", f"{one.answered:,}", _usd(one.online), batch))
    return _table(("model", "tokens in", "tokens out", "USD online", "USD as a batch"), rows)


def _usd(dollars: float | None) -> str:
    return "unknown" if dollars is None else f"{dollars:.2f}"


def _table(head: Iterable[str], rows: Iterable[Sequence[object]]) -> str:
    cells = [list(map(str, head))]
    cells += [["---"] * len(cells[0]), *(list(map(str, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def written(text: str) -> str:
    """The page with its tables as the code has them."""
    found = tables()
    return _MARKED.sub(lambda m: f"<!-- {m[1]} -->\n{found[m[1]]}\n<!-- /{m[1]} -->", text)


if __name__ == "__main__":
    print(f"genai-prices {version('genai-prices')}: name this version and today's date in the page")
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
