"""gzip, zstd, xz and bzip2, whole and in pieces: the same output, in pieces of bounded size."""

from __future__ import annotations

import bz2
import gzip
import lzma
from hashlib import sha256
from typing import TYPE_CHECKING

import zstandard

from ocirootfs.compression import decompressed
from tests.fuzz.target import cut, outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

_TEXT = b"the quick brown fox " * 30
SEEDS = [
    gzip.compress(_TEXT, mtime=0),
    gzip.compress(_TEXT, mtime=0) + gzip.compress(b"more", mtime=0),
    gzip.compress(bytes(1 << 20), mtime=0),
    zstandard.compress(_TEXT),
    zstandard.compress(_TEXT) + b"\x50\x2a\x4d\x18\x04\0\0\0skip" + zstandard.compress(b"more"),
    zstandard.compress(bytes(1 << 22)),
    b"\x28\xb5\x2f\xfd\x60\x58\x71\x04\0\0\1\0\0",  # says 29,272 bytes, and has none
    b"\x28\xb5\x2f\xfd\x80\x8b\0\0\0\0\1\0\0",  # asks for 176 MiB, and needs none
    b"\x28\xb5\x2f\xfd\x80\x0d\0\0\0\0\5\0\0",  # a compressed block of no bytes
    b"\x1f\x8b\x08\x1e" + bytes(6) + b"\3\0abcname\0words\0\x0e\xc1\3\0" + bytes(8),  # all fields
    lzma.compress(_TEXT),
    bz2.compress(_TEXT),
    _TEXT,
]
_LARGEST = 65 << 20
_MOST = 256 << 20


def _read(chunks: Iterable[bytes]) -> str:
    digest, count = sha256(), 0
    for piece in decompressed(chunks, "it"):
        assert len(piece) <= _LARGEST, "one piece is too large"
        digest.update(piece)
        count += len(piece)
        if count > _MOST:
            break
    return f"{count} {digest.hexdigest()}"


def check(data: bytes) -> None:
    """Read it twice."""
    assert outcome(_read, [data]) == outcome(_read, cut(data))
