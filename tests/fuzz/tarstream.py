"""A tar stream, whole and in pieces: the entries are the same, or so is the error."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from ocirootfs.tar import reader
from tests.fuzz import seeds
from tests.fuzz.target import cut, outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

SEEDS = seeds.layers() + seeds.archives()
_CONTENT = 1 << 20  # a sparse file of 64 GiB need not be read to its end


def entries(chunks: Iterable[bytes]) -> list[tuple[object, int, bytes]]:
    """Read entries, and so much of each one's content."""
    found: list[tuple[object, int, bytes]] = []
    for entry, body in reader.read(chunks):
        count, first = 0, b""
        for piece in body:
            count, first = count + len(piece), first or bytes(piece[:16])
            if count > _CONTENT:
                break
        found.append((entry, min(count, _CONTENT), first[:1]))
        assert count >= min(entry.size, _CONTENT), "content is missing"
    return found


def check(data: bytes) -> None:
    """Read it twice."""
    assert outcome(entries, [data]) == outcome(entries, cut(data))
    outcome(list, islice(reader.index(iter([data]), lambda _: None), 10_000))
