r"""PAX extended headers: `length key=value\n` records that override the next entry's header.

Source: POSIX.1-2017 pax, "pax Extended Header". Read as strictly as Go's archive/tar, because container hosts do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ocirootfs.errors import LayerError

if TYPE_CHECKING:
    from collections.abc import Iterator

XATTR = b"SCHILY.xattr."
SPARSE = b"GNU.sparse."
_NAMES = frozenset([b"path", b"linkpath", b"uname", b"gname", b"GNU.sparse.name"])
_USED = frozenset([b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"])
# GNU.sparse 0.0 repeats these two once a segment; everywhere else the last record of a key counts.
_REPEATED = frozenset([b"GNU.sparse.offset", b"GNU.sparse.numbytes"])
_DECIMAL = re.compile(rb"(-?)([0-9]{1,20})(?:\.([0-9]*))?")
_BILLION = 10**9


def records(body: bytes) -> dict[bytes, bytes]:
    """Parse the body of an `x` header into the records that matter here, the last of a key winning.

    The repeated records of GNU.sparse 0.0 come back as one GNU.sparse.map, the form of 0.1.
    """
    found: dict[bytes, bytes] = {}
    segments: list[bytes] = []
    for key, value in each(body):
        if key in _REPEATED:
            segments.append(value)
        elif key in _USED or key.startswith((XATTR, SPARSE)):
            found[key] = value
    if segments:
        found.setdefault(b"GNU.sparse.map", b",".join(segments))
    return found


def each(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield all records of an extended header, as they stand."""
    position = 0
    while position < len(body):
        key, value, position = _record(body, position)
        yield key, value


def _record(body: bytes, position: int) -> tuple[bytes, bytes, int]:
    """Return key, value and the position after the record at `position`."""
    space = body.find(b" ", position, position + 8)  # 1 MiB of records needs 7 digits
    digits = body[position:space] if space > 0 else b""
    if not digits.isdigit():
        raise LayerError("an extended header record has no length")
    end = position + int(digits)
    key, equals, value = body[space + 1 : end - 1].partition(b"=")
    if end > len(body) or body[end - 1 : end] != b"\n" or not equals or not key or space >= end:
        raise LayerError("an extended header record is malformed")
    if b"\0" in key or (b"\0" in value and key in _NAMES):
        raise LayerError("an extended header record holds a NUL")
    return key, value, end


def integer(value: bytes) -> int:
    """Read a decimal number that is not negative."""
    if not value.isdigit() or len(value) > 20:
        raise LayerError("an extended header record is not a number")
    return int(value)


def nanoseconds(value: bytes) -> int:
    """Read seconds with an optional fraction, exactly; digits beyond the ninth are cut."""
    match = _DECIMAL.fullmatch(value)
    if not match:
        raise LayerError("an extended header time is not a number")
    sign, seconds, fraction = match.groups()
    total = int(seconds) * _BILLION + int((fraction or b"")[:9].ljust(9, b"0"))
    return -total if sign else total


def seconds(value: int) -> bytes:
    """Write nanoseconds as seconds with the shortest exact fraction."""
    whole, rest = divmod(abs(value), _BILLION)
    sign = b"-" if value < 0 else b""
    fraction = b".%09d" % rest if rest else b""
    return sign + b"%d" % whole + fraction.rstrip(b"0")


def record(key: bytes, value: bytes) -> bytes:
    """Write one record; its length counts itself."""
    rest = len(key) + len(value) + 3  # the space, the equals sign, the newline
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)
