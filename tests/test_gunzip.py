"""gzip members with every kind of header, cut in every place; Python's own gzip says what is in them."""

from __future__ import annotations

import gzip
import itertools
import random
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocirootfs.errors import InputError, TruncatedError
from ocirootfs.gunzip import gunzip

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SUM, EXTRA, NAME, COMMENT = 2, 4, 8, 16
PIECE = 1000
TEXT = bytes(random.Random(3).choices(b"abcdefghij \n", k=4000))


def member(plain: bytes, flags: int, extra: bytes = b"extra\x1f\x8b\x08\0", name: bytes = b"name") -> bytes:
    """Return a member whose header has the fields that `flags` ask for (RFC 1952, 2.3)."""
    header = b"\x1f\x8b\x08" + bytes([flags]) + b"\x01\x02\x03\x04\0\x03"
    if flags & EXTRA:
        header += len(extra).to_bytes(2, "little") + extra
    if flags & NAME:
        header += name + b"\0"
    if flags & COMMENT:
        header += b"a comment\0"
    if flags & SUM:
        header += (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little")
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = deflate.compress(plain) + deflate.flush()
    return header + body + zlib.crc32(plain).to_bytes(4, "little") + (len(plain) & 0xFFFFFFFF).to_bytes(4, "little")


def cut(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(data):
            return
        yield data[at : at + size]
        at += size


def read(data: bytes, sizes: Iterable[int] = (1 << 20,)) -> bytes:
    return b"".join(gunzip(cut(data, sizes), "it", PIECE))


@pytest.mark.parametrize("flags", range(32))
def test_every_header_however_it_is_cut(flags: int) -> None:
    packed = member(TEXT, flags)
    assert gzip.decompress(packed) == TEXT
    for size in range(1, 60):
        assert read(packed, [size]) == TEXT, size


@given(
    members=st.lists(
        st.tuples(st.binary(max_size=300), st.integers(0, 31), st.binary(max_size=70), st.integers(0, 9)), min_size=1
    ),
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=5),
)
@settings(deadline=None, max_examples=200)
def test_members_in_a_row(members: list[tuple[bytes, int, bytes, int]], sizes: list[int]) -> None:
    packed = b"".join(member(plain, flags, extra) + bytes(zeros) for plain, flags, extra, zeros in members)
    assert read(packed, sizes) == gzip.decompress(packed) == b"".join(plain for plain, *_ in members)


@pytest.mark.parametrize("flags", [0, SUM, EXTRA | SUM, EXTRA | NAME | COMMENT | SUM])
def test_an_end_inside_a_member(flags: int) -> None:
    packed = member(b"some text", flags)
    for first in (b"", member(b"whole", NAME)):
        for end in range(0 if not first else 1, len(packed)):
            with pytest.raises(TruncatedError, match="the gzip stream is cut short"):
                read(first + packed[:end], [7])


@pytest.mark.parametrize(("place", "bit"), [(2, 1), (2, 8), (3, 0x20), (3, 0x40), (3, 0x80)])
def test_a_header_that_no_gunzip_knows(place: int, bit: int) -> None:
    packed = bytearray(member(TEXT, NAME))
    packed[place] ^= bit
    for first in (b"", member(b"whole", 0)):
        with pytest.raises(InputError, match=r"^it: the gzip stream is corrupt \(a header is wrong\)$"):
            read(first + bytes(packed), [5])


def test_a_header_has_a_checksum_of_its_own() -> None:
    packed = member(TEXT, NAME | SUM)
    at = packed.index(b"name")
    with pytest.raises(InputError, match="a header's checksum is wrong"):
        read(packed[:at] + b"fame" + packed[at + 4 :])


def test_a_header_without_end() -> None:
    """It is not gathered for ever."""
    fed = 0

    def endless() -> Iterator[bytes]:
        nonlocal fed
        yield b"\x1f\x8b\x08\x08" + bytes(6)
        while True:
            fed += 1 << 14
            yield b"n" * (1 << 14)

    with pytest.raises(InputError, match="a header of more than 131072 bytes"):
        b"".join(gunzip(endless(), "it", PIECE))
    assert fed <= 1 << 18
    assert read(member(TEXT, EXTRA | NAME, b"e" * 65535, b"n" * 60000), [4096]) == TEXT


def test_pieces_are_bounded() -> None:
    pieces = list(gunzip([member(bytes(1 << 20), 0)], "it", PIECE))
    assert max(map(len, pieces)) <= PIECE
    assert sum(map(len, pieces)) == 1 << 20


@given(at=st.integers(0, 80), bit=st.integers(0, 7), size=st.integers(1, 50), flags=st.integers(0, 31))
@settings(deadline=None, max_examples=300)
def test_what_is_damaged_is_refused_or_read_as_by_others(at: int, bit: int, size: int, flags: int) -> None:
    packed = bytearray(member(b"a few words, and a few words more", flags))
    packed[at % len(packed)] ^= 1 << bit
    if packed[:2] != b"\x1f\x8b":
        return
    try:
        got = read(bytes(packed), [size])
    except InputError:
        return
    assert got == gzip.decompress(packed)
