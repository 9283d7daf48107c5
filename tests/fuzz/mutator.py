"""Mutations without coverage: seeds cut, joined, repeated and overwritten, mostly with what parsers trip over."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_LARGEST = 1 << 16

_WORDS = (
    b"\0", b"\xff", b"\n", b" ", b"=", b"/", b"../", b".wh.", b".wh..wh..opq", b"-1", b"0", b"9" * 20, b"1e999",
    b"NaN", b'"', b"\\", b"[", b"{", b"]", b"}", b":", b",", b"@", b"%2e", b"\x80" + b"\xff" * 11, b"7" * 11 + b"\0",
    b"\r\n", b"ustar\x0000", b"ustar  \0", b"x", b"g", b"L", b"S", b"1", b"2", b"5", bytes(512), b"sha256:", b"null",
    b"\xed\xa0\x80",
)  # fmt: skip


def mutants(seeds: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Yield the seeds, then mutations of them without end; the same ones for the same `seed`."""
    yield from seeds
    source = random.Random(seed)
    while True:
        data = source.choice(seeds)
        for _ in range(source.choice((1, 1, 1, 2, 3, 8))):
            data = source.choice(_WAYS)(data, source, seeds)
        yield data[:_LARGEST]


def pieces(data: bytes, source: random.Random) -> list[bytes]:
    """Cut data into pieces, some of them empty."""
    cuts = sorted(source.randrange(len(data) + 1) for _ in range(source.choice((0, 1, 3, 9))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _place(data: bytes, source: random.Random) -> int:
    """Choose a place, in headers rather than anywhere."""
    if len(data) > 512 and source.random() < 0.5:
        return min(
            source.randrange(0, len(data), 512) + source.choice((0, 100, 124, 136, 148, 156, 157, 345)), len(data)
        )
    return source.randrange(len(data) + 1)


def _flip(data: bytes, source: random.Random, _: Sequence[bytes]) -> bytes:
    at = _place(data, source)
    return data[:at] + bytes(byte ^ 1 << source.randrange(8) for byte in data[at : at + 1]) + data[at + 1 :]


def _overwrite(data: bytes, source: random.Random, _: Sequence[bytes]) -> bytes:
    at, word = _place(data, source), source.choice(_WORDS)
    return data[:at] + word + data[at + len(word) :]


def _insert(data: bytes, source: random.Random, _: Sequence[bytes]) -> bytes:
    at = _place(data, source)
    return data[:at] + source.choice(_WORDS) * source.choice((1, 1, 2, 70)) + data[at:]


def _remove(data: bytes, source: random.Random, _: Sequence[bytes]) -> bytes:
    at = _place(data, source)
    return data[:at] + data[at + source.choice((1, 2, 8, 512)) :]


def _cut(data: bytes, source: random.Random, _: Sequence[bytes]) -> bytes:
    return data[: _place(data, source)]


def _splice(data: bytes, source: random.Random, seeds: Sequence[bytes]) -> bytes:
    other = source.choice(seeds)
    return data[: _place(data, source)] + other[_place(other, source) :]


def _repeat(data: bytes, source: random.Random, _: Sequence[bytes]) -> bytes:
    at = _place(data, source)
    length = source.choice((1, 8, 512, 1024))
    return data[:at] + data[at : at + length] * source.choice((2, 3, 40)) + data[at + length :]


def _number(data: bytes, source: random.Random, _: Sequence[bytes]) -> bytes:
    """Put another number in place of a run of digits."""
    at = next((i for i in range(_place(data, source), len(data)) if data[i : i + 1].isdigit()), None)
    if at is None:
        return data
    end = at
    while data[end : end + 1].isdigit():
        end += 1
    value = source.choice(
        (0, 1, 7, 8, 255, 511, 512, 513, 1 << 16, 1 << 20, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 10**21)
    )
    text = b"%d" % value if source.random() < 0.5 else b"%0*o" % (end - at, value)
    return data[:at] + text + data[at + len(text) if source.random() < 0.5 else end :]


_WAYS: tuple[Callable[[bytes, random.Random, Sequence[bytes]], bytes], ...] = (
    _flip, _overwrite, _insert, _remove, _cut, _splice, _repeat, _number,
)  # fmt: skip
