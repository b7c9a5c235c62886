"""When to ask again after a server was busy or broken."""

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["backoff", "retry_after"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, by retry-after-ms or Retry-After (seconds or a date), or None.

    Args:
        headers: of the response, looked up without regard to case.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return max(seconds, 0.0) if seconds == seconds else None
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max((date - datetime.now(UTC)).total_seconds(), 0.0)


def backoff(attempt: int) -> float:
    """Seconds to wait after attempt `attempt` (0-based): doubling, capped, and spread by chance."""
    pause = min(_FIRST_PAUSE * 2.0**attempt, _LONGEST_PAUSE)
    return pause * random.uniform(0.5, 1.0)  # noqa: S311 -- spreading callers, not a secret
