"""One gzip stream from every core, with the same bytes whatever the number of threads.

The theory of operation. The input is cut into blocks of BLOCK bytes, at the same places however it arrives. A pool of
threads deflates the blocks, each on its own but primed with the 32 KiB before it (a deflate window), so that a block
compresses as well as if the one before had just been written; the compressors release the interpreter lock. Each
block ends with a sync flush, which puts it on a byte boundary (RFC 1951, 3.2.4: an empty stored block), so that the
blocks, in order, are one deflate stream; an empty final block ends it. Around it stands one gzip header, with neither
time nor name (Concourse's S3 resource sniffs other file types in those fields; and the same image gives the same
bytes), and the CRC and length of the whole. It is pigz's construction.

One scale of levels spans two libraries: 1 and 2 are ISA-L's, the fastest; from 3 on they are zlib-ng's, up to
the size of `gzip -9`. The bytes depend on the input, the level and the version of the library alone. zlib-ng writes the
same bytes on every CPU; ISA-L does not (each family of CPUs takes another path), which is why it is not the default.

At most one block a thread and two more are in flight, so memory stays at a few MiB and a slow destination slows the
reader down.
"""

from __future__ import annotations

import struct
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

from isal import isal_zlib
from zlib_ng import zlib_ng

from ocirootfs.inorder import InOrder

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocirootfs.entry import Piece

BLOCK = 1 << 19
"""Bytes of input that a thread deflates at a time. Above 256 KiB the seams cost nothing; below, hand-over does."""

LEVELS = range(1, 10)
"""From the fastest to the smallest."""

FAST_LEVEL = 1
"""ISA-L's: faster and larger than any level from 3 on, and not the same bytes on every CPU."""

DEFAULT_LEVEL = 4
"""As large as `gzip -6` within a few percent, and several times as fast; `benchmarks/` measures both."""

_ISAL = {1: 1, 2: 2}  # our levels, and its own
_WINDOW = 1 << 15
# RFC 1952: magic, deflate, no flags, no time, no extra flags, operating system unknown.
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
_LAST_BLOCK = b"\x03\0"  # final, fixed codes, empty


def threads_for(level: int, cores: int) -> int:
    """Return how many threads keep up with what feeds them, on so many cores.

    ISA-L deflates faster than layers are inflated, hashed and read: a second thread on two cores waited, and held
    memory. Of zlib-ng's levels each core takes what it gets.
    """
    return (cores + 1) // 2 if level in _ISAL else cores


class GzipWriter:
    """Compresses what is written to it and hands the result to `write`, in order, in the caller's thread.

    `close` ends the stream; a writer that is dropped instead leaves it without an end. Use it as a context manager,
    so that its threads end in either case.
    """

    def __init__(self, write: Callable[[bytes], object], *, level: int = DEFAULT_LEVEL, threads: int = 1) -> None:
        self._write = write
        self._level = level
        self._flying: InOrder[bytes] = InOrder(threads, "deflate")
        self._room = threads + 2
        self._pieces: list[Piece] = []
        self._held = 0
        self._window = b""
        self._crc = 0
        self._length = 0
        self._write(_HEADER)

    def write(self, piece: Piece) -> None:
        """Take in a piece of the input; it is kept, so it must not change until its block is cut."""
        self._held += len(piece)
        if self._held < BLOCK:
            self._pieces.append(piece)
        else:
            self._cut(memoryview(piece))

    def _cut(self, piece: memoryview) -> None:
        """Send every block that `piece` completes on its way and keep the rest of it."""
        while self._held >= BLOCK:
            end = BLOCK - (self._held - len(piece))
            self._pieces.append(piece[:end])
            self._submit(b"".join(self._pieces))
            self._pieces = []
            piece = piece[end:]
            self._held = len(piece)
        if piece:
            self._pieces.append(piece)

    def _submit(self, block: bytes) -> None:
        while len(self._flying) >= self._room:
            self._write(self._flying.result())
        self._flying.call(partial(_deflated, block, self._window, self._level))
        self._window = block[-_WINDOW:]
        self._crc = zlib_ng.crc32(block, self._crc)
        self._length += len(block)

    def close(self) -> None:
        """Write out everything and end the stream."""
        if self._held:
            self._submit(b"".join(self._pieces))
        while self._flying:
            self._write(self._flying.result())
        self._write(_LAST_BLOCK + struct.pack("<II", self._crc, self._length & 0xFFFFFFFF))

    def __enter__(self) -> GzipWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._flying.close()


def _deflated(block: bytes, window: bytes, level: int) -> bytes:
    """Deflate one block as if it followed `window`, up to a byte boundary."""
    library: Any = isal_zlib if level in _ISAL else zlib_ng
    deflate = library.compressobj(
        _ISAL.get(level, level), zlib.DEFLATED, -15, zlib.DEF_MEM_LEVEL, 0, *((window,) if window else ())
    )
    return b"".join((deflate.compress(block), deflate.flush(zlib.Z_SYNC_FLUSH)))
