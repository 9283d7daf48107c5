"""How messages look on standard error: lines for people, or one JSON object a line for programs."""

from __future__ import annotations

import contextlib
import json
import logging
from typing import TYPE_CHECKING, Literal, TextIO, TypeAlias

from ocirootfs.errors import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

Format: TypeAlias = Literal["text", "json"]

NOTICE = 25
"""The level of what is said unless --quiet, and is no warning."""

_LOGGER = logging.getLogger("ocirootfs")
_LONGEST = 1000  # characters of a message


class Console(logging.Handler):
    """Writes messages to a stream, if there is anybody to read it."""

    def __init__(self, stream: TextIO | None, form: Format) -> None:
        super().__init__()
        self._stream = stream
        self.setFormatter(_Objects() if form == "json" else _Lines())
        self.addFilter(_Once())
        self.aside: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
        """What to write within: a progress bar steps aside meanwhile."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        with contextlib.suppress(OSError, ValueError), self.aside():
            if self._stream is not None:
                self._stream.write(self.format(record) + "\n")
                self._stream.flush()


@contextlib.contextmanager
def stepping_aside(aside: Callable[[], AbstractContextManager[object]]) -> Iterator[None]:
    """Write all messages within `aside` for as long as the context lasts."""
    handlers = [handler for handler in _LOGGER.handlers if isinstance(handler, Console)]
    for handler in handlers:
        handler.aside = aside
    try:
        yield
    finally:
        for handler in handlers:
            handler.aside = contextlib.nullcontext


class _Lines(logging.Formatter):
    """Log records as this program's messages."""

    def format(self, record: logging.LogRecord) -> str:
        if vars(record).get("is_block"):
            return record.getMessage()
        is_plain = record.levelno in (logging.INFO, NOTICE) or vars(record).get("is_plain")
        level = "" if is_plain else f"{record.levelname.lower()}: "
        hint = vars(record).get("hint")
        return "".join(
            [
                _trace(record),
                f"ocirootfs: {level}{printable(record.getMessage(), _LONGEST)}",
                f"\n  hint: {printable(hint, _LONGEST)}" if hint else "",
            ]
        )


class _Objects(logging.Formatter):
    """Log records as JSON: `time`, `level`, `event` and `message`, and what belongs to the event."""

    def format(self, record: logging.LogRecord) -> str:
        from datetime import UTC, datetime  # noqa: PLC0415  # text has no time

        given = vars(record)
        facts = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": "info" if record.levelno == NOTICE else record.levelname.lower(),
            "event": "error" if "status" in given else "progress" if "progress" in given else "message",
            "message": record.getMessage(),
            "hint": given.get("hint"),
            "status": given.get("status"),
            "traceback": _trace(record),
        }
        return json.dumps({name: value for name, value in facts.items() if value} | given.get("progress", {}))


def _trace(record: logging.LogRecord) -> str:
    if not (record.exc_info and record.exc_info[1]):
        return ""
    from ocirootfs.cli import traces  # noqa: PLC0415  # nobody but --debug needs it

    return traces.shown(record.exc_info[1])


class _Once(logging.Filter):
    """Lets each warning through once: a layer that is read twice has the same ones again."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno != logging.WARNING:
            return True
        text = record.getMessage()
        is_new = text not in self._said
        self._said.add(text)
        return is_new
