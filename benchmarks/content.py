"""Bytes that compress as the files of real images do, made from seeds, the same on every machine.

Each kind of content is a pool of some megabytes; a file is one slice of it, or several. Slices that overlap are almost
always further apart than deflate's window of 32 KiB, so that it does not see that they repeat.
"""

from __future__ import annotations

import functools
import sys
from array import array
from hashlib import shake_128
from itertools import count
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Kind = Literal["text", "binary", "noise"]
POOL = 24 << 20
_PIECE = 4 << 20  # a file above this is made of several slices


class Slice(NamedTuple):
    """A part of a pool."""

    kind: Kind
    start: int
    size: int

    def read(self) -> memoryview:
        """Return its bytes."""
        return memoryview(pool(self.kind))[self.start : self.start + self.size]


class Draws:
    """Whole numbers from a seed. The standard library's generator promises less across its versions."""

    def __init__(self, seed: str) -> None:
        self._numbers = _numbers(seed)

    def below(self, limit: int) -> int:
        """Draw a number from 0 to `limit` - 1."""
        return next(self._numbers) * limit >> 32

    def between(self, low: int, high: int) -> int:
        """Draw a number from `low` to `high`."""
        return low + self.below(high - low + 1)

    def one_of(self, things: Sequence[str]) -> str:
        """Draw one of `things`, each as often."""
        return things[self.below(len(things))]

    def weighted(self, weights: Sequence[int]) -> int:
        """Draw an index, as often as its weight says."""
        at = self.below(sum(weights))
        for index, weight in enumerate(weights):
            at -= weight
            if at < 0:
                return index
        raise AssertionError

    def content(self, kind: Kind, size: int) -> tuple[Slice, ...]:
        """Draw a file's content."""
        slices = []
        for start in range(0, size, _PIECE):
            part = min(_PIECE, size - start)
            slices.append(Slice(kind, self.below(POOL - part), part))
        return tuple(slices)


def _numbers(seed: str) -> Iterator[int]:
    for batch in count():
        yield from _words("I", f"{seed} {batch}", 1 << 16)


def _words(typecode: Literal["H", "I"], seed: str, size: int) -> array[int]:
    words = array(typecode, shake_128(seed.encode()).digest(size))
    if sys.byteorder == "big":
        words.byteswap()
    return words


@functools.cache
def pool(kind: Kind) -> bytes:
    """Return the bytes that contents of this kind are cut from."""
    if kind == "noise":  # what is compressed already: images, archives, fonts
        return shake_128(b"noise").digest(POOL)
    phrases = _phrases() if kind == "text" else _instructions()
    return _spelled(phrases, kind)


def _spelled(phrases: Sequence[bytes], seed: str) -> bytes:
    """Write phrases after one another: the first most often, each next one rarer, as words are in any text (Zipf)."""
    share = (1 << 16) / sum(1 / rank for rank in range(1, len(phrases) + 1))
    table: list[bytes] = []
    for rank, phrase in enumerate(phrases, 1):
        table += [phrase] * max(1, int(share / rank))
    table = (table + list(phrases))[: 1 << 16]
    parts: list[bytes] = []
    size = 0
    for batch in count():
        drawn = b"".join(map(table.__getitem__, _words("H", f"{seed} {batch}", 1 << 20)))
        parts.append(drawn)
        size += len(drawn)
        if size >= POOL:
            return b"".join(parts)[:POOL]
    raise AssertionError


@functools.cache
def vocabulary() -> tuple[str, ...]:
    """Return words to make names and text of."""
    draws = Draws("vocabulary")
    consonants, vowels = "ttnnsssrrrlllddcmmfpgbhvkwyxzjq", "eeeeaaaiiiooou"
    words: dict[str, None] = {}
    while len(words) < 6000:
        syllables = (
            draws.one_of(consonants) + draws.one_of(vowels) + (draws.one_of(consonants) if draws.below(3) == 0 else "")
            for _ in range(draws.between(1, 4))
        )
        words["".join(syllables)] = None
    return tuple(words)


def _phrases() -> list[bytes]:
    """Return what source code, documents and configuration consist of: words, runs of words, punctuation, indents."""
    draws = Draws("phrases")
    marks = (" ", " ", " ", " ", ".", ", ", " = ", "(", ");\n", "\n    ", "\n        ", '": "', "_", ": ", "\n\n", "/")
    words = vocabulary()
    phrases = ["".join(draws.one_of(words[:3000]) + draws.one_of(marks) for _ in range(draws.between(1, 4)))
               for _ in range(14000)]  # fmt: skip
    return [phrase.encode() for phrase in phrases]


def _instructions() -> list[bytes]:
    """Return what machine code and tables consist of: short runs of bytes, a few of them everywhere, many zeros."""
    draws = Draws("instructions")
    found = []
    for _ in range(20000):
        length = draws.between(2, 7)
        body = bytes(draws.below(256) for _ in range(length))
        found.append(body + bytes((0, 0, 0, 1, 2, 3, 4)[draws.below(7)]))
    return found
