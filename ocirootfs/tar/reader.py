"""Reading a tar stream, strictly.

The theory of operation. A stream arrives as chunks of any length (a megabyte from the decompressor). `_Window` is a
position in it: it hands out blocks of 512 bytes and slices of content without copying, and remembers how far it is.
`read` is a loop over headers. Extension headers (PAX `x`, GNU `L` and `K`) are gathered until the entry they describe
arrives; then the entry goes out with its content, and whatever of that the caller left is skipped. After two zero
blocks the rest of the stream is drained, because it counts for the digest of the blob, which is what proves a layer
whole: its end blocks prove nothing (many writers leave them out).

Most entries are plain files and directories, whose headers differ in name, size, time and checksum, and in nothing
else. `_plain` reads those: what follows the checksum is looked up as a whole among the few forms that an archive has of
it. Whatever is not quite ordinary it leaves to the long way, which serves all kinds and says what is wrong.

Nothing is guessed. `tarfile` ends silently at a bad checksum or a cut header and takes any file for a tar at all
(python/cpython#120740); other tools go on at the next header that looks right. What they disagree about is refused.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from ocirootfs.entry import Body, Entry, Kind, Piece
from ocirootfs.errors import LayerError, TruncatedError, printable
from ocirootfs.limits import USUAL, Limits, raising
from ocirootfs.tar import header, pax, sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_EXTENSIONS = 8  # extension headers before one entry; libarchive, GNU tar and Go write at most three
_MAX_ID = 2**32 - 2  # the kernel reads 2**32 - 1 as "leave as it is" (chown(2))
_MAX_DEVICE = (2**12 - 1, 2**20 - 1)  # the kernel's dev_t: 12 bits major, 20 bits minor
_MAX_SIZE = 2**63
_NO_DEVICE = (0, 0)
_STAR = b"tar\0"  # how the headers of J. Schilling's star end
_NANO = 10**9
_COPIED = 1 << 13  # bytes of a file up to which a copy takes less time than a memoryview

_FILE, _DIRECTORY = Kind.FILE, Kind.DIRECTORY  # to look up an enumeration's member takes as long as half a call
_DIRECTORY_TYPE = ord("5")
_EXTENSION_TYPES = frozenset([b"x", b"g", b"L", b"K"])
_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,  # contiguous: a file like any other
    b"S": Kind.FILE,  # GNU sparse
    b"1": Kind.HARDLINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHAR,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}


class _Window:
    """A position in a stream of chunks."""

    def __init__(self, chunks: Iterable[bytes], seek: Callable[[int], None] | None = None) -> None:
        self._chunks = iter(chunks)
        self._seek = seek
        self._chunk = b""
        self._at = 0
        self._before = 0  # bytes in the chunks before this one
        self.started: int | None = None
        """Where the content of the entry at hand begins, in the stream; None if it is not there as it is (sparse)."""
        self.left = 0
        """Bytes of it that are still to come."""

    @property
    def offset(self) -> int:
        """Bytes of the stream before the position."""
        return self._before + self._at

    def _next(self) -> bool:
        """Move on to the next chunk that holds anything; False at the end of the stream."""
        for chunk in self._chunks:
            if chunk:
                self._before += len(self._chunk)
                self._chunk, self._at = chunk, 0
                return True
        self._before += len(self._chunk)
        self._chunk, self._at = b"", 0
        return False

    def block(self) -> bytes:
        """Take 512 bytes; fewer only at the end of the stream."""
        at = self._at
        taken = self._chunk[at : at + header.BLOCK]
        self._at = at + len(taken)
        while len(taken) < header.BLOCK and self._next():
            self._at = header.BLOCK - len(taken)
            taken += self._chunk[: self._at]
            self._at = min(self._at, len(self._chunk))
        return taken

    def whole_block(self) -> bytes:
        """Take 512 bytes of an entry; TruncatedError if the stream has fewer."""
        taken = self.block()
        if len(taken) < header.BLOCK:
            raise TruncatedError(f"the tar stream ends at byte {self.offset}, inside an entry")
        return taken

    def content(self, size: int) -> Body:
        """Take `size` bytes, as one slice when the chunk at hand has them all."""
        at = self._at
        self.started = self._before + at
        if not size:
            return ()
        end = at + size
        if end <= len(self._chunk):
            self._at = min(end + header.padding(self._before + end), len(self._chunk))
            return (self._chunk[at:end] if size <= _COPIED else memoryview(self._chunk)[at:end],)
        self.left = size
        return self.pieces()

    def pieces(self) -> Iterator[Piece]:
        """Take the bytes that are left of the content, slice by slice; TruncatedError if the stream has fewer."""
        while self.left:
            if self._at == len(self._chunk) and not self._next():
                raise TruncatedError(f"the tar stream ends at byte {self.offset}, inside an entry")
            at = self._at
            piece = memoryview(self._chunk)[at : at + self.left]
            self._at = at + len(piece)
            self.left -= len(piece)
            yield piece

    def leave(self) -> None:
        """Pass over what is left of the content, and over what fills its last block."""
        at = self._at
        if not self.left and not (self._before + at) % header.BLOCK:
            return
        size = self.left + header.padding(self.offset + self.left)
        self.left = 0
        if self._at + size <= len(self._chunk):
            self._at += size
            return
        if self._seek and self._at + size > len(self._chunk):
            self._jump(size, self._seek)
            return
        self.left = size
        for _ in self.pieces():
            pass

    def _jump(self, size: int, seek: Callable[[int], None]) -> None:
        """Go on `size` bytes further, not reading what is between."""
        target = self.offset + size
        seek(target)
        self._before, self._chunk, self._at = target, b"", 0

    def drain(self) -> None:
        """Read the stream to its end."""
        while self._next():
            self._at = len(self._chunk)


def read(
    chunks: Iterable[bytes], *, end_required: bool = False, limits: Limits = USUAL, most: int | None = None
) -> Iterator[tuple[Entry, Body]]:
    """Yield each entry of a tar stream with its content, in order.

    Names are the effective ones, extensions applied, otherwise as spelled; numbers are checked, times exact, sparse
    files expanded. The stream is read to its end. Raises LayerError for what is malformed, ambiguous or over one of the
    `limits`, TruncatedError for a stream that ends inside an entry, and, with `end_required`, for one without the two
    zero blocks that end an archive. `most` entries are left of those that the limits allow, by default all.
    """
    window = _Window(chunks)
    left = most = limits.entries if most is None else most
    while True:
        start = window.offset
        try:
            block = window.block()
            member: tuple[Entry, Body] | None
            if plain := _plain(block):
                member = plain, window.content(plain.size) if plain.size else ()
            else:
                block = _header(window, block)
                if len(block) < header.BLOCK or block == header.ZERO_BLOCK:
                    break
                member = _member(window, block, limits)
        except LayerError as error:
            raise LayerError(error.message, offset=start, path=error.path, hint=error.hint) from None
        left -= 1
        if left < 0:
            raise _too_many(most, limits, start)
        if member:
            yield member
        window.leave()
    if end_required and not block:
        raise TruncatedError(f"the tar stream ends at byte {start} without its end marker")
    window.drain()


def index(
    chunks: Iterable[bytes], seek: Callable[[int], None], *, limits: Limits = USUAL
) -> Iterator[tuple[Entry, int | None]]:
    """Yield each entry of a tar file with the offset of its content, which is not read: `seek` moves `chunks` on.

    The offset is None for a sparse file, whose content is nowhere as it is.

    Raises what `read` raises, for a file without its end marker too.
    """
    window = _Window(chunks, seek)
    left = limits.entries
    while len(block := _header(window, window.block())) == header.BLOCK and block != header.ZERO_BLOCK:
        member = _member(window, block, limits)
        left -= 1
        if left < 0:
            raise _too_many(limits.entries, limits)
        if member:
            yield member[0], window.started if member[0].kind is Kind.FILE else window.offset
        window.leave()
    if not block:
        raise TruncatedError(f"the tar file ends at byte {window.offset} without its end marker")


def _too_many(most: int, limits: Limits, offset: int | None = None) -> LayerError:
    text = f"more than {most} entries"
    if most != limits.entries:
        text += f", and {limits.entries} are the most of an image"
    return LayerError(text, offset=offset, hint=raising("entries"))


def _plain(block: bytes) -> Entry | None:
    """Read the header of a file or directory without extensions and prefix, as nearly all are; None for all others."""
    if len(block) < header.BLOCK or block[156] not in b"05":
        return None
    total = _back(block[156:])
    # Of at most 148 bytes Adler-32's low half is one plus their sum: `header.adler32`.
    if total is None or (header.adler32(block[:148]) & 0xFFFF) - 1 + total != _checksum(block[148:156]):
        return None
    size, seconds = block[124:135], block[136:147]
    if block[135] or block[147] or not (size.isdigit() and seconds.isdigit()):
        return None
    try:
        mode, uid, gid = _owner(block[100:124])
        length, mtime = int(size, 8), int(seconds, 8) * _NANO
    except (LayerError, ValueError):  # ValueError: an 8 or a 9
        return None
    if not (0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID):
        return None
    path = block[:100].partition(b"\0")[0]
    if block[156] == _DIRECTORY_TYPE:
        return Entry(path, _DIRECTORY, mode, uid, gid, mtime)
    return Entry(path, _FILE, mode, uid, gid, mtime, length)


@lru_cache(maxsize=64)
def _back(back: bytes) -> int | None:
    """Add up what follows the checksum, and eight spaces in its place; None if there is a prefix."""
    return None if back[345 - 156] else sum(back) + header.BLANK_SUM


@lru_cache(maxsize=8192)
def _checksum(field: bytes) -> int:
    """Read a checksum as nearly all write it; -1 for any other."""
    digits = field[:6]
    return int(digits, 8) if not digits.strip(b"01234567") and field[6:] in header.CHECKSUM_ENDS else -1


def _header(window: _Window, block: bytes) -> bytes:
    """Check the block that was taken: nothing at the end of the stream, a zero block at the end marker."""
    if len(block) == header.BLOCK and header.checksum_holds(block):
        return block
    if not block:
        return block
    if len(block) < header.BLOCK:
        raise TruncatedError(f"the tar stream ends at byte {window.offset}, inside a header")
    if block == header.ZERO_BLOCK:
        second = window.block()
        if 0 < len(second) < header.BLOCK:
            raise TruncatedError(f"the tar stream ends at byte {window.offset}, inside its end marker")
        if second not in (b"", header.ZERO_BLOCK):
            raise LayerError("a lone zero block, then more")  # tools end here, or go on
        return second
    raise LayerError("no tar header: its checksum is wrong")


def _member(window: _Window, block: bytes, limits: Limits) -> tuple[Entry, Body] | None:
    """Read one entry from its first header block on; None for what is no file of the tree."""
    kind_field = block[156:157]
    extension = _NONE
    if kind_field == b"g":  # it would rename every entry after it; container hosts ignore its records
        _extension_body(window, block, limits)
        return None
    if kind_field in _EXTENSION_TYPES:
        extension = _Extension(limits)
        while extension.add(window, block):
            block = _header(window, window.block())
            if len(block) < header.BLOCK or block == header.ZERO_BLOCK:
                raise TruncatedError(f"the tar stream ends at byte {window.offset}, after an extension header")
        kind_field = block[156:157]
    if kind_field == b"V":  # GNU's volume label: a name and nothing else
        return None
    entry = _entry(block, extension)
    if entry.kind is not Kind.FILE:
        return entry, ()
    if kind_field == b"S" or (extension.pax and any(key.startswith(pax.SPARSE) for key in extension.pax)):
        return _sparse(window, block, entry, extension.pax, limits.sparse)
    return entry, window.content(entry.size)


class _Extension:
    """What the extension headers before an entry say of it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.pax: dict[bytes, bytes] = {}
        self.name: bytes | None = None  # GNU L
        self.link: bytes | None = None  # GNU K
        self._count = 0
        self._has_pax = False

    def add(self, window: _Window, block: bytes) -> bool:
        """Take in `block` with its body if it is an extension header; False if it is the entry itself."""
        kind = block[156:157]
        if kind not in _EXTENSION_TYPES:
            return False
        self._count += 1
        if self._count > _EXTENSIONS:
            raise LayerError("too many extension headers before one entry")
        body = _extension_body(window, block, self._limits)
        if kind == b"x":
            if self._has_pax:  # hosts take the second, libarchive merges them
                raise LayerError("two PAX headers before one entry")
            self._has_pax = True
            self.pax = pax.records(body)
        elif kind == b"L":
            self.name = _long_name(body)
        elif kind == b"K":
            self.link = _long_name(body)
        else:  # hosts forget what came before it, GNU tar and libarchive do not
            raise LayerError("a global header between an entry and its extension headers")
        if (self.name is not None and b"path" in self.pax) or (self.link is not None and b"linkpath" in self.pax):
            raise LayerError("two extension headers name one entry")  # tools take the one or the other
        if len(body) > self._limits.path and max(map(len, self._names())) > self._limits.path:
            raise LayerError(f"a name of more than {self._limits.path} bytes", hint=raising("path"))
        return True

    def _names(self) -> Iterator[bytes]:
        yield from (self.name or b"", self.link or b"")
        yield from (self.pax.get(key, b"") for key in (b"path", b"linkpath", b"GNU.sparse.name"))


