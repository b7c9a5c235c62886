"""When to ask again after a server was busy or broken."""

import random
import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["backoff", "retry_after"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3}
_DURATION = (
    r"\d{1,9}(?:\.\d{1,9})?\s?(?:ms|milliseconds?|d|days?|h|hours?|minutes?|mins?|m|seconds?|secs?|s)\b"
)
_PART = re.compile(r"(\d+(?:\.\d+)?)\s?([a-z]+)")
_DURATIONS = rf"(?:{_DURATION}|\d{{1,6}}(?:\.\d{{1,9}})?[dhm](?=\d))+"
_SAID = re.compile(
    r"\b(?:(?:re)?try(?:ing)?(?: (?:again|your request|the request|this request))?(?: (?:in|after))"
    rf"|wait(?: for)?|(?:available|resets?|ready)(?: again)? in) (?:about |another |at least )?({_DURATIONS})"
    rf'|"retryDelay"\s?:\s?"({_DURATIONS})"',
    re.IGNORECASE,
)
_FIELD = re.compile(
    r'"(?:retry[_-]?after(?:[_-]?(?P<unit>ms|seconds|secs))?|estimated_time|(?:x-)?ratelimit-reset(?:-\w+)?'
    r'|retryDelay)"\s?:\s?(?:\{\s?"seconds"\s?:\s?)?"?(?P<value>[^",{}\[\]]{1,40})',
    re.IGNORECASE,
)
_RESETS = ("x-ratelimit", "ratelimit", "anthropic-ratelimit")


def retry_after(headers: Mapping[str, str], body: str = "") -> float | None:
    """Seconds that a server asks to wait, or None.

    By retry-after-ms or Retry-After (seconds or a date); else by the rate limit headers of what is used up,
    and by what the body says, whichever is longer. Dates count from the response's own Date, if it has one.

    Args:
        headers: of the response, looked up without regard to case.
        body: of the response.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("x-ms-retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return max(seconds, 0.0) if seconds == seconds else None
    now = _date(headers.get("date", "")) or datetime.now(UTC)
    date = _date(headers.get("retry-after", ""))
    if date is not None:
        return max((date - now).total_seconds(), 0.0)
    named = [*_resets(headers, now), *_said(body, now)]
    return max(named) if named else None


def backoff(attempt: int) -> float:
    """Seconds to wait after attempt `attempt` (0-based): doubling, capped, and spread by chance."""
    pause = min(_FIRST_PAUSE * 2.0**attempt, _LONGEST_PAUSE)
    return pause * random.uniform(0.5, 1.0)  # noqa: S311 -- spreading callers, not a secret


def _resets(headers: Mapping[str, str], now: datetime) -> Iterator[float]:
    """When what is used up comes back, as the rate limit headers say."""
    for prefix in _RESETS:
        for what in ("", "-requests", "-tokens", "-input-tokens", "-output-tokens"):
            # "x-ratelimit-reset-requests", but "anthropic-ratelimit-requests-reset"
            for reset, remaining in (
                (f"{prefix}-reset{what}", f"{prefix}-remaining{what}"),
                (f"{prefix}{what}-reset", f"{prefix}{what}-remaining"),
            ):
                seconds = _seconds(headers.get(reset, ""), now)
                if seconds is not None and headers.get(remaining, "0").strip() in ("0", ""):
                    yield seconds
                if not what:
                    break
    structured = headers.get("ratelimit", "")  # the draft standard's, "default";r=0;t=30 or reset=30
    if re.search(r"\b(?:r|remaining)=0\b", structured) and (
        found := re.search(r"\b(?:t|reset)=(\d{1,9})\b", structured)
    ):
        yield float(found[1])


def _said(body: str, now: datetime) -> Iterator[float]:
    for match in _SAID.finditer(body):
        if (seconds := _seconds(match[1] or match[2], now)) is not None:
            yield seconds
    for match in _FIELD.finditer(body):
        if (seconds := _seconds(match["value"], now)) is not None:
            yield seconds / 1000 if match["unit"] == "ms" else seconds


def _seconds(text: str, now: datetime) -> float | None:
    """A duration such as "1m30s" or "250 ms", a number of seconds, or a moment: Unix time or a date."""
    text = text.strip().lower()
    try:
        number = float(text)
    except ValueError:
        date = _date(text.upper())
        if date is not None:
            return max((date - now).total_seconds(), 0.0)
        parts = [(n, "ms" if u.startswith(("ms", "milli")) else u[0]) for n, u in _PART.findall(text[:100])]
        if not parts or any(unit not in _UNITS for _, unit in parts):
            return None
        return sum(float(n) * _UNITS[unit] for n, unit in parts)
    if number != number:
        return None
    if number > 1e11:  # no duration: milliseconds since 1970
        number /= 1000
    return max(number - time.time() if number > 1e9 else number, 0.0)


def _date(text: str) -> datetime | None:
    """A moment, as HTTP writes it or as ISO 8601 does."""
    if not re.search(r"\d\d:\d\d", text):
        return None
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            date = read(text.strip())
        except (ValueError, OverflowError):
            continue
        return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return None
