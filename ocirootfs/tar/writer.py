"""Writing tar headers: the Concourse dialect and the faithful one.

`gnu_header` writes what GNU tar and busybox tar both read the same way: GNU magic, base-256 for big numbers, `L` and
`K` records for long names, names as raw bytes, empty user and group names (a name there beats the number, looked up in
the *extracting* machine's passwd). `pax_header` is the same with a PAX header in front where the plain one cannot hold
the truth: extended attributes and fractions of a second.

Content is not written here: it passes through as slices of the buffer that it was read into.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocirootfs.entry import Entry, Kind
from ocirootfs.tar import header, pax

if TYPE_CHECKING:
    from collections.abc import Sequence

END = bytes(2 * header.BLOCK)
"""Two zero blocks: the end of an archive."""

_PADDING = tuple(bytes(count) for count in range(header.BLOCK))
_NANO = 10**9
_TYPES = {
    Kind.FILE: b"0",
    Kind.HARDLINK: b"1",
    Kind.SYMLINK: b"2",
    Kind.CHAR: b"3",
    Kind.BLOCK: b"4",
    Kind.DIRECTORY: b"5",
    Kind.FIFO: b"6",
}


def gnu_header(entry: Entry, prefix: bytes = b"") -> bytes:
    """Return the header blocks of `entry` as GNU tar writes them.

    `prefix` goes before its path, and before the path that a hard link names. Directories get the trailing slash of
    their kind; the time loses its fraction, downwards.
    """
    kind = entry.kind
    name = prefix + entry.path
    if kind is Kind.DIRECTORY and name[-1:] != b"/":
        name += b"/"
    link = prefix + entry.link if kind is Kind.HARDLINK else entry.link
    if len(name) > 100 or len(link) > 100:
        return _long(b"K", link) + _long(b"L", name) + _block(entry, name, link)
    return _block(entry, name, link)


def pax_header(entry: Entry) -> bytes:
    """Return the header blocks of `entry`, nothing lost: attributes and exact time in a PAX header if there are any."""
    records = b""
    if entry.mtime % _NANO:
        records += pax.record(b"mtime", pax.seconds(entry.mtime))
    records += b"".join(pax.record(pax.XATTR + name, value) for name, value in entry.xattrs)
    if not records:
        return gnu_header(entry)
    # GNU's L and K do not mix with PAX: tools disagree about which name wins.
    name = entry.path + b"/" if entry.kind is Kind.DIRECTORY else entry.path
    long_fields = [(b"path", name), (b"linkpath", entry.link)]
    records = b"".join(pax.record(key, value) for key, value in long_fields if len(value) > 100) + records
    return _extension(b"x", b"PaxHeaders/" + name[-80:].lstrip(b"/"), records) + _block(entry, name, entry.link)


def file_padding(size: int) -> bytes:
    """Return the zeros that fill the last block of `size` bytes of content."""
    return _PADDING[-size % header.BLOCK]


def _block(entry: Entry, name: bytes, link: bytes) -> bytes:
    _, kind, mode, uid, gid, mtime, size, _, device, _ = entry
    field = header.field
    if kind is Kind.CHAR or kind is Kind.BLOCK:
        major, minor = field(device[0], 8), field(device[1], 8)
    else:
        major = minor = b""
    return header.sealed(
        header.LAYOUT.pack(
            name[:100],
            field(mode, 8),
            field(uid, 8),
            field(gid, 8),
            field(size, 12),
            field(mtime // _NANO, 12),
            b"        ",
            _TYPES[kind],
            link[:100],
            header.GNU_MAGIC,
            b"",
            b"",
            major,
            minor,
            b"",
        )
    )


def _long(kind: bytes, text: bytes) -> bytes:
    """Return the extension that carries a name or link target of more than 100 bytes; nothing for a shorter one."""
    if len(text) <= 100:
        return b""
    return _extension(kind, b"././@LongLink", text + b"\0")


def _extension(kind: bytes, name: bytes, body: bytes) -> bytes:
    parts: Sequence[bytes] = (
        header.sealed(
            header.LAYOUT.pack(
                name[:100],
                header.field(0o644, 8),
                header.field(0, 8),
                header.field(0, 8),
                header.field(len(body), 12),
                header.field(0, 12),
                b"        ",
                kind,
                b"",
                header.USTAR_MAGIC if kind == b"x" else header.GNU_MAGIC,
                *[b""] * 5,
            )
        ),
        body,
        file_padding(len(body)),
    )
    return b"".join(parts)
