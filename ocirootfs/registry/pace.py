"""A floor under the pace of a download: a connection that only trickles is as bad as one that is silent.

A socket's timeout is one of silence, so a server that sends a byte a minute would be waited for until it has sent all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocirootfs.registry.netfailure import BrokenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FLOOR = 1 << 10
"""Bytes a second that a connection must bring."""


def paced(chunks: Iterator[bytes], window: float, clock: Callable[[], float], host: str) -> Iterator[bytes]:
    """Pass `chunks` through; BrokenError if in `window` seconds of waiting for them less than 1 KiB/s has come.

    Only the time that the server takes is counted: whoever reads may pause as long as they like.
    """
    waited, count = 0.0, 0
    while True:
        begun = clock()
        chunk = next(chunks, None)
        if chunk is None:
            return
        waited, count = waited + clock() - begun, count + len(chunk)
        yield chunk
        if waited >= window:
            if count < FLOOR * waited:
                raise BrokenError(f"{host} sends less than {FLOOR} bytes a second")
            waited, count = 0.0, 0
