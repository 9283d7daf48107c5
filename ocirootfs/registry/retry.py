"""When to try again, and after how long: pure rules, the clock is the caller's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

_FIRST_DELAY = 0.5  # seconds
_LONGEST_DELAY = 30.0
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)

# 408 Request Timeout, 425 Too Early, 429 Too Many Requests; 520-524 are Cloudflare's words for "the origin is down".
RETRIED_STATUSES = frozenset([408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524])


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`retries` attempts after the first; servers may ask for at most `max_wait` seconds of patience in all."""

    retries: int = 5
    max_wait: float = 60.0

    def delay(self, attempt: int, jitter: float) -> float:
        """Return the seconds before attempt number `attempt` (1 is the first repetition).

        Exponential with full jitter, which spreads a herd of clients best; `jitter` is a random number in [0, 1).
        """
        ceiling: float = min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(attempt, 10))
        return jitter * ceiling

    def accepts(self, seconds: float) -> bool:
        """Whether a wait that a server asks for is worth it, or the caller shall hear of it at once."""
        return seconds <= self.max_wait


def retry_after(value: str | None, now: float) -> float | None:
    """Read a Retry-After header (RFC 9110 section 10.2.3): seconds from `now` (Unix time), None if it says nothing.

    A date without a zone, or with -0000, is UTC as every date of HTTP is, not of this machine's zone.
    """
    value = (value or "").strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
        return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
