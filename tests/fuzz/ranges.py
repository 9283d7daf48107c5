"""Headers of answers: Content-Range, Content-Length, Retry-After, Location."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

from ocirootfs.registry import blob
from ocirootfs.registry.origin import Origin, next_hop, redacted
from ocirootfs.registry.retry import retry_after
from tests.fuzz.target import outcome

SEEDS = [
    b"bytes 5-9/10", b"bytes 5-9/*", b"bytes */10", b"10", b"120", b"Wed, 21 Oct 2099 07:28:00 GMT", b"-1", b"1e9",
    b"/v2/a", b"https://cdn.example.com:8443/x?sig=y#z", b"//other/x", b"http://127.1/", b"https://[::1%25eth0]/",
    b"https://user:pw@host/", b"https://h\xc3\xb6st/",
]  # fmt: skip


def check(data: bytes) -> None:
    """Read it as each of them."""
    text = data[:20_000].decode("latin-1")
    for status in (200, 206):
        headers = {"Content-Range": text, "Content-Length": text}
        answer: Any = SimpleNamespace(status=status, headers=headers, url="https://a.example/")
        begin = outcome(blob._start, answer, 5, 10, "it")
        assert not isinstance(begin, int) or begin in (0, 5)
        assert status == 200 or begin != 0, "bytes of another place"
    wait = retry_after(text, 1e9)
    assert wait is None or (wait >= 0 and math.isfinite(wait))
    for base in ("https://registry.example.com/v2/", "http://registry.example.com/v2/"):
        found = outcome(next_hop, base, text)
        if isinstance(found, str):
            there = Origin.of(found)
            assert not there.is_local
            assert there.scheme == "https" or base.startswith("http:")
            assert "\n" not in found
    redacted(text)
