"""Writing tar headers: the Concourse dialect and the faithful one.

`gnu_header` writes what GNU tar and busybox tar both read the same way: GNU magic, base-256 for big numbers, `L` and
`K` records for long names, names as raw bytes, empty user and group names (a name there beats the number, looked up in
the *extracting* machine's passwd). `pax_header` is the same with a PAX header in front where the plain one cannot hold
the truth: extended attributes and fractions of a second.

Content is not written here: it passes through as slices of the buffer that it was read into.
"""

from __future__ import annotations

from functools import lru_cache

from ocirootfs.entry import Entry, Kind
from ocirootfs.tar import header, pax

END = bytes(2 * header.BLOCK)
"""Two zero blocks: the end of an archive."""

_PADDING = tuple(bytes(count) for count in range(header.BLOCK))
_NANO = 10**9
_OCTAL = 8**11  # what eleven digits hold
_BACK = header.BLOCK - 156  # bytes after the checksum
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
    long_fields = [(key, value) for key, value in ((b"path", name), (b"linkpath", entry.link)) if len(value) > 100]
    if not all(_is_utf8(value) for _, value in long_fields):  # bsdtar fails at one unless it is told
        long_fields.insert(0, (b"hdrcharset", b"BINARY"))
    records = b"".join(pax.record(key, value) for key, value in long_fields) + records
    return _extension(b"x", b"PaxHeaders/" + name[-80:].lstrip(b"/"), records) + _block(entry, name, entry.link)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def file_padding(size: int) -> bytes:
    """Return the zeros that fill the last block of `size` bytes of content."""
    return _PADDING[-size % header.BLOCK]


def _block(entry: Entry, name: bytes, link: bytes) -> bytes:
    """Put the header together from parts that many entries share; the checksum is the sum of theirs."""
    _, kind, mode, uid, gid, mtime, size, _, device, _ = entry
    seconds = mtime // _NANO
    if 0 <= size < _OCTAL and 0 <= seconds < _OCTAL:
        numbers = b"%011o\0%011o\0" % (size, seconds)
    else:
        numbers = header.field(size, 12) + header.field(seconds, 12)
    front = name[:100].ljust(100, b"\0") + _owner(mode, uid, gid) + numbers
    back, total = _back(kind, link[:100], device)
    # Of at most 148 bytes Adler-32's low half is one plus their sum: `header.adler32`.
    total += (header.adler32(front) & 0xFFFF) - 1
    return front + b"%06o\0 " % total + back


@lru_cache(maxsize=1024)
def _owner(mode: int, uid: int, gid: int) -> bytes:
    return header.field(mode, 8) + header.field(uid, 8) + header.field(gid, 8)


@lru_cache(maxsize=64)
def _back(kind: Kind, link: bytes, device: tuple[int, int]) -> tuple[bytes, int]:
    """Return what follows the checksum, and what it and the eight spaces in place of the checksum add up to."""
    numbers = b""
    if kind is Kind.CHAR or kind is Kind.BLOCK:
        numbers = header.field(device[0], 8) + header.field(device[1], 8)
    owners = bytes(64)  # the names of user and group
    back = (_TYPES[kind] + link.ljust(100, b"\0") + header.GNU_MAGIC + owners + numbers).ljust(_BACK, b"\0")
    return back, sum(back) + header.BLANK_SUM


def _long(kind: bytes, text: bytes) -> bytes:
    """Return the extension that carries a name or link target of more than 100 bytes; nothing for a shorter one."""
    if len(text) <= 100:
        return b""
    return _extension(kind, b"././@LongLink", text + b"\0")


def _extension(kind: bytes, name: bytes, body: bytes) -> bytes:
    return b"".join((_extension_header(kind, name, len(body)), body, file_padding(len(body))))


@lru_cache(maxsize=256)
def _extension_header(kind: bytes, name: bytes, size: int) -> bytes:
    return header.sealed(
        header.LAYOUT.pack(
            name[:100],
            header.field(0o644, 8),
            header.field(0, 8),
            header.field(0, 8),
            header.field(size, 12),
            header.field(0, 12),
            b"        ",
            kind,
            b"",
            header.USTAR_MAGIC if kind == b"x" else header.GNU_MAGIC,
            *[b""] * 5,
        )
    )