_NONE = _Extension(USUAL)


def _extension_body(window: _Window, block: bytes, limits: Limits) -> bytes:
    """Take the body of an extension header."""
    size = header.number(block[124:136])
    if not 0 <= size <= limits.extension:
        raise LayerError(
            f"an extension header of {size} bytes is over the limit of {limits.extension}", hint=raising("extension")
        )
    body = b"".join(window.content(size))
    window.leave()
    return body


def _long_name(body: bytes) -> bytes:
    """Read the body of a GNU long name: what hosts read an empty one as, other tools do not."""
    name = body.split(b"\0", 1)[0]
    if not name:
        raise LayerError("an empty long name")
    return name


def _entry(block: bytes, extension: _Extension) -> Entry:
    """Read the header of a file, link, directory or node (header.LAYOUT has the offsets)."""
    path = extension.name if extension.name is not None else _path(block)
    try:
        kind = _kind(block[156:157], extension.pax.get(b"path") or path)
        mode, uid, gid = _owner(block[100:124])
        size, link, device = 0, b"", _NO_DEVICE
        if kind is Kind.FILE:
            size = _size(block[124:136])
        elif kind is Kind.SYMLINK or kind is Kind.HARDLINK:
            link = extension.link if extension.link is not None else block[157:257].partition(b"\0")[0]
        elif kind is Kind.CHAR or kind is Kind.BLOCK:
            device = header.number(block[329:337]), header.number(block[337:345])
        entry = Entry(path, kind, mode, uid, gid, _time(block[136:148]), size, link, device)
        if extension.pax:
            entry = _overridden(entry, extension.pax)
            _check(entry)
        elif not (0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID and 0 <= size < _MAX_SIZE and device is _NO_DEVICE):
            _check(entry)  # says what is wrong, if anything is
    except LayerError as error:
        raise LayerError(error.message, path=path) from None
    return entry


