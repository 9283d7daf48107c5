"""One blob, through any number of connections.

Blobs do not change under their digest, so a broken download goes on where it broke: a closed range (some registries
answer 416 to an open one) of the registry's own URL, never of the signed one it redirected to, which may have
expired. What comes is taken only if Content-Range says exactly what was asked for (RFC 9110 section 15.3.7.3); who
sends another range, or none, is asked for the whole, of which the rest is taken.

Bytes that were passed on cannot be taken back, and only the last one completes the proof. So a digest that is wrong at
the end is the reader's error here; who holds a blob back until it is whole (`prefetch`, `registry.cache`, documents)
asks for it once more first.
"""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING

from ocirootfs.errors import InputError, TemporaryError
from ocirootfs.registry.interrupt import Interrupt
from ocirootfs.registry.netfailure import BrokenError, named
from ocirootfs.registry.pace import paced
from ocirootfs.registry.transport import encoding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ocirootfs.registry.transport import Answer

log = logging.getLogger("ocirootfs.registry")

# A connection that brought this much was worth it: it does not count as a failure.
_PROGRESS = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,20})-([0-9]{1,20})/([0-9]{1,20}|\*)", re.ASCII)


class BlobReader:
    """Reads blobs with `fetch`, which sends one GET with the headers it is given.

    It gives up after `retries` connections in a row that brought less than 1 MiB, and calls `pause` with the number
    of the attempt before each new one. A connection that brings less than 1 KiB/s for `window` seconds of `clock`
    counts as broken. `interrupt` ends it from another thread.
    """

    def __init__(
        self,
        fetch: Callable[[Mapping[str, str]], Answer],
        pause: Callable[[int], None],
        retries: int,
        *,
        window: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        interrupt: Interrupt | None = None,
    ) -> None:
        self._fetch = fetch
        self._pause = pause
        self._retries = retries
        self._window, self._clock = window, clock
        self._interrupt = interrupt or Interrupt()

    def read(self, size: int, what: str, start: int = 0) -> Iterator[bytes]:
        """Yield the bytes from `start` to `size`; InputError if there are more, or another number is announced."""
        position, barren = start, 0
        while position < size:
            start = position
            try:
                for chunk in self._connection(start, size, what):
                    position += len(chunk)
                    yield chunk
            except BrokenError as error:
                self._interrupt.check()
                barren = 0 if position - start >= _PROGRESS else barren + 1
                if barren > self._retries:
                    reason = f"{what}: lost at {position} of {size} bytes, {barren} times in a row: {error}"
                    raise TemporaryError(reason, hint=error.hint) from error
                log.warning("%s: lost at %d of %d bytes: %s; resuming", what, position, size, error)
                self._pause(max(barren, 1))

    def _connection(self, position: int, size: int, what: str) -> Iterator[bytes]:
        """Yield the bytes from `position` on as far as one connection carries; BrokenError if not to the end."""
        self._interrupt.check()
        headers = {"Range": f"bytes={position}-{size - 1}"} if position else {}
        with self._fetch(headers) as answer:
            if headers and (answer.status == 416 or not _fits(answer, position, size)):  # it has no ranges after all
                answer = self._fetch({})  # noqa: PLW2901
            yield from self._rest(answer, position, size, what)

    def _rest(self, answer: Answer, position: int, size: int, what: str) -> Iterator[bytes]:
        """Yield what of this answer lies at or after `position`, and see that it ends at `size`."""
        host = named(answer.url)
        with answer, self._interrupt.watching(answer):
            at = _start(answer, position, size, what)
            for chunk in paced(answer.chunks(), self._window, self._clock, host):
                fresh = chunk[max(0, position - at) :]
                at += len(chunk)
                if at > size:
                    raise InputError(f"{what}: {host} sent more than the {size} bytes announced{_encoded(answer)}")
                if fresh:
                    yield fresh
            if at < size:
                raise BrokenError(f"{host} ended the transfer early{_encoded(answer)}")


def _start(answer: Answer, position: int, size: int, what: str) -> int:
    """Return the position of the answer's first byte: what was asked for, or 0 from a server without ranges."""
    if answer.status == 206:
        if not _fits(answer, position, size):
            raise BrokenError(f"{named(answer.url)} sent another range than it was asked for")
        return position
    require_size(answer, size, what)
    return 0


def require_size(answer: Answer, size: int, what: str) -> None:
    """Refuse an answer that announces another number of bytes than a whole blob has; InputError."""
    length = answer.headers.get("Content-Length", "")
    if answer.status == 200 and length.isdecimal() and int(length[:20]) != size:
        text = f"{what}: {named(answer.url)} has {length[:20]} bytes, not the {size} announced"
        raise InputError(f"{text}{_encoded(answer)}")


def _encoded(answer: Answer) -> str:
    """Say that the number of bytes may be wrong for that."""
    claimed = encoding(answer.headers)
    return f"; it says they are encoded as '{claimed}', which it was not asked for" if claimed else ""


def _fits(answer: Answer, position: int, size: int) -> bool:
    """Tell whether an answer is no part, or the part from `position` to `size`."""
    if answer.status != 206:
        return True
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    if not match:
        return False
    return (int(match[1]), int(match[2])) == (position, size - 1) and match[3] in {"*", str(size)}
