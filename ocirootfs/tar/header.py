"""The 512-byte header block: layout, numbers, checksum.

Sources: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format" and "Extensions".
"""

from __future__ import annotations

import struct
from functools import lru_cache

from zlib_ng import zlib_ng

from ocirootfs.errors import LayerError

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)

# name mode uid gid size mtime checksum type link magic+version uname gname devmajor devminor prefix
LAYOUT = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
GNU_MAGIC = b"ustar  \0"
USTAR_MAGIC = b"ustar\x0000"

CHECKSUM_ENDS = (b"\0 ", b" \0", b"\0\0")
"""What writers put after the six digits of a checksum."""
BLANK_SUM = 8 * 0x20  # the checksum field counts as eight spaces

adler32 = zlib_ng.adler32
"""Adds up bytes, in its low half: one plus their sum, modulo 65521. Of at most 256 bytes the sum cannot reach that."""


def padding(size: int) -> int:
    """Return how many bytes fill the last block of `size` bytes of content."""
    return -size % BLOCK


def byte_sum(block: bytes) -> int:
    """Add up the bytes of a header block.

    All but odd ones have at most 256 non-zero bytes, and `adler32` is several times faster than Python's sum.
    """
    if BLOCK - block.count(0) <= 256:
        return (adler32(block) & 0xFFFF) - 1
    return sum(block)


def checksum_holds(block: bytes) -> bool:
    """Tell whether the checksum field is right; the signed sum of ancient writers counts too (POSIX pax, rationale)."""
    stored = block[148:156]
    rest = byte_sum(block) - sum(stored) + BLANK_SUM
    if stored[:6] == b"%06o" % rest and stored[6:] in CHECKSUM_ENDS:
        return True
    try:
        wanted = number(stored)
    except LayerError:
        return False
    high = sum(byte >= 0x80 for byte in block[:148] + block[156:])
    return wanted in (rest, rest - 256 * high)


def number(field: bytes) -> int:
    """Read a numeric field: octal digits ended by NUL or space, or GNU's base-256; blank is 0.

    Stricter than `int(field, 8)`, which takes `1_0`, `+5` and `-1`: what tools read differently is refused.
    """
    if field[0] in (0x80, 0xFF):
        value = int.from_bytes(field[1:], "big")
        return value - (1 << 8 * (len(field) - 1)) if field[0] == 0xFF else value
    head, _, rest = field.partition(b"\0")
    digits = head.strip(b" ")
    if not digits:
        if rest.strip(b"\0 "):  # Go, GNU tar and the hosts skip the NUL, libarchive ends there
            raise LayerError("a header field has a NUL before its number")
        return 0
    if digits.strip(b"01234567"):
        raise LayerError("a header field is not a number")
    return int(digits, 8)


@lru_cache(maxsize=4096)
def field(value: int, width: int) -> bytes:
    """Write a numeric field of `width` bytes: octal if it fits, GNU's base-256 if not.

    Base-256 is what GNU tar and busybox both read; PAX numbers are lost on busybox.
    """
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    lead = 0x80 if value >= 0 else 0xFF
    return bytes([lead]) + (value % (1 << 8 * (width - 1))).to_bytes(width - 1, "big")


def sealed(block: bytes) -> bytes:
    """Fill in the checksum of a block whose checksum field holds eight spaces."""
    return b"%b%06o\0 %b" % (block[:148], byte_sum(block), block[156:])
