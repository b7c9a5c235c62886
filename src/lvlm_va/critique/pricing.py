"""What tokens cost, in US dollars: the user's own prices first, then the offline table of genai-prices.

An unknown price is None, never 0: it is shown as unknown, and no limit in dollars can be held with it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from genai_prices import Usage, calc_price

from lvlm_va.errors import ConfigError
from lvlm_va.io.hints import did_you_mean

__all__ = ["BATCH_DISCOUNT", "OPENAI_URL", "Price", "price_usd", "read_prices"]

OPENAI_URL = "https://api.openai.com/v1"
"""The endpoint of OpenAI itself."""

BATCH_DISCOUNT = 0.5
"""What OpenAI's batch interface charges of the usual price."""


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens."""

    input: float
    output: float


def read_prices(prices: Mapping[str, Any]) -> dict[str, Price]:
    """Prices as a project file gives them: {model: {input: 0.15, output: 0.6}}, USD per million tokens.

    Raises:
        ConfigError: if a model's entry lacks a price, has another key, or a price is not a number ≥ 0.
    """
    found = {}
    for model, entry in prices.items():
        if not isinstance(entry, Mapping):
            raise ConfigError(f"prices of {model}: give `input` and `output` in USD per million tokens")
        for key in entry:
            if key not in ("input", "output"):
                hint = did_you_mean(key, ["input", "output"])
                raise ConfigError(f"prices of {model}: unknown key {key!r}; {hint}")
        for key in ("input", "output"):
            value = entry.get(key)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ConfigError(
                    f"prices of {model}: `{key}` must be USD per million tokens, a number ≥ 0, not {value!r}"
                )
        found[model] = Price(float(entry["input"]), float(entry["output"]))
    return found


@lru_cache(maxsize=64)
def _is_priced(model: str, url: str) -> bool:
    """Whether the table knows a price; looking for one that is not there takes as long for every answer."""
    try:
        calc_price(Usage(input_tokens=1, output_tokens=1), model, provider_api_url=url)
    except LookupError:
        return False
    return True


def price_usd(
    model: str,
    input_tokens: int,
    output_tokens: int,
    *,
    cached_tokens: int = 0,
    prices: Mapping[str, Price],
    url: str = OPENAI_URL,
) -> float | None:
    """The price of one call in US dollars, or None where neither the user nor the table knows one.

    Args:
        model: as the user names it.
        input_tokens: as counted by the server.
        output_tokens: likewise.
        cached_tokens: how many of the input tokens came from the provider's cache (often cheaper).
        prices: the user's own; they take precedence and know no discount for cached tokens.
        url: the endpoint. The same model name costs nothing known on an endpoint that the table does
            not know, such as a local server.
    """
    if model in prices:
        own = prices[model]
        return (input_tokens * own.input + output_tokens * own.output) / 1e6
    if not _is_priced(model, url):
        return None
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens, cache_read_tokens=cached_tokens)
    try:
        return float(calc_price(usage, model, provider_api_url=url).total_price)
    except LookupError:
        return None
