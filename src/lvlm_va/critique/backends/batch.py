"""A model that is asked by file instead of by wire."""

from collections.abc import Mapping
from typing import Any, Literal

from lvlm_va.critique.pricing import BATCH_DISCOUNT, Price, price_usd, read_prices
from lvlm_va.critique.question import Question, Reply
from lvlm_va.errors import CriticError

__all__ = ["BatchBackend", "batch_usd"]


class BatchBackend:
    """Stands for a model that is asked by file. Needs no key; its questions are those of openai:<model>.

    Args:
        model: the model that will answer.
        prices: the user's own, taken as they are; others are halved as OpenAI does for batches.
    """

    kind: Literal["lvlm"] = "lvlm"

    def __init__(self, model: str, *, prices: Mapping[str, Any] | None = None) -> None:
        self.name = f"openai:{model}"
        self.model = model
        self._prices = read_prices(prices or {})

    def usd(self, input_tokens: int, output_tokens: int) -> float | None:
        """The price of one call in a batch, or None where no price is known."""
        return batch_usd(self.model, input_tokens, output_tokens, 0, self._prices)

    async def answer(self, question: Question) -> Reply:  # noqa: ARG002 -- no question can be answered
        """Always refuses: answers come by `import_responses`."""
        raise CriticError(
            f"{self.name} has open questions and is asked by file: take them with lvlm-va critique --export, "
            "bring the answers with --import; or set OPENAI_API_KEY to ask online"
        )

    async def close(self) -> None:
        """Nothing to release."""


def batch_usd(
    model: str, asked: int, answered: int, cached: int, prices: Mapping[str, Price]
) -> float | None:
    """The price of one call in a batch: the user's own as it is, else half of what is known."""
    usd = price_usd(model, asked, answered, cached_tokens=cached, prices=prices)
    return usd if usd is None or model in prices else usd * BATCH_DISCOUNT
