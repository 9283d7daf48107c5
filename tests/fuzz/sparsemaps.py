"""Maps of sparse files: one that is accepted is in order, within its file, and expands to its size."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from ocirootfs.errors import TruncatedError
from ocirootfs.limits import USUAL
from ocirootfs.tar import pax, sparse
from tests.fuzz.target import outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SEEDS = [
    b"0,1,1024,5|6|2048",
    b"|0|65536",
    b"0,1|1|1",
    b"2\n0\n1\n1024\n5\n".ljust(512, b"\0") + b"x" * 6,
    b"\0" * 386 + b"%011o\0%011o\0" % (0, 1) + bytes(73) + b"\0%011o\0" % 4096 + bytes(16),
]
_SHOWN = 1 << 22


def check(data: bytes) -> None:
    """Read it as a map of each form."""
    text, stored, size = [*data.split(b"|"), b"", b"", b""][:3]
    number = int(stored[:6]) if stored[:6].isdigit() else 0
    records = {b"GNU.sparse.map": text, b"GNU.sparse.size": size}
    outcome(lambda: _expand(sparse.from_pax(records, number, _blocks(b""))[0]))
    new = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.realsize": b"%d" % (len(data) * 7)}
    outcome(lambda: _expand(sparse.from_pax(new, len(data), _blocks(data))[0]))
    outcome(lambda: _expand(sparse.from_gnu_header(data[:512].ljust(512, b"\0"), number, _blocks(data[512:]))))
    outcome(pax.integer, stored)


def _blocks(data: bytes) -> Callable[[], bytes]:
    blocks: Iterator[bytes] = (data[at : at + 512].ljust(512, b"\0") for at in range(0, len(data), 512))

    def more() -> bytes:
        found = next(blocks, None)
        if found is None:
            raise TruncatedError("the end")
        return found

    return more


def _expand(found: sparse.Sparse) -> None:
    position = 0
    for offset, length in found.segments:
        assert position <= offset, "segments overlap"
        assert length >= 0, "a negative length"
        position = offset + length
    assert position <= found.size <= USUAL.sparse
    total = 0
    content = iter(lambda: b"y" * 4096, b"")
    for piece in islice(found.expand(content), 1 << 12):
        total += len(piece)
        if total > _SHOWN:
            return
    assert total == found.size or found.size > _SHOWN or len(found.segments) > 1 << 11