def _kind(type_: bytes, path: bytes) -> Kind:
    if type_ == b"\0" and path[-1:] == b"/":  # V7 has no type for directories
        return Kind.DIRECTORY
    try:
        return _KINDS[type_]
    except KeyError:
        raise LayerError(f"unknown entry type '{printable(type_)}'") from None


def _path(block: bytes) -> bytes:
    name = block[:100].partition(b"\0")[0]
    if block[345] and block[257:262] == b"ustar" and _is_prefix(block[257:265], block[345:500]):
        end = 476 if block[508:] == _STAR else 500  # star keeps times behind its prefix
        return block[345:end].partition(b"\0")[0] + b"/" + name
    return name


@lru_cache(maxsize=1024)
def _owner(fields: bytes) -> tuple[int, int, int]:
    """Read mode, uid and gid; an archive has few combinations of them."""
    return header.number(fields[:8]) & 0o7777, header.number(fields[8:16]), header.number(fields[16:24])


def _size(field: bytes) -> int:
    """Read the size of a file: nearly always eleven octal digits and a NUL."""
    return int(field[:11], 8) if field.strip(b"01234567") == b"\0" == field[11:] else header.number(field)


@lru_cache(maxsize=1024)
def _time(field: bytes) -> int:
    """Read a time, in nanoseconds."""
    return header.number(field) * _NANO


