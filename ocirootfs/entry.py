"""One entry of a file system tree, as a layer lists it and as a flattened image holds it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from ocirootfs.errors import LayerError

Piece: TypeAlias = bytes | memoryview
Body: TypeAlias = Iterable[Piece]
"""A regular file's content, in order; whoever gets it reads it before asking for the next entry, or loses it."""


class Kind(enum.Enum):
    """What an entry is.

    >>> ocirootfs.Kind("symlink")
    <Kind.SYMLINK: 'symlink'>
    """

    FILE = "file"
    HARDLINK = "hard link"
    SYMLINK = "symlink"
    CHAR = "character device"
    BLOCK = "block device"
    DIRECTORY = "directory"
    FIFO = "fifo"

    __hash__ = object.__hash__  # an enumeration's own is a call in Python, and this is a key for each header written


class Entry(NamedTuple):
    """Name, type and attributes. A tuple, because an image has a hundred thousand of them.

    From a tar reader `path` is the name as the archive spells it. From the flattener it is canonical: components
    joined by single slashes, none of them empty, `.` or `..`; the root is `b""`. `link` is a symlink's target,
    verbatim, or the canonical path of the entry that a hard link names once more. Names are bytes, of no encoding.
    Source: POSIX, pax interchange format; OCI image-spec, layer.md ("File Attributes").

    >>> entry = ocirootfs.Entry(b"etc/motd", ocirootfs.Kind.FILE, 0o644, uid=0, gid=0, mtime=1_700_000_000 * 10**9)
    >>> entry.path.decode(), oct(entry.mode), entry.mtime // 10**9
    ('etc/motd', '0o644', 1700000000)
    """

    path: bytes
    kind: Kind
    mode: int
    """Permission bits and setuid, setgid, sticky: 0 to 0o7777."""
    uid: int
    gid: int
    mtime: int
    """Nanoseconds since 1970, negative before; exact, where a float is not."""
    size: int = 0
    """Bytes of content; 0 for everything but files."""
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    """Major and minor number of a device node."""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    """Extended attributes, name and value, in order of name."""


def canonical(name: bytes) -> bytes:
    """Fold a name to its canonical path: `./a//b/../c/` is `a/c`, the root is `b""`.

    A leading slash is dropped, as every extractor does. Raises LayerError for a name that climbs above the root at
    any point, even if it comes back, and for one with a NUL.
    """
    plain = name[:-1] if name[-1:] == b"/" else name
    # Nearly every name is clean, and these tests are cheap; "/." also hits names like ".profile".
    if plain and b"//" not in name and b"/." not in plain and plain[0] not in b"./" and b"\0" not in plain:
        return plain
    return b"/".join(folded(name, clamp=False))


def folded(name: bytes, *, clamp: bool) -> list[bytes]:
    """Split a name into components, folding empty ones, `.` and `..`.

    `..` at the root stays at the root with `clamp` (how a kernel resolves it) and is a LayerError without.
    """
    if b"\0" in name:
        raise LayerError("the name holds a NUL", path=name)
    components: list[bytes] = []
    for component in name.split(b"/"):
        if component in (b"", b"."):
            continue
        if component != b"..":
            components.append(component)
        elif components:
            components.pop()
        elif not clamp:
            raise LayerError("the name climbs out of the image", path=name)
    return components
