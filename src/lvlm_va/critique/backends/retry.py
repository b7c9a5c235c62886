"""When to ask again after a server was busy or broken."""

import random
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["backoff", "retry_after"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3}
_DURATION = r"\d{1,9}(?:\.\d{1,9})?\s?(?:ms|milliseconds?|d|days?|h|hours?|minutes?|min|m|seconds?|sec|s)\b"
_PART = re.compile(r"(\d+(?:\.\d+)?)\s?([a-z]+)")
_DURATIONS = rf"(?:{_DURATION}|\d{{1,6}}(?:\.\d{{1,9}})?[dhm](?=\d))+"
_SAID = re.compile(
    rf"\b(?:re)?try(?:ing)?(?: (?:again|your request|the request|this request))? (?:in|after) ({_DURATIONS})"
    rf'|"retryDelay"\s?:\s?"({_DURATIONS})"',
    re.IGNORECASE,
)
_LOADING_TIME = re.compile(r'"estimated_time"\s?:\s?(\d{1,9}(?:\.\d{1,9})?)')


def retry_after(headers: Mapping[str, str], body: str = "") -> float | None:
    """Seconds that a server asks to wait, or None.

    By retry-after-ms or Retry-After (seconds or a date); else by the x-ratelimit-reset headers of what is
    used up, and by what the body says, whichever is longer.

    Args:
        headers: of the response, looked up without regard to case.
        body: of the response.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return max(seconds, 0.0) if seconds == seconds else None
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
    except (ValueError, OverflowError):
        named = [*_resets(headers), *_said(body)]
        return max(named) if named else None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max((date - datetime.now(UTC)).total_seconds(), 0.0)


def backoff(attempt: int) -> float:
    """Seconds to wait after attempt `attempt` (0-based): doubling, capped, and spread by chance."""
    pause = min(_FIRST_PAUSE * 2.0**attempt, _LONGEST_PAUSE)
    return pause * random.uniform(0.5, 1.0)  # noqa: S311 -- spreading callers, not a secret


def _resets(headers: Mapping[str, str]) -> list[float]:
    """When what is used up comes back, as the x-ratelimit headers say."""
    found = []
    for what in ("", "-requests", "-tokens"):
        left = headers.get(f"x-ratelimit-remaining{what}", "0").strip()
        seconds = _seconds(headers.get(f"x-ratelimit-reset{what}", ""))
        if seconds is not None and left in ("0", ""):
            found.append(seconds)
    return found


def _said(body: str) -> list[float]:
    found = [_seconds(match[1] or match[2]) for match in _SAID.finditer(body)]
    found += [float(match[1]) for match in _LOADING_TIME.finditer(body)]
    return [seconds for seconds in found if seconds is not None]


def _seconds(text: str) -> float | None:
    """A duration such as "1m30s" or "250 ms", a number of seconds, or a moment as Unix time."""
    text = text.strip().lower()
    try:
        number = float(text)
    except ValueError:
        parts = [(n, "ms" if u.startswith(("ms", "milli")) else u[0]) for n, u in _PART.findall(text[:100])]
        if not parts or any(unit not in _UNITS for _, unit in parts):
            return None
        return sum(float(n) * _UNITS[unit] for n, unit in parts)
    if number != number:
        return None
    if number > 1e11:  # no duration: milliseconds since 1970
        number /= 1000
    return max(number - time.time() if number > 1e9 else number, 0.0)