def _is_prefix(magic: bytes, prefix: bytes) -> bool:
    """Tell whether the field at 345 is a ustar prefix.

    Under the GNU magic, incremental archives keep access and change times there, which are octal or base-256; Go
    before 1.8 wrote prefixes under that magic all the same (golang/go#12594). So, as Go reads it: a prefix, unless
    both fields are times.
    """
    if magic != header.GNU_MAGIC:
        return magic[:6] == header.USTAR_MAGIC[:6]  # or it is V7, which has none
    return any(each[0] not in (0x80, 0xFF) and each.strip(b"01234567\0 ") for each in (prefix[:12], prefix[12:24]))


def _overridden(entry: Entry, records: dict[bytes, bytes]) -> Entry:
    """Apply the records of a PAX header; an empty value restores the plain header's (POSIX pax)."""
    changes: dict[str, object] = {}
    for key, value in records.items():
        if value and key in _OVERRIDES:
            field, parse = _OVERRIDES[key]
            changes[field] = parse(value)
    if records.get(b"GNU.sparse.name"):
        changes["path"] = records[b"GNU.sparse.name"]
    if entry.kind is not Kind.FILE:
        changes.pop("size", None)
    if entry.kind is not Kind.SYMLINK and entry.kind is not Kind.HARDLINK:
        changes.pop("link", None)
    names = sorted(key for key in records if key.startswith(pax.XATTR))
    xattrs = tuple((key[len(pax.XATTR) :], records[key]) for key in names)
    return entry._replace(xattrs=xattrs, **changes)  # type: ignore[arg-type]  # each parser fits its field


