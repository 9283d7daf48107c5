"""Sparse files: a map of segments and their data, expanded to the file that they stand for.

Four encodings are in use: GNU's old `S` type with the map in the header, and PAX 0.0, 0.1 and 1.0 (GNU tar manual,
"Storing Sparse Files"). The OCI spec asks writers not to use them, yet layers have them. They are expanded, since
no sparse entry survives busybox tar; holes become zeros, which any compressor makes vanish.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ocirootfs.errors import LayerError
from ocirootfs.limits import USUAL, raising
from ocirootfs.tar import header, pax

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ocirootfs.entry import Piece

_MAP_LIMIT = 1 << 20
_HOLE = bytes(1 << 16)

Segments = tuple[tuple[int, int], ...]
"""Offset and length of each piece of data, in order."""


class Sparse(NamedTuple):
    """What a sparse entry stands for: the real size, and where its data goes."""

    size: int
    segments: Segments

    def expand(self, data: Iterator[Piece]) -> Iterator[Piece]:
        """Yield the whole file; `data` holds the segments' bytes end to end and is read no further."""
        position = 0
        piece = memoryview(b"")
        for offset, length in self.segments:
            yield from _zeros(offset - position)
            position = offset
            while position < offset + length:
                piece = piece or memoryview(next(data))
                part = piece[: offset + length - position]
                yield part
                piece = piece[len(part) :]
                position += len(part)
        yield from _zeros(self.size - position)


class Expanded:
    """The content of a sparse entry: all of it when it is iterated over, and in `stored` what the layer has of it."""

    __slots__ = ("sparse", "stored")

    def __init__(self, sparse: Sparse, stored: Iterator[Piece]) -> None:
        self.sparse = sparse
        self.stored = stored

    def __iter__(self) -> Iterator[Piece]:
        return self.sparse.expand(self.stored)


def _zeros(count: int) -> Iterator[Piece]:
    for _ in range(count // len(_HOLE)):
        yield _HOLE
    yield _HOLE[: count % len(_HOLE)]


def _checked(size: int, numbers: list[int], stored: int, most: int) -> Sparse:
    """Make a map of offset, length, offset, length… and prove it ordered, inside the file and backed by data."""
    if size < 0 or size > most:
        hint = raising("sparse") if size > most else None
        raise LayerError(f"a sparse file of {size} bytes is over the limit of {most}", hint=hint)
    segments = tuple(zip(numbers[::2], numbers[1::2], strict=False))
    position = 0
    for offset, length in segments:
        if offset < position or length < 0:
            raise LayerError("a sparse map is not in order")
        position = offset + length
    if len(numbers) % 2 or position > size or sum(length for _, length in segments) != stored:
        raise LayerError("a sparse map does not fit its file")
    return Sparse(size, segments)


def from_gnu_header(block: bytes, stored: int, more: Callable[[], bytes], most: int = USUAL.sparse) -> Sparse:
    """Read the map of an `S` entry; `more` gives the blocks that follow it, `stored` bytes of data after those.

    LayerError if it stands for more than `most` bytes (`Limits.sparse`).
    """
    numbers = _pairs(block, 386, 4)
    extended, room = block[482], _MAP_LIMIT // header.BLOCK
    while extended:
        room -= 1
        if not room:
            raise LayerError("a sparse map is too long")
        extension = more()
        numbers += _pairs(extension, 0, 21)
        extended = extension[504]
    return _checked(header.number(block[483:495]), numbers, stored, most)


def _pairs(block: bytes, start: int, count: int) -> list[int]:
    """Read up to `count` pairs of twelve-byte numbers; an empty one ends the list."""
    fields = [block[at : at + 12] for at in range(start, start + 24 * count, 12)]
    used = next((i for i in range(0, len(fields), 2) if not fields[i].strip(b"\0 ")), len(fields))
    return [header.number(each) for each in fields[:used]]


def from_pax(
    records: dict[bytes, bytes], stored: int, line: Callable[[], bytes], most: int = USUAL.sparse
) -> tuple[Sparse, int]:
    """Read the map of a PAX sparse entry, and the bytes of the entry's data that the map itself took.

    `stored` is the size of the entry's data; `line` gives its next 512-byte block, which format 1.0 starts with.
    LayerError if it stands for more than `most` bytes (`Limits.sparse`).
    """
    version = records.get(b"GNU.sparse.major", b"0"), records.get(b"GNU.sparse.minor", b"0")
    if version == (b"1", b"0"):
        numbers, taken = _map_in_data(line)
        size = pax.integer(records.get(b"GNU.sparse.realsize", b""))
        return _checked(size, numbers, stored - taken, most), taken
    if version not in ((b"0", b"0"), (b"0", b"1")) or b"GNU.sparse.size" not in records:
        raise LayerError("a sparse file of no known version")
    size = pax.integer(records[b"GNU.sparse.size"])
    numbers = [pax.integer(each) for each in records.get(b"GNU.sparse.map", b"").split(b",") if each]
    return _checked(size, numbers, stored, most), 0


def _map_in_data(line: Callable[[], bytes]) -> tuple[list[int], int]:
    """Read format 1.0's map: a count, then twice as many numbers, one a line, filled up to a block."""
    blocks: list[bytes] = []
    lines, wanted = 0, 1
    while lines < wanted:
        if len(blocks) * header.BLOCK >= _MAP_LIMIT:
            raise LayerError("a sparse map is too long")
        blocks.append(line())
        lines += blocks[-1].count(b"\n")
        if lines and wanted == 1:
            wanted = 1 + 2 * pax.integer(b"".join(blocks).split(b"\n", 1)[0])
    numbers = b"".join(blocks).split(b"\n")[1:wanted]
    return [pax.integer(each) for each in numbers], len(blocks) * header.BLOCK
