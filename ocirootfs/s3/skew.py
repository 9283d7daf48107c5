"""Signing by the store's clock where this machine's is wrong: nobody can set a clock inside a CI container.

S3 refuses a request whose time is more than 15 minutes off (Amazon S3 API Reference, RequestTimeTooSkewed), and says in
its `Date` header what time it is. botocore leaves it at that (boto3 issue 1252), other SDKs sign again. So do we, by at
most a day: a clock that is further off fails at TLS anyway, and whoever could make us sign for next year could keep
what we signed.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.auth import AUTH_TYPE_MAPS, SIGV4_TIMESTAMP, S3SigV4Auth

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger("ocirootfs.s3")

# What S3 lets a clock be off; less is no reason for a refusal.
ALLOWED = timedelta(minutes=15)
_MOST = timedelta(days=1)
_SIGNER = "ocirootfs-s3v4"
_OFFSET = "ocirootfs-offset"
_JUDGED = "ocirootfs-judged"


class _Corrected(S3SigV4Auth):
    """Signature version 4 with the time that the request's context asks for."""

    def _modify_request_before_signing(self, request: Any) -> None:
        moment = datetime.now(UTC) + request.context[_OFFSET]
        request.context["timestamp"] = moment.strftime(SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)  # type: ignore[misc]  # unknown to the stubs


AUTH_TYPE_MAPS.setdefault(_SIGNER, _Corrected)


def offset(headers: Mapping[str, str]) -> timedelta | None:
    """Return how far the store's clock, by the `date` of its answer, is ahead of ours; None where it does not say."""
    try:
        theirs = parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        return None
    return (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC)) - datetime.now(UTC)


def told(ahead: timedelta) -> str:
    """Say in words how far this machine's clock is off a clock that is `ahead` of it."""
    minutes = round(abs(ahead) / timedelta(minutes=1))
    size = (
        f"{minutes} minutes"
        if minutes < 180
        else f"{minutes // 60} hours"
        if minutes < 4320
        else f"{minutes // 1440} days"
    )
    return f"this machine's clock is {size} {'behind' if ahead > timedelta() else 'ahead of'} the store's"


class Clock:
    """The store's clock as far as its refusals told; one for each client, shared by its threads."""

    def __init__(self) -> None:
        self._offset: timedelta | None = None

    def attach(self, events: Any) -> None:
        """Follow a client's requests; an unsigned one is left as it is."""
        events.register_first("needs-retry.s3", self.judge)
        events.register_first("choose-signer.s3", self.choose)

    def choose(self, signature_version: object, context: dict[str, Any], **_: object) -> str | None:
        """Return the signer that corrects, once the clock is known to be wrong."""
        if self._offset is None or signature_version not in ("v4", "s3v4") or context.get("unsigned_payload"):
            return None
        context[_OFFSET] = self._offset
        return _SIGNER

    def judge(
        self, request_dict: Mapping[str, Any], response: tuple[Any, Any] | None = None, **_: object
    ) -> int | None:
        """Learn from a refusal; 0 to try again at once, None to let others decide."""
        context = request_dict["context"]
        if response is None or _OFFSET in context or context.get(_JUDGED) or not _of_time(request_dict, response):
            return None
        ahead = offset({name.lower(): value for name, value in response[0].headers.items()})
        if ahead is None or not ALLOWED / 3 < abs(ahead) < _MOST:
            return None
        if self._offset is None:
            _log.warning("%s: requests are signed with the store's time", told(ahead))
        self._offset = ahead
        context[_JUDGED] = True
        return 0


def _of_time(request_dict: Mapping[str, Any], response: tuple[Any, Any]) -> bool:
    """Tell whether the clock may be what was wrong: the answer to a HEAD has no body that could say so."""
    code = response[1].get("Error", {}).get("Code")
    return code == "RequestTimeTooSkewed" or (code == "403" and request_dict.get("method") == "HEAD")