_OVERRIDES: dict[bytes, tuple[str, Callable[[bytes], object]]] = {
    b"path": ("path", bytes),
    b"linkpath": ("link", bytes),
    b"size": ("size", pax.integer),
    b"uid": ("uid", pax.integer),
    b"gid": ("gid", pax.integer),
    b"mtime": ("mtime", pax.nanoseconds),
}


def _check(entry: Entry) -> None:
    """Refuse numbers that no kernel takes."""
    if not (0 <= entry.uid <= _MAX_ID and 0 <= entry.gid <= _MAX_ID):
        raise LayerError(f"owner {entry.uid}:{entry.gid} is out of range")
    if not 0 <= entry.size < _MAX_SIZE:
        raise LayerError(f"a size of {entry.size} bytes is out of range")
    major, minor = entry.device
    if not (0 <= major <= _MAX_DEVICE[0] and 0 <= minor <= _MAX_DEVICE[1]):
        raise LayerError(f"device number {major}:{minor} is out of range")


def _sparse(window: _Window, block: bytes, entry: Entry, records: dict[bytes, bytes], most: int) -> tuple[Entry, Body]:
    """Expand a sparse entry, to `most` bytes; its header's size counts the stored data."""
    taken = 0
    if block[156:157] == b"S":
        found = sparse.from_gnu_header(block, entry.size, window.whole_block, most)
    else:
        found, taken = sparse.from_pax(records, entry.size, window.whole_block, most)
    window.started, window.left = None, entry.size - taken
    return entry._replace(size=found.size), sparse.Expanded(found, window.pieces())
