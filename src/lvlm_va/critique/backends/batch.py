"""A model that is asked by file instead of by wire."""

from collections.abc import Mapping
from typing import Any

from lvlm_va.critique.backends.file import FileBackend
from lvlm_va.critique.pricing import BATCH_DISCOUNT, Price, price_usd, read_prices

__all__ = ["BatchBackend", "batch_usd"]


class BatchBackend(FileBackend):
    """Stands for a model that is asked by file. Its questions are those of openai:<model>.

    Args:
        model: the model that will answer.
        prices: the user's own, taken as they are; others are halved as OpenAI does for batches.
        system_role: whether there is a system prompt; its words else open the user's text.
    """

    otherwise = "; or set OPENAI_API_KEY to ask online"

    def __init__(
        self, model: str, *, prices: Mapping[str, Any] | None = None, system_role: bool = True
    ) -> None:
        super().__init__()
        self.name = f"openai:{model}"
        self.model = model
        self.system_role = system_role
        self._prices = read_prices(prices or {})

    def usd(self, input_tokens: int, output_tokens: int) -> float | None:
        """The price of one call in a batch, or None where no price is known."""
        return batch_usd(self.model, input_tokens, output_tokens, 0, self._prices)


def batch_usd(
    model: str, asked: int, answered: int, cached: int, prices: Mapping[str, Price]
) -> float | None:
    """The price of one call in a batch: the user's own as it is, else half of what is known."""
    usd = price_usd(model, asked, answered, cached_tokens=cached, prices=prices)
    return usd if usd is None or model in prices else usd * BATCH_DISCOUNT
